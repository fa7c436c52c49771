"""Creates orders when it is called, and calls the payment service for that."""

from errors import NoFunds

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import RPCListener


class Orders:
    name = "orders"

    payments = RPCProxy("payments", timeout=10)
    dispatch = Producer()

    @RPCListener(sensitive_arguments="card.number")
    def create(self, customer, items, card):
        """Create an order for some items, and charge the customer for it."""
        prices = [self.payments.price.call_async(item) for item in items]  # all at once
        amount = sum(price.result() for price in prices)
        try:
            charge = self.payments.charge.with_timeout(5)(customer, amount, card=card)
        except NoFunds as error:
            return {"refused": str(error)}
        self.dispatch("order_created", {"customer": customer, "amount": amount})
        return {"amount": amount, "charge": charge}
