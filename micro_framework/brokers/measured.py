"""Doors of a service with ``ENABLE_METRICS``: they count connections, publishes and what the broker says to them."""

from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from micro_framework.brokers.port import Confirmation, Door, DoorEvents, Publication, Publisher
from micro_framework.exceptions import PublishTimeout, Unroutable
from micro_framework.metrics.snapshots import CONFIRMED, PUBLISHED
from micro_framework.metrics.tallies import Cells, Tallies

__all__ = ["counted_events", "counted_publishes"]

P = TypeVar("P", bound=Publisher)


def counted_events(events: DoorEvents, name: str, door: Door, tallies: Tallies) -> DoorEvents:
    """What a door tells, counted too.

    Args:
        events: Whom it is told to.
        name: What the connection is called.
        door: The door.
        tallies: Where it is counted.
    """
    tally = tallies.connection(name, door)

    def on_ready() -> None:
        tally.became_ready()
        events.on_ready()

    def on_lost(error: BaseException) -> None:
        tally.lost()
        events.on_lost(error)

    return replace(events, on_ready=on_ready, on_lost=on_lost)


def counted_publishes(door: P, tallies: Tallies) -> P:
    """A door that counts what is published."""
    return cast(P, CountingPublisher(door, tallies))


class CountingPublisher:
    """Passes everything on to a door, and counts two things of it.

    Args:
        door: The door.
        tallies: Where it is counted.
    """

    def __init__(self, door: Publisher, tallies: Tallies) -> None:
        self.door = door
        self.published = tallies.publishes("publish")
        self.delayed = tallies.publishes("delay")
        self.on_published = partial(count_outcome, self.published)
        self.on_delayed = partial(count_outcome, self.delayed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.door, name)

    def publish(self, publication: Publication, *, confirm: bool = True, more: bool = False) -> Confirmation:
        """Publish, see the port."""
        confirmation = self.door.publish(publication, confirm=confirm, more=more)
        self.published.mine()[PUBLISHED] += 1
        confirmation.add_done_callback(self.on_published)
        return confirmation

    def delay(
        self, publication: Publication, *, queue: str, delay: int, exchange: str = "", routing_key: str | None = None
    ) -> Confirmation:
        """Delay, see the port."""
        confirmation = self.door.delay(
            publication, queue=queue, delay=delay, exchange=exchange, routing_key=routing_key
        )
        self.delayed.mine()[PUBLISHED] += 1
        confirmation.add_done_callback(self.on_delayed)
        return confirmation


def count_outcome(cells: Cells, error: BaseException | None) -> None:
    """A publish has its outcome."""
    if error is None:
        position = 0
    elif isinstance(error, Unroutable):
        position = 1
    else:
        position = 2 if isinstance(error, PublishTimeout) else 3
    cells.mine()[CONFIRMED + position] += 1
