"""What of micro_framework drives the methods of a Nameko service.

Every entrypoint of Nameko's kind has one *adapter*, an entrypoint of micro_framework's. For RPC, events, queues and
timers it does the work itself; for any other (a third-party package's) it only runs what
`ServiceContainer.spawn_worker` asks for. Each of them takes that: it is how tests and extensions call a method.
"""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from micro_framework.amqp.entrypoints import EventListener, QueueListener, RPCListener
from micro_framework.calls import Call, Outcome
from micro_framework.entrypoints import Entrypoint, TimeEntrypoint
from micro_framework.extensions import Host
from micro_framework.parking import Failure
from micro_framework.redaction import shown_arguments
from nameko_compat.workers import Firing, call_of

if TYPE_CHECKING:
    from nameko_compat.lives import ContainerLife

__all__ = ["Adapter", "EventAdapter", "QueueAdapter", "RpcAdapter", "SpawnAdapter", "TimerAdapter"]


class Adapter(Entrypoint):
    """What all have in common; stands before the entrypoint of micro_framework in the bases."""

    nameko_entrypoint: Any
    """The bound entrypoint of Nameko's kind."""
    life: "ContainerLife"
    """The container's part in the runner."""
    prefetch: int | None = None
    """How many deliveries it may hold unacknowledged; None: as the container."""

    def serve(self, entrypoint: Any, life: "ContainerLife") -> Self:
        """Work for an entrypoint of Nameko's kind."""
        # Before anything else in the instance: what is nested first is started first, and stopped last.
        self.__dict__ = {"life": life, "nameko_entrypoint": entrypoint, **self.__dict__}
        return self

    def described(self) -> dict[str, Any]:
        """As what of micro_framework does the work, called what the service declares."""
        return {**super().described(), "kind": type(self.nameko_entrypoint).__name__}

    def described_dependencies(self) -> list[dict[str, Any]]:
        """The service's dependency providers."""
        return [provider.described() for provider in self.nameko_entrypoint.container.dependencies]

    def bind(self, host: Host) -> Self:
        """The copy that works; its container hears of it."""
        bound = super().bind(host if self.prefetch is None else replace(host, prefetch=self.prefetch))
        self.nameko_entrypoint.container.adapters[self.nameko_entrypoint] = bound
        return bound

    def stop(self) -> None:
        """Receive nothing more."""
        super().stop()
        self.nameko_entrypoint.container.stop_entrypoint(self.nameko_entrypoint)

    def crashes(self, item: Any) -> int:
        """How many workers have died of an item."""
        return 0 if isinstance(item, Firing) else super().crashes(item)

    def to_call(self, item: Any) -> Call:
        """Decode an item."""
        return item.call() if isinstance(item, Firing) else call_of(self.nameko_entrypoint, super().to_call(item))

    def settle(self, item: Any, outcome: Outcome) -> None:
        """The call is over."""
        if not isinstance(item, Firing):
            super().settle(item, outcome)

    def comes_again(self, item: Any) -> bool:
        """What ``spawn_worker`` asked for nobody sends again; it is dropped only where its container is killed."""
        if isinstance(item, Firing):
            return bool(self.nameko_entrypoint.container.being_killed)
        return super().comes_again(item)

    def hand_back(self, item: Any) -> None:
        """Give an item back that was not run; of what ``spawn_worker`` asked for, whoever waits for it is told."""
        if isinstance(item, Firing):
            item.not_run()
        else:
            super().hand_back(item)

    def park(self, item: Any, failure: Failure) -> str:
        """Keep an item that has failed for good."""
        if isinstance(item, Firing):
            return f"{item.worker_ctx!r} came from no queue and is not parked"
        return super().park(item, failure)

    def severity(self, error: BaseException) -> int:
        """Expected exceptions are warnings."""
        expected = self.nameko_entrypoint.expected_exceptions or ()
        return logging.WARNING if isinstance(error, expected) else super().severity(error)


class SpawnAdapter(Adapter):
    """For entrypoints that call their methods by ``spawn_worker`` alone."""

    translatable = False
    result_needed = False

    def shown(self, call: Call) -> str:
        """The arguments, without the sensitive ones."""
        sensitive = self.nameko_entrypoint.sensitive_arguments
        names = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
        parameters = self.route.describe()["parameters"]
        return f", called with {shown_arguments(call.args, call.kwargs, parameters=parameters, sensitive=names)}"


class RpcAdapter(Adapter, RPCListener):
    """For ``rpc``."""


class EventAdapter(Adapter, EventListener):
    """For ``event_handler``."""


class QueueAdapter(Adapter, QueueListener):
    """For ``consume``."""


class TimerAdapter(Adapter, TimeEntrypoint):
    """For ``timer``."""
