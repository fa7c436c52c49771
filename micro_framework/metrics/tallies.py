"""Tallies: integers that are counted where the work is done, and added up only when somebody looks.

A call may cost a few microseconds, and a lock or a dictionary of labels would be seen in that. So each thread counts in
a list of its own, found by the thread's identity; whoever looks copies the lists and adds them. An identity that the
system gives to a later thread leads to the list of the ended one, which goes on: nothing is lost and nothing grows.
"""

from threading import get_ident
from typing import Protocol

from micro_framework.metrics.recent import RecentErrors
from micro_framework.metrics.snapshots import (
    CONNECTION_FIELDS,
    CONNECTS,
    LOSSES,
    PUBLISH_FIELDS,
    RECONNECTS,
    ROUTE_FIELDS,
    RPC_FIELDS,
    Snapshot,
)

__all__ = ["Cells", "Connection", "ConnectionTally", "RouteTally", "Tallies"]

MOST_METHODS = 1000
"""Methods of other services that are counted by name; whoever calls by names that come from outside, calls no end."""

OTHER = ("(other)", "(other)")


class Cells:
    """A row of numbers that any thread may count in, without a lock.

    Args:
        size: How many numbers.
    """

    __slots__ = ("cells", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.cells: dict[int, list[float]] = {}

    def mine(self) -> list[float]:
        """The calling thread's own row; nobody else writes in it."""
        cell = self.cells.get(get_ident())
        return self.cells.setdefault(get_ident(), [0] * self.size) if cell is None else cell

    def totals(self) -> list[float]:
        """The sums over all threads; each thread's row is read in one step."""
        rows = [list(cell) for cell in list(self.cells.values())]
        return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * self.size


class RouteTally(Cells):
    """What happens to the calls of a route; the numbers are named in `micro_framework.metrics.snapshots`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ROUTE_FIELDS)


class Connection(Protocol):
    """What is asked of a connection."""

    @property
    def ready(self) -> bool:
        """Whether it is up, with everything declared."""

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages on it for now."""

    @property
    def turns(self) -> bool:
        """Whether its thread does its work; also while it connects again."""


class ConnectionTally:
    """The comings and goings of one connection; only the connection's own thread counts.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.connects = 0
        self.losses = 0

    def became_ready(self) -> None:
        """It is up, for the first time or again."""
        self.connects += 1

    def lost(self) -> None:
        """It broke."""
        self.losses += 1

    def numbers(self) -> list[float]:
        """Its row in a snapshot."""
        row: list[float] = [0] * CONNECTION_FIELDS
        row[CONNECTS], row[RECONNECTS], row[LOSSES] = self.connects, max(0, self.connects - 1), self.losses
        row[-3:] = 1, int(self.connection.ready), int(self.connection.blocked)
        return row


class Tallies:
    """Everything that is counted in one process. Thread safe.

    Args:
        secrets: Texts that no error may show.
    """

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self.routes: dict[tuple[str, ...], RouteTally] = {}
        self.rpc: dict[tuple[str, ...], Cells] = {}
        self.publishing: dict[tuple[str, ...], Cells] = {}
        self.connections: dict[str, ConnectionTally] = {}
        self.passed_on: dict[tuple[str, ...], Cells] = {}
        self.sides: dict[tuple[str, ...], list[float]] = {}
        self.recent = RecentErrors(secrets)

    def route(self, service: str, route: str, context: str) -> RouteTally:
        """The tally of a route; routes with the same labels share one."""
        return self.routes.setdefault((service, route, context), RouteTally())

    def rpc_method(self, service: str, method: str) -> Cells:
        """The tally of the calls of another service's method."""
        key = (service, method)
        found = self.rpc.get(key)
        if found is None:
            key = key if len(self.rpc) < MOST_METHODS else OTHER
            found = self.rpc.setdefault(key, Cells(RPC_FIELDS))
        return found

    def publishes(self, kind: str) -> Cells:
        """The tally of one kind of publishes."""
        return self.publishing.setdefault((kind,), Cells(PUBLISH_FIELDS))

    def passed_on_requests(self, service: str, key: str) -> Cells:
        """The tally of the requests of a method, named by its routing key, that were passed on to the old side."""
        return self.passed_on.setdefault((service, key.removeprefix(f"{service}.")), Cells(1))

    def side(self, service: str, side: str, waiting: int, consumers: int) -> None:
        """Note what the queue of one side of a takeover looks like now."""
        self.sides[service, side] = [1, waiting, consumers]

    def connection(self, name: str, connection: Connection) -> ConnectionTally:
        """The tally of a connection; one that is made anew under its name takes the place of the one before."""
        tally = self.connections[name] = ConnectionTally(connection)
        return tally

    def snapshot(self) -> Snapshot:
        """What has been counted so far."""
        return Snapshot(
            routes={key: cells.totals() for key, cells in list(self.routes.items())},
            rpc={key: cells.totals() for key, cells in list(self.rpc.items())},
            publishing={key: cells.totals() for key, cells in list(self.publishing.items())},
            connections={(name,): tally.numbers() for name, tally in list(self.connections.items())},
            passed_on={key: cells.totals() for key, cells in list(self.passed_on.items())},
            sides=dict(self.sides),
            errors=self.recent.latest(),
        )
