"""The two services of the demo: orders are placed, paid for, and shipped or cancelled."""

import uuid
from dataclasses import replace
from typing import Any

from micro_framework.amqp.dependencies import Dispatch, Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.cli.demo.ledger import Ledger
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.wire.naming import Queue

__all__ = [
    "ORDER_INTERVAL",
    "QUEUE_LEASE",
    "RETRIES",
    "RETRY_AFTER",
    "CardExpired",
    "PassingListener",
    "Send",
    "Sender",
    "TerminalBusy",
    "open_shop",
]

ORDER_INTERVAL = 0.05
"""Seconds between orders."""
RETRIES, RETRY_AFTER = 3, 700
"""How often a payment is tried again, and how many milliseconds later."""
BUSY_EVERY, EXPIRED_EVERY = 8, 40
"""Of every so many orders one meets a busy card terminal, and one has a card that no retry makes valid."""


QUEUE_LEASE = 60_000
"""Milliseconds that a queue outlives its consumer on a real broker: longer than any reconnect, and then it is gone."""


class PassingListener(EventListener):
    """An `EventListener` whose queue the broker removes a while after its consumer is gone, however that went."""

    def queue(self) -> Queue:
        """Nameko's queue, with a lease."""
        return replace(super().queue(), arguments={"x-expires": QUEUE_LEASE})


class TerminalBusy(Exception):
    """The card terminal is busy; trying again later helps."""


class CardExpired(Exception):
    """The card has expired; trying again does not help, which nobody knows in advance."""


class Send:
    """Dispatches an event about an order and has it noted in the ledger."""

    def __init__(self, dispatch: Dispatch, ledger: Ledger) -> None:
        self.dispatch = dispatch
        self.ledger = ledger

    def __call__(self, event: str, order: int, **details: Any) -> None:
        """Announce, then dispatch; a dispatch that fails is noted and raised."""
        name = f"{event}-{order}"
        self.ledger.announce(name)
        try:
            self.dispatch(event, {"id": name, "order": order, **details})
        except BaseException:
            self.ledger.not_confirmed(name)
            raise


class Sender(Dependency[Send]):
    """A dependency that holds another one: a `Producer` whose events the ledger hears of.

    As it is asked for right before each call, it also notes the arrival of the message that the call handles.
    """

    producer = Producer()

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def get_dependency(self, worker: RunningCall) -> Send:
        """A `Send` for this call."""
        if worker.call.args:
            self.ledger.arrive(worker.call.args[0]["id"])
        return Send(self.producer.get_dependency(worker), self.ledger)


def open_shop(
    ledger: Ledger, listener: type[EventListener] = EventListener, run: str | None = None
) -> tuple[type, type]:
    """The two service classes, with names of their own so that two demos on one broker do not share queues.

    Args:
        ledger: Where messages are noted.
        listener: What drives the methods: `PassingListener` leaves no queues behind.
        run: What tells the names apart; None: something random.
    """
    run = run or uuid.uuid4().hex[:6]
    orders, payments = f"demo-orders-{run}", f"demo-payments-{run}"

    class Orders:
        name = orders
        send = Sender(ledger)

        @TimeEntrypoint(interval=ORDER_INTERVAL)
        def place(self) -> int | None:
            order = ledger.next_order()
            if order is not None:
                self.send("order_placed", order, euros=10 + order % 90)
            return order

        @listener(payments, "payment_taken")
        def ship(self, payload: dict[str, Any]) -> None:
            if payload["tries"] > 1:
                ledger.note(f"order {payload['order']} shipped after {payload['tries']} tries", "good")

        @listener(payments, "payment_declined")
        def cancel(self, payload: dict[str, Any]) -> None:
            ledger.note(f"order {payload['order']} cancelled: {payload['reason']}", "bad")

    class Payments:
        name = payments
        send = Sender(ledger)
        retry = BackOffData()

        @route(
            listener(orders, "order_placed"),
            backoff=AsyncBackOff(max_retries=RETRIES, interval=RETRY_AFTER),
            on_failure="decline",
        )
        def charge(self, payload: dict[str, Any]) -> None:
            order, tries = payload["order"], self.retry.retry_count + 1
            try:
                use_card(order, tries)
            except Exception as error:
                ledger.note(f"order {order}: {type(error).__name__} on try {tries} of {RETRIES + 1}", "retry")
                raise
            self.send("payment_taken", order, euros=payload["euros"], tries=tries)

        def decline(self, payload: dict[str, Any], exception: BaseException) -> None:
            self.send("payment_declined", payload["order"], reason=str(exception))

    return Orders, Payments


def use_card(order: int, tries: int) -> None:
    """Fails now and then, and for some orders always; which, is fixed, so that every run is the same.

    Args:
        order: The order's number.
        tries: 1 on the first attempt.
    """
    if order % EXPIRED_EVERY == 0:
        raise CardExpired("the card has expired")
    if order % BUSY_EVERY == 0 and tries <= 1 + (order // BUSY_EVERY) % 2:
        raise TerminalBusy("the card terminal is busy")
