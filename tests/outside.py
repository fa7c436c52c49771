"""Around a service under test: somebody else at the same broker, and a service that writes down its calls."""

import json
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from threading import Event
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from micro_framework.brokers.factory import broker_for
from micro_framework.brokers.port import Delivery, Publication, Verdict
from micro_framework.calls import Call, CallIdentity
from micro_framework.config import Settings
from micro_framework.dependencies import CallContext, CallInfo
from micro_framework.entrypoints import Entrypoint
from micro_framework.routes import route
from micro_framework.runner import Runner
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Binding, Queue, event_exchange
from tests.brokers.probes import Doors, Inbox

SECONDS = 20.0
JSON = "application/json"


def memory_uri() -> str:
    """An embedded broker that nobody else knows."""
    return f"memory://{uuid4().hex}"


class Outside:
    """Somebody else at the same broker: sends raw messages and looks into queues. Close it after use."""

    def __init__(self, uri: str) -> None:
        self.doors = Doors(broker_for(Settings.from_mapping({"AMQP_URI": uri})))
        # Holds an embedded broker, so that it outlasts the services that come and go.
        self.publisher = self.doors.common_publisher

    def send(
        self,
        body: Any,
        *,
        to: str = "",
        key: str,
        headers: Mapping[str, Any] | None = None,
        content_type: str | None = JSON,
        **properties: Any,
    ) -> None:
        """Publish one message; what is not bytes is encoded as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        encoding = None if content_type is None else "utf-8"
        described = Properties(content_type, encoding, headers or {}, delivery_mode=2, **properties)
        self.doors.send(Publication(to, key, raw, described, mandatory=True))

    def event(self, service: str, name: str, payload: Any, headers: Mapping[str, Any] | None = None) -> None:
        """Dispatch an event as another service does; somebody must be there to hear it."""
        self.send(payload, to=f"{service}.events", key=name, headers=headers)

    def listen(self, service: str, pattern: str = "#") -> Inbox:
        """Hear a service's events from now on."""
        binding = Binding(event_exchange(service), pattern)
        inbox, _ = self.doors.consuming(Queue(f"outside-{uuid4().hex}", exclusive=True, bindings=(binding,)))
        return inbox

    def take_all(self, queue: Queue) -> list[Delivery]:
        """Everything that waits in a queue; it is acknowledged."""
        inbox, consumer = self.doors.consuming(queue, Verdict.ACK)
        self.send(b"the last one", key=queue.name)
        taken: list[Delivery] = []
        while (delivery := inbox.next()).body != b"the last one":
            taken.append(delivery)
        consumer.stop(0.0)
        return taken

    def close(self) -> None:
        self.doors.close()


class Calls:
    """The calls of a recording service, as they come."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[tuple[Any, CallInfo]] = SimpleQueue()

    def next(self) -> Any:
        """The payload of the next call."""
        return self.next_call()[0]

    def next_call(self) -> tuple[Any, CallInfo]:
        """Payload and context of the next call."""
        return self.queue.get(timeout=SECONDS)

    def several(self, count: int) -> list[Any]:
        return [self.next() for _ in range(count)]

    def rest(self) -> list[Any]:
        """What has come by now; ask when the service has stopped."""
        found = []
        while not self.queue.empty():
            found.append(self.next())
        return found


def recording(
    *entrypoints: Entrypoint,
    name: str = "orders",
    then: Callable[[Any], object] = lambda payload: None,
    attributes: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[type, Calls]:
    """A service class ``Orders`` whose method ``handle`` writes its calls down, and what it writes to.

    Args:
        entrypoints: What drives it.
        name: The service's name.
        then: Called with the payload afterwards.
        attributes: Further attributes of the class.
        options: For `route`.
    """
    calls = Calls()

    class Orders:
        context = CallContext()

        @route(*entrypoints, **options)
        def handle(self, payload: Any) -> object:
            calls.queue.put((payload, self.context))
            return then(payload)

    Orders.name = name  # type: ignore[attr-defined]
    for attribute, value in (attributes or {}).items():
        setattr(Orders, attribute, value)
        if hasattr(value, "__set_name__"):
            value.__set_name__(Orders, attribute)
    return Orders, calls


def given(runner: Runner, dependency: str, stack: Sequence[str] = ("orders.handle.1",), **context: Any) -> Any:
    """What a call of the runner's first target would get for a dependency."""
    bound_route = runner.assembly.routes[0]
    call = Call(CallIdentity("orders", "handle", tuple(stack)), context=context)
    worker: Any = SimpleNamespace(call=call, host=bound_route.host)
    return dict(bound_route.plan.target.attributes)[dependency].get_dependency(worker)


def let_end_at_stop(runner: Runner, may_end: Event) -> None:
    """Set an event when the stop has begun: nothing is received any more, the pool is told, and doors are open yet."""
    spawner: Any = runner.assembly.spawners["default"]
    finish = spawner.finish_waiting

    def finish_and_tell() -> None:
        finish()
        may_end.set()

    spawner.finish_waiting = finish_and_tell
