"""Charges customers when it is called."""

from errors import NoFunds

from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.dependencies import Logger

PRICES = {"book": 12, "pen": 2, "yacht": 1_000_000}
LIMIT = 500


class Payments:
    name = "payments"

    log = Logger()

    @RPCListener()
    def price(self, item):
        """The price of one item."""
        return PRICES[item]

    @RPCListener(expected_exceptions=NoFunds, sensitive_arguments="card.number")
    def charge(self, customer, amount, card):
        """Charge a card; the id of the charge."""
        if amount > LIMIT:
            raise NoFunds(f"{customer} cannot pay {amount}")
        self.log.info("customer %s pays %s", customer, amount)
        return f"charge-{customer}-{amount}"
