"""Takes `create` and `cancel` over from a Nameko service called orders, one at a time: see README.md."""

from micro_framework.amqp.dependencies import LegacyService
from micro_framework.amqp.entrypoints import RPCListener


class Orders:
    name = "orders"
    legacy = LegacyService()  # goes at the end

    @RPCListener()
    def create(self, customer: int) -> str:
        return f"the new service made an order for {customer}"

    @RPCListener()
    def cancel(self, order: int) -> str:
        return f"the new service cancelled {order}"
