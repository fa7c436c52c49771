"""What a broker holds, seen from outside: the records, and the handle on one virtual host for tests.

Nothing here knows how the broker is asked; a `BrokerAdmin` does (`micro_framework.testing.erlang`,
`micro_framework.testing.management`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from micro_framework.exceptions import MicroFrameworkError

__all__ = [
    "BindingState",
    "BrokerAdmin",
    "BrokerStateError",
    "ConnectionState",
    "ExchangeState",
    "QueueState",
    "VHost",
]

POLL_SECONDS = 0.02


class BrokerStateError(MicroFrameworkError):
    """The broker under test could not be asked, started or stopped, or never reached an expected state."""


@dataclass(frozen=True)
class QueueState:
    """One queue: its flags, and how many messages wait in it or are out with a consumer."""

    name: str
    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: Mapping[str, object]
    ready: int
    unacknowledged: int
    consumers: int

    @property
    def depth(self) -> int:
        """Messages the broker still answers for: waiting or not yet acknowledged."""
        return self.ready + self.unacknowledged


@dataclass(frozen=True)
class ExchangeState:
    """One exchange and its flags. The unnamed default exchange and `amq.*` are left out of listings."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class BindingState:
    """One binding. `kind` is ``queue`` or ``exchange``: what the destination is."""

    source: str
    destination: str
    kind: str
    routing_key: str
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class ConnectionState:
    """One client connection; `client_name` is the `connection_name` client property, or empty."""

    name: str
    client_name: str
    vhost: str
    user: str
    state: str
    channels: int


class BrokerAdmin(Protocol):
    """Everything tests ask of a broker besides AMQP itself."""

    def uri_of(self, vhost: str) -> str:
        """The AMQP URI of a virtual host, with credentials."""

    def add_vhost(self, name: str | None = None) -> str:
        """Create a virtual host the test user may do anything in, and return its name."""

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with everything in it; its connections are closed by the broker."""

    def queues(self, vhost: str) -> Sequence[QueueState]:
        """Every queue of a virtual host."""

    def exchanges(self, vhost: str) -> Sequence[ExchangeState]:
        """Every exchange of a virtual host that a client declared."""

    def bindings(self, vhost: str) -> Sequence[BindingState]:
        """Every binding of a virtual host, without those every queue has to the default exchange."""

    def delete_queue(self, vhost: str, name: str) -> None:
        """Delete a queue with what it holds, also under its consumers; no such queue: nothing happens."""

    def connections(self) -> Sequence[ConnectionState]:
        """Every client connection of the broker."""

    def close_connection(self, name: str, reason: str = "closed by a test") -> None:
        """Close the connection of that broker-side name, from the broker's side (CONNECTION_FORCED)."""


class VHost:
    """One virtual host of a broker under test: its URI, what is in it, and waiting for its state.

    Safe to use from several threads: it holds no state of its own.

    Args:
        admin: The broker it is in.
        name: The virtual host's name.
    """

    def __init__(self, admin: BrokerAdmin, name: str) -> None:
        self.admin = admin
        self.name = name

    @property
    def uri(self) -> str:
        """The AMQP URI of this virtual host."""
        return self.admin.uri_of(self.name)

    def queues(self) -> dict[str, QueueState]:
        """Every queue by name."""
        return {queue.name: queue for queue in self.admin.queues(self.name)}

    def queue(self, name: str) -> QueueState:
        """One queue.

        Raises:
            BrokerStateError: There is no such queue; the message names those there are.
        """
        queues = self.queues()
        if name not in queues:
            raise BrokerStateError(f"no queue {name!r} in the broker, only {sorted(queues)}")
        return queues[name]

    def exchanges(self) -> dict[str, ExchangeState]:
        """Every exchange a client declared, by name."""
        return {exchange.name: exchange for exchange in self.admin.exchanges(self.name)}

    def bindings(self) -> list[BindingState]:
        """Every binding a client made."""
        return list(self.admin.bindings(self.name))

    def connections(self) -> list[ConnectionState]:
        """Every connection to this virtual host."""
        return [connection for connection in self.admin.connections() if connection.vhost == self.name]

    def delete_queue(self, name: str) -> None:
        """Delete a queue with what it holds, also under its consumers; no such queue: nothing happens."""
        self.admin.delete_queue(self.name, name)

    def close_connections(self, client_name: str | None = None) -> int:
        """Close this virtual host's connections from the broker's side, and return how many there were.

        Args:
            client_name: Only those whose `connection_name` client property is this.
        """
        chosen = [c for c in self.connections() if client_name is None or c.client_name == client_name]
        for connection in chosen:
            self.admin.close_connection(connection.name)
        return len(chosen)

    def depth(self, queue: str) -> int:
        """Messages waiting in a queue or out with its consumers; 0 for a queue that does not exist."""
        state = self.queues().get(queue)
        return state.depth if state else 0

    def consumers(self, queue: str) -> int:
        """Consumers of a queue; 0 for a queue that does not exist."""
        state = self.queues().get(queue)
        return state.consumers if state else 0

    def wait_for(self, predicate: Callable[["VHost"], object], timeout: float = 20.0, what: str = "") -> None:
        """Return as soon as `predicate(self)` is true.

        A broker tells nobody when a queue changes, so it is asked again every few milliseconds.

        Args:
            timeout: Seconds until it is an error.
            what: What is waited for, for the message.

        Raises:
            BrokerStateError: It did not become true in time; the message lists the queues as they were.
        """
        deadline = time.monotonic() + timeout
        while not predicate(self):
            if time.monotonic() > deadline:
                raise BrokerStateError(f"waited {timeout:g} s for {what or 'the broker'}; {self.describe()}")
            time.sleep(POLL_SECONDS)

    def wait_for_consumers(self, *queues: str, timeout: float = 20.0) -> None:
        """Return once each of these queues exists and has a consumer."""

        def all_consumed(_: "VHost") -> bool:
            states = self.queues()
            return all(name in states and states[name].consumers > 0 for name in queues)

        self.wait_for(all_consumed, timeout, f"consumers on {', '.join(queues)}")

    def wait_until_drained(self, *queues: str, timeout: float = 20.0) -> None:
        """Return once these queues (all, if none is named) hold no message, waiting or unacknowledged."""

        def all_empty(_: "VHost") -> bool:
            states = self.queues()
            return all(states[name].depth == 0 for name in queues or states if name in states)

        self.wait_for(all_empty, timeout, f"empty queues: {', '.join(queues) or 'all'}")

    def describe(self) -> str:
        """The queues in one line, for the message of a failed wait."""
        rows = [
            f"{queue.name}: {queue.ready} ready, {queue.unacknowledged} unacknowledged, {queue.consumers} consumers"
            for queue in self.queues().values()
        ]
        return "queues: " + ("; ".join(rows) or "none")
