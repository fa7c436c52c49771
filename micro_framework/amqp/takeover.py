"""`LegacyService`: a class takes over the RPC methods of a Nameko service, one at a time.

Its calls come from a queue of their own, ``rpc-<service>.takeover``. Which methods lead there is decided in the broker,
by ``micro-framework migrate``; the class only says what it offers. See `micro_framework.wire.takeover` for the picture.

An old replica that starts, or only reconnects, with the old configuration binds its queue to the main exchange again.
While ``migrate`` wants that binding to be away, the class removes it, every `HEAL_SECONDS`.
"""

import logging
import threading
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from micro_framework.amqp.doors import CLOSE_BUDGET
from micro_framework.amqp.serving import RPCServer
from micro_framework.brokers.port import DoorEvents, Publication
from micro_framework.brokers.rabbitmq.broker import RabbitMQBroker
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.exceptions import BrokerError, PublishError, Unroutable
from micro_framework.extensions import Extension, Host
from micro_framework.wire.messages import Properties
from micro_framework.wire.takeover import TAKEOVER, Names

if TYPE_CHECKING:
    from micro_framework.metrics.tallies import Tallies

__all__ = ["HEAL_SECONDS", "LegacyService", "Takeover"]

logger = logging.getLogger(__name__)

HEAL_SECONDS = 0.5
"""How often a binding that must not be is removed."""
ANSWER_SECONDS = 5.0
"""How long the broker may take for an answer; it is asked again afterwards."""


class Takeover(Extension):
    """What keeps the bindings of a service's takeover as they must be; one per service."""

    server = RPCServer()

    def __str__(self) -> str:
        return f"takeover of service {self.host.service!r}"

    def sharing_key(self, host: Host) -> Hashable:
        """One per service."""
        return host.service

    def bind(self, host: Host) -> "Takeover":
        """Also tells the server where its calls come from."""
        bound = super().bind(host)
        bound.names = Names(host.service, host.settings.rpc_exchange)
        bound.server.takeover = bound.names
        return bound

    names: Names

    def problems(self) -> list[str]:
        """Where there can be no takeover."""
        found = []
        if (self.host.settings.amqp_uri or "").startswith("memory:"):
            found.append(
                "LegacyService takes over calls inside RabbitMQ, and memory:// is no broker that Nameko knows; leave "
                "LegacyService out there, or set AMQP_URI: amqp://..."
            )
        if self.host.context == TAKEOVER:
            found.append(f"a context of a service with LegacyService cannot be called {TAKEOVER!r}; rename it")
        return found

    def setup(self) -> None:
        """Declare what is ours."""
        broker = self.server.source.broker
        assert isinstance(broker, RabbitMQBroker)  # see `problems`
        self.healer = broker.browser(f"takeover-{self.host.service}")
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        self.server.door.declare(self.names.exchanges(), (self.names.old_queue(),))

    def start(self) -> None:
        """Begin to heal, in the service's own process alone."""
        if self.host.process:
            return
        self.healer.start(DoorEvents(on_refused=self.host.lifecycle.fail))
        self.thread = threading.Thread(target=self.keep_healing, name=f"mf-takeover-{self.host.service}", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End healing."""
        self.ended.set()
        self.healer.stop(time.monotonic() + CLOSE_BUDGET)
        if self.thread is not None:
            self.thread.join(CLOSE_BUDGET)

    def keep_healing(self) -> None:
        """The thread."""
        while not self.ended.wait(HEAL_SECONDS):
            try:
                self.heal()
            except BrokerError as error:
                if not self.ended.is_set():
                    logger.warning("%s: could not look after the bindings, and tries again: %s", self, error)

    def heal(self) -> None:
        """Remove the binding of the old queue, if it is to be away.

        Raises:
            BrokerError: No connection, or no answer in time.
        """
        if not self.server.door.ready or not self.healer.ready:
            return
        names, deadline = self.names, time.monotonic() + ANSWER_SECONDS
        if self.is_wanted():
            self.healer.unbind(names.old, names.main, names.all_methods, deadline)
        if self.host.tallies is not None:
            self.look_at_sides(self.host.tallies, deadline)

    def look_at_sides(self, tallies: "Tallies", deadline: float) -> None:
        """Note for the metrics what waits at both sides, and who consumes there.

        Raises:
            BrokerError: No connection, or no answer in time.
        """
        for side, queue in (("old", self.names.old), ("new", self.names.new)):
            tallies.side(self.host.service, side, *(self.healer.seen(queue, deadline) or (0, 0)))

    def is_wanted(self) -> bool:
        """Whether there is the queue that says so: what is sent there is returned where it is not."""
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            self.server.door.publish(
                Publication("", self.names.healing, b"", Properties(delivery_mode=1), mandatory=True)
            ).wait(deadline)
        except Unroutable:
            return False
        except PublishError:
            if self.ended.is_set():
                return False
            raise
        return True


class LegacyService(Dependency[Names]):
    """Declared on a class, it takes the RPC methods of the Nameko service of the same name over, one at a time.

    The class is then called through ``rpc-<service>.takeover``; ``micro-framework migrate`` moves methods there.
    Injected are the names of what that takes in the broker.
    """

    takeover = Takeover()

    def described(self) -> dict[str, Any]:
        """Both queues and the gate."""
        names = self.takeover.names
        return {**super().described(), "queue": names.new, "gate": names.gate, "old_queue": names.old}

    def get_dependency(self, worker: RunningCall) -> Names:
        """The names."""
        return self.takeover.names
