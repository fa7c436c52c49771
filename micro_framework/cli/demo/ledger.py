"""The demo's books: every message from its announcement to its end, every route's calls, and what happened last."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from micro_framework.backoff import should_retry
from micro_framework.calls import Call, Outcome
from micro_framework.routes import BoundRoute
from micro_framework.workers import DependencyFailure

__all__ = ["Event", "Latency", "Ledger", "Message", "RouteCounts", "Snapshot", "percentile"]

EVENTS_KEPT = 50
RECENT_LATENCIES = 1000
"""How many of the latest latencies a live figure is made of; the summary takes all."""


@dataclass(slots=True)
class Message:
    """One message. Times are in seconds of the ledger's clock."""

    announced: float
    unsure: bool = False
    """The publish failed, so nobody knows whether the broker has it."""
    arrived: float | None = None
    finished: int = 0
    """How often it was handled to the end."""

    @property
    def missing(self) -> bool:
        """Whether it was sent for certain and has not been handled to the end."""
        return not self.finished and not (self.unsure and self.arrived is None)


@dataclass(slots=True)
class RouteCounts:
    """The calls of one route; ``failed`` counts attempts, ``retried`` and ``given_up`` say what became of them."""

    ok: int = 0
    failed: int = 0
    retried: int = 0
    given_up: int = 0

    @property
    def calls(self) -> int:
        """All attempts."""
        return self.ok + self.failed


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth showing: when (seconds since the demo opened), how it went, and what it was."""

    when: float
    kind: str
    """``good``, ``retry``, ``bad`` or ``note``."""
    text: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from publish to the start of the handler, of first attempts."""

    p50: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The books at one moment."""

    elapsed: float
    sent: int
    arrived: int
    finished: int
    under_way: int
    unsure: int
    handled_again: int
    routes: dict[str, RouteCounts]
    latency: Latency | None
    events: tuple[Event, ...]


class Ledger:
    """Keeps the books. Thread safe.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.changed = threading.Condition()
        self.taking_orders = False
        self.opened = clock()
        self.orders = 0
        self.messages: dict[str, Message] = {}
        self.sums: Counter[str] = Counter()
        self.routes: dict[str, RouteCounts] = {}
        self.latencies: list[float] = []
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)

    # What the show does

    def open(self) -> None:
        """From now on there are orders."""
        with self.changed:
            self.opened = self.clock()
            self.taking_orders = True

    def close(self) -> None:
        """No more orders; what is under way goes on."""
        with self.changed:
            self.taking_orders = False

    def wait_until_complete(self, seconds: float) -> bool:
        """Wait until nothing is missing.

        Returns:
            Whether that is so; False after ``seconds``.
        """
        with self.changed:
            return self.changed.wait_for(lambda: self.sums["under way"] == 0, seconds)

    def missing(self) -> list[str]:
        """The messages that were sent and have not been handled to the end, in the order they were sent."""
        with self.changed:
            return [name for name, message in self.messages.items() if message.missing]

    def note(self, text: str, kind: str = "note") -> None:
        """Something to show among the events."""
        with self.changed:
            self.events.append(Event(self.clock() - self.opened, kind, text))

    def snapshot(self, *, whole: bool = False) -> Snapshot:
        """The books as they are now.

        Args:
            whole: Work the latency out from all messages instead of the latest.
        """
        with self.changed:
            sums, routes = (
                self.sums.copy(),
                {label: RouteCounts(c.ok, c.failed, c.retried, c.given_up) for label, c in self.routes.items()},
            )
            latencies = self.latencies[:] if whole else self.latencies[-RECENT_LATENCIES:]
            elapsed, events = self.clock() - self.opened, tuple(self.events)
        return Snapshot(
            elapsed,
            sums["sent"],
            sums["arrived"],
            sums["finished"],
            sums["under way"],
            sums["unsure"],
            sums["handled again"],
            routes,
            latency_of(latencies),
            events,
        )

    # What the services do

    def next_order(self) -> int | None:
        """The next order's number, its first message announced at once so that closing time cannot slip in between.

        Returns:
            None where no orders are taken.
        """
        with self.changed:
            if not self.taking_orders:
                return None
            self.orders += 1
            self.announce(f"order_placed-{self.orders}")
            return self.orders

    def announce(self, name: str) -> None:
        """A message is about to be sent; again, if an attempt before did not get through."""
        with self.changed:
            known = self.messages.get(name)
            if known is None:
                self.messages[name] = Message(self.clock())
                self.sums.update({"sent": 1, "under way": 1})
            elif known.unsure and known.arrived is None:
                known.unsure = False
                self.sums.update({"sent": 1, "under way": 1, "unsure": -1})

    def not_confirmed(self, name: str) -> None:
        """A publish failed: the message may have been sent or not, so it is not missed unless it turns up."""
        with self.changed:
            message = self.messages[name]
            if message.arrived is None and not message.unsure:
                message.unsure = True
                self.sums.update({"sent": -1, "under way": -1, "unsure": 1})
                self.changed.notify_all()

    def arrive(self, name: str) -> None:
        """A handler is about to get a message."""
        with self.changed:
            message = self.messages.get(name)
            if message is None or message.arrived is not None:
                return
            message.arrived = self.clock()
            self.latencies.append(message.arrived - message.announced)
            self.sums["arrived"] += 1
            if message.unsure:
                self.sums.update({"sent": 1, "under way": 1, "unsure": -1})

    def observe(self, route: BoundRoute, call: Call, outcome: Outcome) -> None:
        """An attempt ended; a runner calls this (`micro_framework.routes.Observer`).

        A tick of the timer for which there was no order does not count.
        """
        if not call.args and outcome == Outcome():
            return
        retried = is_retried(route, call, outcome)
        with self.changed:
            self.count(self.routes.setdefault(route.label, RouteCounts()), outcome, retried=retried)
            if call.args and not retried:
                self.finish(call.args[0]["id"])

    def count(self, counts: RouteCounts, outcome: Outcome, *, retried: bool) -> None:
        """Count an attempt."""
        if outcome.error is None:
            counts.ok += 1
        else:
            counts.failed += 1
            counts.retried += retried
            counts.given_up += not retried

    def finish(self, name: str) -> None:
        """A message was handled to the end."""
        message = self.messages.get(name)
        if message is None:
            return
        message.finished += 1
        self.sums["finished" if message.finished == 1 else "handled again"] += 1
        if message.finished == 1:
            self.sums["under way"] -= 1
            self.changed.notify_all()


def is_retried(route: BoundRoute, call: Call, outcome: Outcome) -> bool:
    """Whether the message of an attempt comes again."""
    if outcome.error is None:
        return False
    if isinstance(outcome.error, DependencyFailure):
        return True
    return route.policy is not None and should_retry(route.policy, call.attempt, outcome.error)


def latency_of(seconds: Sequence[float]) -> Latency | None:
    """The figures shown, None where nothing has arrived."""
    ordered = sorted(seconds)
    return Latency(percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1]) if ordered else None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank).

    Args:
        ordered: Values in ascending order, at least one.
        share: From 0 to 1.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
