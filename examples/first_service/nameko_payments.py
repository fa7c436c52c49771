"""The other side, an ordinary Nameko service: takes a payment every two seconds and hears what became of the order.

Runs in an environment with Nameko: nameko run nameko_payments --broker amqp://guest:guest@localhost:5672
"""

from nameko.events import EventDispatcher, event_handler
from nameko.timer import timer


class Payments:
    name = "payments"

    dispatch = EventDispatcher()
    orders = 0

    @timer(interval=2)
    def take_payment(self):
        Payments.orders += 1
        self.dispatch("payment_received", {"order": Payments.orders})

    @event_handler("shipping", "order_shipped")
    def shipped(self, payload):
        print("Nameko hears that order", payload["order"], "was shipped", flush=True)
