"""A shop whose payments fail in three ways: for a while, for good, and for good until somebody does something."""

import itertools
import os

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import Logger
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route

CARDS = os.environ.get("CARDS", "visa").split(",")
NUMBERS = itertools.count(1)


class CardRefused(Exception):
    """Trying again would not help."""


class Payments:
    name = "payments"

    retry = BackOffData()
    log = Logger()

    @route(
        EventListener("shop", "order_placed"),
        backoff=AsyncBackOff(max_retries=2, interval=1_000, exception_list=[ConnectionError]),
        dead_letter=True,
    )
    def charge(self, order):
        if order["card"] not in CARDS:
            raise CardRefused(f"no contract for {order['card']}; there is one for {', '.join(CARDS)}")
        if order["number"] % 2 == 0 and self.retry.retry_count == 0:
            raise ConnectionError("the bank does not answer")
        self.log.info("order %s charged at attempt %s", order["number"], self.retry.retry_count + 1)


class Shop:
    name = "shop"

    dispatch = Producer()

    @TimeEntrypoint(interval=1)
    def place_order(self):
        number = next(NUMBERS)
        card = "mastercard" if number % 3 == 0 else "visa"
        self.dispatch("order_placed", {"number": number, "card": card})
