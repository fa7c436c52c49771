"""A shop that is worth looking at: orders come, some cards are declined, some for good."""

import random
import time

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import route


class CardDeclined(Exception):
    pass


class Orders:
    name = "orders"

    send = Producer()

    @TimeEntrypoint(interval=0.1)
    def place(self):
        self.send("placed", {"order": random.randrange(1000)})


class Payments:
    name = "payments"

    stock = RPCProxy("stock")

    @route(EventListener("orders", "placed"), backoff=AsyncBackOff(max_retries=2, interval=1000), dead_letter=True)
    def charge(self, payload):
        time.sleep(random.uniform(0.01, 0.1))
        if payload["order"] % 10 == 0 or random.random() < 0.1:
            raise CardDeclined(f"the card of order {payload['order']} was declined")
        self.stock.take(payload["order"])


class Stock:
    name = "stock"

    @RPCListener()
    def take(self, order):
        return order
