"""Snapshots: what has been counted, as plain numbers that can be sent, added up and shown.

A snapshot holds tables: labels to a row of numbers. Rows of the same labels add up, whichever process they come from.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from micro_framework.metrics.recent import MOST_ERRORS, RecentError

__all__ = [
    "ANSWERED",
    "BUCKETS",
    "CONFIRMED",
    "CONNECTIONS",
    "CONNECTIONS_BLOCKED",
    "CONNECTIONS_UP",
    "CONNECTION_FIELDS",
    "CONNECTS",
    "CONTEXT_WAITING",
    "CONTEXT_WORKERS",
    "COUNTS",
    "FAILED",
    "HANDED_BACK",
    "LOSSES",
    "PARKED",
    "PUBLISHED",
    "PUBLISH_FIELDS",
    "PUBLISH_OUTCOMES",
    "RECEIVED",
    "RECONNECTS",
    "REFUSED",
    "REMOTE_ERRORS",
    "RETRIED",
    "ROUTE_FIELDS",
    "RPC_FIELDS",
    "RPC_OUTCOMES",
    "RUN_BUCKETS",
    "RUN_SUM",
    "SIDE_CONSUMERS",
    "SIDE_LOOKS",
    "SIDE_WAITING",
    "SKIPPED",
    "STARTED",
    "SUCCEEDED",
    "UNDONE",
    "UNROUTABLE",
    "WAIT_BUCKETS",
    "WAIT_SUM",
    "Row",
    "Snapshot",
    "Sources",
    "Table",
    "running",
]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms' buckets, in seconds; one more has what is above."""

# The row of a route.
RECEIVED, STARTED, SUCCEEDED, FAILED, UNDONE, RETRIED, PARKED, REFUSED, SKIPPED, HANDED_BACK = range(10)
COUNTS = (
    *("received", "started", "succeeded", "failed", "undone"),
    *("retried", "parked", "refused", "skipped", "handed_back"),
)
"""The names of the first numbers of a route's row."""
WAIT_SUM = len(COUNTS)
WAIT_BUCKETS = WAIT_SUM + 1
RUN_SUM = WAIT_BUCKETS + len(BUCKETS) + 1
RUN_BUCKETS = RUN_SUM + 1
ROUTE_FIELDS = RUN_BUCKETS + len(BUCKETS) + 1

# The row of another service's method.
RPC_OUTCOMES = ("answered", "timeout", "unknown_service", "answer_lost", "not_sent", "cancelled")
ANSWERED = 0
REMOTE_ERRORS = len(RPC_OUTCOMES)
RPC_FIELDS = REMOTE_ERRORS + 1

# The row of a kind of publishes.
PUBLISH_OUTCOMES = ("confirmed", "unroutable", "timeout", "failed")
PUBLISHED, CONFIRMED, UNROUTABLE = range(3)
PUBLISH_FIELDS = 1 + len(PUBLISH_OUTCOMES)

# The row of a connection.
CONNECTS, RECONNECTS, LOSSES, CONNECTIONS, CONNECTIONS_UP, CONNECTIONS_BLOCKED = range(6)
CONNECTION_FIELDS = 6

# The row of a context.
CONTEXT_WORKERS, CONTEXT_WAITING = range(2)

# The row of a side of a takeover; each process that looks tells the same numbers, so their mean is what holds.
SIDE_LOOKS, SIDE_WAITING, SIDE_CONSUMERS = range(3)

Row = list[float]
Table = dict[tuple[str, ...], Row]


def running(row: Row) -> float:
    """How many calls of a route run right now."""
    return row[STARTED] - row[SUCCEEDED] - row[FAILED] - row[UNDONE]


@dataclass(slots=True)
class Snapshot:
    """What has been counted.

    Args:
        routes: By service, route and context.
        rpc: By service and method.
        publishing: By kind.
        connections: By name.
        contexts: By context.
        passed_on: By service and method, what was passed on to the old side of a takeover.
        sides: By service and side of a takeover.
        errors: The latest errors.
    """

    routes: Table = field(default_factory=dict)
    rpc: Table = field(default_factory=dict)
    publishing: Table = field(default_factory=dict)
    connections: Table = field(default_factory=dict)
    contexts: Table = field(default_factory=dict)
    passed_on: Table = field(default_factory=dict)
    sides: Table = field(default_factory=dict)
    errors: list[RecentError] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        tables = {name: [[*key, row] for key, row in getattr(self, name).items()] for name in TABLES}
        return {**tables, "errors": self.errors}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The snapshot that `plain` told of."""
        tables = {name: {tuple(entry[:-1]): list(entry[-1]) for entry in plain[name]} for name in TABLES}
        return cls(**tables, errors=list(plain["errors"]))

    def of_the_past(self) -> "Snapshot":
        """What remains of it when its process is gone: what was, without what is; running calls count as undone."""
        routes = {key: list(row) for key, row in self.routes.items()}
        for row in routes.values():
            row[UNDONE] += running(row)
        connections = {key: [*row[:CONNECTIONS], 0, 0, 0] for key, row in self.connections.items()}
        return Snapshot(routes, self.rpc, self.publishing, connections, passed_on=self.passed_on, errors=self.errors)

    @classmethod
    def sum(cls, snapshots: Iterable["Snapshot"]) -> "Snapshot":
        """Several as one."""
        total = cls()
        for snapshot in snapshots:
            for name in TABLES:
                add(getattr(total, name), getattr(snapshot, name))
            total.errors += snapshot.errors
        total.errors = sorted(total.errors, key=lambda error: error["time"])[-MOST_ERRORS:]
        return total


TABLES = ("routes", "rpc", "publishing", "connections", "contexts", "passed_on", "sides")


def add(total: Table, table: Table) -> None:
    """Add a table to another one."""
    for key, row in table.items():
        known = total.get(key)
        total[key] = list(row) if known is None else [a + b for a, b in zip(known, row, strict=True)]


class Sources:
    """The latest snapshots of several processes, and what those counted that are gone. Thread safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.present: dict[str, Snapshot] = {}
        self.past = Snapshot()

    def heard(self, source: str, snapshot: Snapshot) -> None:
        """A process tells what it has counted since its beginning."""
        with self.lock:
            self.present[source] = snapshot

    def gone(self, source: str) -> None:
        """A process has ended; what it counted stays counted. Idempotent."""
        with self.lock:
            last = self.present.pop(source, None)
            if last is not None:
                self.past = Snapshot.sum([self.past, last.of_the_past()])

    def total(self) -> Snapshot:
        """Everything that was told."""
        with self.lock:
            return Snapshot.sum([self.past, *self.present.values()])
