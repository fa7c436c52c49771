"""Ships what has been paid."""

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import Logger
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route


class Shipping:
    name = "shipping"

    dispatch = Producer()
    retry = BackOffData()
    log = Logger()

    @route(
        EventListener("payments", "payment_received"),
        backoff=AsyncBackOff(max_retries=3, interval=2_000, exception_list=[ConnectionError]),
        on_failure="not_shipped",
    )
    def ship(self, payload):
        order = payload["order"]
        if order % 3 == 0 and self.retry.retry_count == 0:
            raise ConnectionError("the parcel service does not answer")
        self.dispatch("order_shipped", {"order": order})
        self.log.info("order %s shipped at attempt %s", order, self.retry.retry_count + 1)

    def not_shipped(self, payload, exception):
        self.dispatch("order_not_shipped", {"order": payload["order"], "reason": str(exception)})

    @TimeEntrypoint(interval=10)
    def report(self):
        self.log.info("still shipping")
