"""The Nameko service that is taken over; runs in an environment with Nameko."""

from nameko.rpc import rpc


class Orders:
    name = "orders"

    @rpc
    def create(self, customer):
        return f"the old service made an order for {customer}"

    @rpc
    def cancel(self, order):
        return f"the old service cancelled {order}"
