"""The names of a takeover: what leads the calls of a Nameko service, one method at a time, to its successor.

A *gate* stands before the old queue: a topic exchange that sends the moved methods to the new queue, and what it has no
binding for through its alternate exchange to the old one. "Matched, or else": no call goes to both or to none, at any
instant. Each switch is one binding of the gate.

These names are this project's own; Nameko knows none of them. Nameko's own, the main exchange and the old queue, are
those of `micro_framework.wire.naming`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from micro_framework.wire.naming import RPC_EXCHANGE, Binding, Exchange, Queue, rpc_exchange, rpc_queue

__all__ = ["PROBE", "TAKEOVER", "Names"]

TAKEOVER = "takeover"
"""The last word of the new queue's name; no context of a service that takes over may have it."""
PROBE = "__mf_probe__"
"""A method that no service has; the answer to a call of it tells how a replica is configured."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one service's takeover.

    Args:
        service: The name of the service, old and new.
        main: Nameko's ``rpc_exchange``, that of all callers.
    """

    service: str
    main: str = RPC_EXCHANGE

    @property
    def side(self) -> str:
        """The exchange that old replicas are told to use: ``rpc_exchange: nameko-rpc-legacy``."""
        return f"{self.main}-legacy"

    @property
    def entry(self) -> str:
        """The alternate exchange of the main one, by policy. An exchange has one, so all takeovers share it."""
        return f"{self.main}.entry"

    @property
    def gate(self) -> str:
        """The exchange that tells moved methods from the others."""
        return f"{self.service}.gate"

    @property
    def rest(self) -> str:
        """Where the gate sends what was not moved."""
        return f"{self.service}.rest"

    @property
    def old(self) -> str:
        """The queue of the Nameko service."""
        return f"rpc-{self.service}"

    @property
    def new(self) -> str:
        """The queue of its successor."""
        return f"rpc-{self.service}.{TAKEOVER}"

    @property
    def healing(self) -> str:
        """A queue whose existence says that no binding may lead from the main exchange to the old queue."""
        return f"{self.service}.healing"

    @property
    def all_methods(self) -> str:
        """The key of every method."""
        return f"{self.service}.*"

    def key(self, method: str) -> str:
        """The key of one method."""
        return f"{self.service}.{method}"

    def new_queue(self) -> Queue:
        """The queue of the successor, which the class declares without a binding: moving methods is the tool's."""
        return Queue(self.new)

    def gate_exchange(self) -> Exchange:
        """The gate; an argument, not a policy, names its alternate exchange: nobody else declares it."""
        return Exchange(self.gate, arguments={"alternate-exchange": self.rest})

    def exchanges(self) -> Sequence[Exchange]:
        """What the class declares at each start: nobody else would, on a broker that was built anew."""
        return (Exchange(self.rest), self.gate_exchange())

    def old_queue(self) -> Queue:
        """The old queue as Nameko declares it, bound to where the rest goes, not to the main exchange."""
        queue = rpc_queue(self.service, rpc_exchange(self.main))
        return Queue(queue.name, bindings=(Binding(Exchange(self.rest), self.all_methods),))
