"""What services would declare on a broker, found out without one.

The extensions of the framework are set up with a broker that only notes what it is asked for. Those of the user are
not: their ``setup`` may do anything.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from micro_framework.amqp.doors import BrokerSource
from micro_framework.assembly import Assembly, dependencies_of
from micro_framework.brokers.port import Subscription
from micro_framework.brokers.rabbitmq.inspection import Wanted
from micro_framework.brokers.serializers import Serializers
from micro_framework.extensions import Extension, in_start_order
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["NotingBroker", "declared_by"]

OWN = "micro_framework."


class NotingDoor:
    """A door of `NotingBroker`, of every kind.

    Args:
        wanted: Where it notes.
    """

    ready = False

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def subscribe(self, subscription: Subscription) -> None:
        """Note what is consumed."""
        queue = subscription.queue
        self.wanted.queues[queue.name] = queue
        self.wanted.consumed.add(queue.name)
        if subscription.declare_exchanges:
            self.note_exchanges(binding.exchange for binding in queue.bindings)

    def declare(self, exchanges: Sequence[Exchange] = (), queues: Sequence[Queue] = ()) -> None:
        """Note what is declared, which is published to as well."""
        self.note_exchanges(exchanges)
        self.wanted.published |= {exchange.name for exchange in exchanges if exchange.name}
        self.wanted.queues |= {queue.name: queue for queue in queues}

    def note_exchanges(self, exchanges: Iterable[Exchange]) -> None:
        """Note exchanges; the default one cannot be declared."""
        self.wanted.exchanges |= {exchange.name: exchange for exchange in exchanges if exchange.name}

    def ensure(self, queue: Queue, deadline: float) -> None:
        """Note a queue that is published to by its name."""
        self.wanted.queues[queue.name] = queue
        self.wanted.published.add("")

    def expect_delays(
        self, queue: Queue, delays: Sequence[int], *, exchange: str = "", routing_key: str | None = None
    ) -> None:
        """Note a queue whose messages may be put off."""
        self.wanted.delayed.add(queue.name)
        self.wanted.published.add("")

    def want(self, lock: Any) -> None:
        """Locks are exclusive queues that come and go."""


class NotingBroker:
    """A broker that notes what it is asked for; nothing connects. Its doors cannot be started.

    Args:
        wanted: Where it notes.
    """

    description = "no broker"
    durable_after = 0.0

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def door(self, name: str) -> Any:
        """A door of any kind."""
        return NotingDoor(self.wanted)

    consumer = publisher = duplex = browser = locks = door


def declared_by(assembly: Assembly) -> Wanted:
    """What everything in an assembly would declare and use.

    Args:
        assembly: Of a runner that will not be started.
    """
    wanted = Wanted()
    broker = NotingBroker(wanted)
    dependencies = [dependency for route in assembly.routes for dependency in dependencies_of(route)]
    for extension in in_start_order([*dependencies, *assembly.entrypoints()]):
        if isinstance(extension, BrokerSource):
            extension.broker = broker
            extension.serializers = Serializers(extension.host.settings)
            wanted.plugin = extension.host.settings.retry_backend == "plugin"
        elif is_own(extension):
            extension.setup()
    for extension in in_start_order(assembly.entrypoints()):
        if is_own(extension, "amqp.serving") and getattr(extension, "used", False):
            consume_requests(extension)
    # With the plugin messages are put off in its exchange.
    if wanted.plugin:
        wanted.delayed.clear()
    return wanted


def is_own(extension: Extension, room: str = "amqp.") -> bool:
    """Whether what sets an extension up is the framework's, and of that room."""
    return type(extension).setup.__module__.startswith(OWN + room)


def consume_requests(server: Any) -> None:
    """An RPC server says at its start what it consumes."""
    server.door.subscribe(Subscription(server.queue, 1, server.on_request))
