"""A shop that is looked at while it works; worker processes import it."""

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.exceptions import RemoteError
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route

__all__ = ["Declined", "Payments", "Shop"]


class Declined(Exception):
    """A card was declined."""


class Shop:
    """Of ten sales one fails once, one for good, and of one the payment fails, which the shop bears."""

    name = "shop"
    send = Producer()
    payments = RPCProxy("payments")
    retry = BackOffData()

    @route(EventListener("web", "sold"), backoff=AsyncBackOff(max_retries=1, interval=10), dead_letter=True)
    def sold(self, number):
        """Sell."""
        if number % 10 == 1 or (number % 10 == 3 and not self.retry.retry_count):
            raise Declined("<script>document.title = 'owned'</script> password=hunter2")
        self.send("receipt", number)
        try:
            self.payments.charge(number)
        except RemoteError:
            pass


class Payments:
    """Charges, but not every card."""

    name = "payments"

    @RPCListener()
    def charge(self, number):
        """Charge."""
        if number % 10 == 2:
            raise Declined("no")
        return number
