"""Testing services: an instance with doubles, the service in a block, somebody who calls it, waiting for a call."""

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import MagicMock

from micro_framework.calls import Call, Outcome
from micro_framework.clock import Clock
from micro_framework.routes import BoundRoute, Route
from micro_framework.runner import Runner, RunnerContext
from micro_framework.spawners.base import uses_processes
from micro_framework.standalone import EventProducer, RPCClient
from micro_framework.targets import class_dependencies

__all__ = ["WaitedCall", "client_for", "producer_for", "running", "wait_for", "worker_for"]

T = TypeVar("T")


def worker_for(service: type[T], **doubles: Any) -> T:
    """An instance of a service class as a worker would make it, with doubles for its dependencies.

    Args:
        service: The class.
        doubles: What to put in a dependency's place, by its name; the others become ``MagicMock``.

    Raises:
        ValueError: The class has no dependency of that name.
    """
    names = [name for name, _ in class_dependencies(service)]
    if unknown := sorted(doubles.keys() - set(names)):
        raise ValueError(
            f"{service.__name__} has no dependency {', '.join(unknown)}; it has {', '.join(names) or 'none at all'}"
        )
    instance = service()
    instance.__dict__.update({name: MagicMock(name=name) for name in names} | doubles)
    return instance


@contextmanager
def running(
    *services: type | Route | RunnerContext, config: Mapping[str, Any] | None = None, clock: Clock | None = None
) -> Iterator[Runner]:
    """Run services inside the block: connected and consuming when it begins, stopped when it ends.

    Args:
        services: Service classes, routes and contexts.
        config: Their configuration; where it has no ``AMQP_URI``, they get an embedded broker of their own, or none if
            their workers are processes, which cannot reach one.
        clock: Their clock, for instance a `ManualClock`.
    """
    settings = dict(config or {})
    if not uses_processes(str(settings.get("WORKER_MODE"))):
        settings.setdefault("AMQP_URI", f"memory://{uuid.uuid4().hex}")
    with Runner(services, settings, clock=clock) as runner:
        yield runner


def client_for(runner: Runner, timeout: float = 10, context_data: Mapping[str, Any] | None = None) -> RPCClient:
    """A client that calls running services: ``with running(Orders) as runner, client_for(runner) as rpc: ...``.

    Args:
        runner: What `running` gives; the client has its configuration, and so its broker.
        timeout: Seconds to wait for an answer.
        context_data: Goes with every call.
    """
    return RPCClient(runner.settings.raw, timeout, context_data)


def producer_for(runner: Runner, service_name: str, context_data: Mapping[str, Any] | None = None) -> EventProducer:
    """Dispatches events to running services, in the name of a service that need not be there.

    Args:
        runner: What `running` gives; the producer has its configuration, and so its broker.
        service_name: The service whose events they are.
        context_data: Goes with every event.
    """
    return EventProducer(service_name, runner.settings.raw, context_data)


class WaitedCall:
    """The call that `wait_for` waited for; complete when its block has ended."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.call: Call | None = None
        self.outcome: Outcome | None = None

    def result(self) -> Any:
        """What the target returned.

        Raises:
            BaseException: What it raised.
        """
        if self.outcome is None:
            raise RuntimeError("the call has not ended; ask after the wait_for block")
        if self.outcome.error is not None:
            raise self.outcome.error
        return self.outcome.result


@contextmanager
def wait_for(runner: Runner, target: str, timeout: float = 10) -> Iterator[WaitedCall]:
    """Wait at the end of the block until a call of the target, begun in it or before, has ended.

    Args:
        runner: The runner.
        target: ``Class.method`` or ``module.function``.
        timeout: Seconds.

    Raises:
        ValueError: The runner has no such target.
        TimeoutError: No call of it ended in time.
    """
    known = {route.label for route in runner.assembly.routes}
    if target not in known:
        raise ValueError(f"the runner has no target {target!r}; it has {', '.join(sorted(known))}")
    waited = WaitedCall()

    def observe(route: BoundRoute, call: Call, outcome: Outcome) -> None:
        if route.label == target and not waited.done.is_set():
            waited.call, waited.outcome = call, outcome
            waited.done.set()

    runner.observers.append(observe)
    try:
        yield waited
        if not waited.done.wait(timeout):
            raise TimeoutError(f"no call of {target} ended within {timeout:g} s")
    finally:
        runner.observers.remove(observe)
