"""Containers of Nameko services: calls, hooks in Nameko's order, third-party entrypoints, threads, the end."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from micro_framework.exceptions import DeclarationError
from nameko_compat.containers import ExtensionSet, ServiceContainer, get_container_cls, get_service_name
from nameko_compat.events import EventDispatcher, event_handler
from nameko_compat.exceptions import ConfigurationError, ContainerBeingKilled
from nameko_compat.extensions import DependencyProvider, Entrypoint, ProviderCollector, SharedExtension
from nameko_compat.managed import pause
from nameko_compat.rpc import RpcProxy, rpc
from nameko_compat.standalone.rpc import ServiceRpcProxy
from tests.nameko_compat.peers import Context, Notes
from tests.outside import SECONDS, Outside, memory_uri


class Hooks(DependencyProvider):
    """Notes every hook."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def setup(self) -> None:
        self.notes("setup")

    def start(self) -> None:
        self.notes("start")

    def stop(self) -> None:
        self.notes("stop")

    def kill(self) -> None:
        self.notes("kill")

    def get_dependency(self, worker_ctx: Any) -> Any:
        self.notes("get_dependency")
        return self.notes

    def worker_setup(self, worker_ctx: Any) -> None:
        self.notes("worker_setup")

    def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
        self.notes("worker_result", result, exc_info and str(exc_info[1]))

    def worker_teardown(self, worker_ctx: Any) -> None:
        self.notes("worker_teardown")


class Source(SharedExtension, ProviderCollector):
    """Something that third-party entrypoints share: fires all of them from a managed thread."""

    def __init__(self) -> None:
        super().__init__()
        self.fire = threading.Event()

    def start(self) -> None:
        self.container.spawn_managed_thread(self.run)

    def run(self) -> None:
        while not self.fire.is_set():
            pause(0.01)
        for provider in tuple(self._providers):
            provider.fire("fired")


class Fired(Entrypoint):
    """A third-party entrypoint."""

    source = Source()

    def __init__(self, notes: Notes, **kwargs: Any) -> None:
        self.notes = notes
        super().__init__(**kwargs)

    def setup(self) -> None:
        self.source.register_provider(self)

    def stop(self) -> None:
        self.source.unregister_provider(self)
        self.notes("entrypoint stopped")

    def fire(self, argument: Any) -> None:
        self.container.spawn_worker(
            self, (argument,), {}, context_data={"language": "de"}, handle_result=self.handle_result
        )

    def handle_result(self, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        self.notes("handle_result", result, exc_info and str(exc_info[1]))
        return f"handled {result}", exc_info


fired = Fired.decorator


@pytest.fixture
def config() -> dict[str, Any]:
    return {"AMQP_URI": memory_uri()}


@pytest.fixture
def outside(config: dict[str, Any]) -> Iterator[Outside]:
    other = Outside(config["AMQP_URI"])
    yield other
    other.close()


def entrypoint_of(container: ServiceContainer) -> Any:
    """Its one entrypoint."""
    (found,) = container.entrypoints
    return found


def test_an_rpc_goes_through_the_hooks_in_namekos_order(config: dict[str, Any], outside: Outside) -> None:
    notes = Notes()

    class Orders:
        name = "orders"
        hooks = Hooks(notes)

        @rpc
        def create(self, number: int) -> int:
            notes("called", number)
            return number + 1

    container = ServiceContainer(Orders, config)
    container.start()
    with ServiceRpcProxy("orders", config, timeout=SECONDS) as orders:
        assert orders.create(1) == 2
    container.stop()
    assert notes.several(8) == [
        *["setup", "start", "get_dependency", "worker_setup", ("called", 1)],
        *[("worker_result", 2, None), "worker_teardown", "stop"],
    ]


def test_the_hooks_hear_of_an_error(config: dict[str, Any], outside: Outside) -> None:
    notes = Notes()

    class Orders:
        name = "orders"
        hooks = Hooks(notes)

        @event_handler("payments", "paid")
        def paid(self, payload: Any) -> None:
            raise ValueError(payload)

    container = ServiceContainer(Orders, config)
    container.start()
    outside.event("payments", "paid", "no")
    assert notes.several(4) == ["setup", "start", "get_dependency", "worker_setup"]
    assert notes.several(2) == [("worker_result", None, "no"), "worker_teardown"]
    container.stop()


def test_a_third_party_entrypoint_fires_through_spawn_worker(config: dict[str, Any]) -> None:
    notes = Notes()

    class Orders:
        name = "orders"
        hooks = Hooks(notes)
        context = Context()

        @fired(notes)
        def handle(self, argument: str) -> str:
            notes(argument, self.context.data, len(self.context.call_id_stack))  # type: ignore[attr-defined]
            return "result"

    container = ServiceContainer(Orders, config)
    container.start()
    entrypoint_of(container).source.fire.set()
    assert notes.several(4) == ["setup", "start", "get_dependency", "worker_setup"]
    assert notes.several(2) == [("fired", {"language": "de"}, 1), ("handle_result", "result", None)]
    assert notes.several(2) == [("worker_result", "handled result", None), "worker_teardown"]
    container.stop()
    assert notes.several(2) == ["entrypoint stopped", "stop"]


def test_a_dependency_that_cannot_be_set_up_fails_what_was_spawned(config: dict[str, Any]) -> None:
    notes = Notes()

    class Broken(DependencyProvider):
        def worker_setup(self, worker_ctx: Any) -> None:
            raise ConnectionError("no database")

        def worker_teardown(self, worker_ctx: Any) -> None:
            notes("teardown")

    class Orders:
        name = "orders"
        broken = Broken()

        @fired(notes)
        def handle(self, argument: str) -> None:
            notes("never")

    container = ServiceContainer(Orders, config)
    container.start()
    entrypoint_of(container).fire("x")
    assert notes.several(2) == [("handle_result", None, "no database"), "teardown"]
    container.stop()


def test_a_message_whose_dependency_cannot_be_set_up_is_delivered_again(
    config: dict[str, Any], outside: Outside
) -> None:
    notes, states = Notes(), iter([ConnectionError("no database"), None])

    class Flaky(DependencyProvider):
        def worker_setup(self, worker_ctx: Any) -> None:
            if (error := next(states)) is not None:
                raise error

    class Orders:
        name = "orders"
        flaky = Flaky()

        @event_handler("payments", "paid")
        def paid(self, payload: Any) -> None:
            notes(payload)

    container = ServiceContainer(Orders, config)
    container.start()
    outside.event("payments", "paid", 7)
    assert notes.next() == 7
    container.stop()


def test_a_managed_thread_that_fails_kills_the_container(config: dict[str, Any]) -> None:
    notes = Notes()

    class Failing(DependencyProvider):
        def start(self) -> None:
            self.container.spawn_managed_thread(self.run)

        def run(self) -> None:
            raise RuntimeError("broken")

    class Orders:
        name = "orders"
        hooks = Hooks(notes)
        failing = Failing()

        @fired(notes)
        def handle(self, argument: str) -> None: ...

    container = ServiceContainer(Orders, config)
    with contextlib.suppress(RuntimeError):  # it may be seen in time to be told
        container.start()
    with pytest.raises(RuntimeError, match="broken"):
        container.wait()
    with pytest.raises(ContainerBeingKilled):
        entrypoint_of(container).fire("x")
    assert "kill" in notes.several(3)
    container.stop()


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_calls_that_wait_for_a_worker_run_before_the_stop_and_not_when_killed(
    config: dict[str, Any], ending: str
) -> None:
    notes, entered, may_end = Notes(), threading.Event(), threading.Event()

    class Orders:
        name = "orders"

        @fired(notes)
        def handle(self, argument: str) -> str:
            entered.set()
            assert may_end.wait(SECONDS)
            return argument

    container = ServiceContainer(Orders, {**config, "max_workers": 1})
    container.start()
    for argument in ("first", "second"):
        entrypoint_of(container).fire(argument)
    assert entered.wait(SECONDS)
    stopping = threading.Thread(target=getattr(container, ending))
    stopping.start()
    if ending == "kill":
        was_not_run = notes.next()
        assert (was_not_run[0], was_not_run[1]) == ("handle_result", None)
        assert "was not run" in was_not_run[2]
    may_end.set()
    stopping.join(SECONDS)
    if ending == "stop":
        results = [note[1] for note in notes.several(3) if note[0] == "handle_result"]
        assert results == ["first", "second"]


def test_what_an_extension_raises_at_the_start_is_raised_by_it(config: dict[str, Any]) -> None:
    class Failing(DependencyProvider):
        def setup(self) -> None:
            raise LookupError("no such database")

    class Orders:
        name = "orders"
        failing = Failing()

        @rpc
        def create(self) -> None: ...

    with pytest.raises(LookupError, match="no such database"):
        ServiceContainer(Orders, config).start()


def test_the_end_is_waited_for(config: dict[str, Any]) -> None:
    class Orders:
        name = "orders"
        hooks = Hooks(Notes())

    container = ServiceContainer(Orders, config)
    container.start()
    waiting = threading.Thread(target=container.wait)
    waiting.start()
    container.stop()
    waiting.join(SECONDS)
    assert not waiting.is_alive()
    container.kill()  # of no effect any more
    container.wait()


def test_what_was_declared_is_not_changed_by_a_container(config: dict[str, Any]) -> None:
    class Orders:
        name = "orders"
        payments = RpcProxy("payments")
        dispatch = EventDispatcher()

        @rpc
        def create(self) -> None: ...

    first, second = ServiceContainer(Orders, config), ServiceContainer(Orders, config)
    assert not Orders.payments.is_bound()
    assert set(first.extensions).isdisjoint(second.extensions)
    assert {extension.attr_name for extension in first.dependencies} == {"payments", "dispatch"}
    with pytest.raises(RuntimeError, match="bind its prototype"):
        next(iter(first.dependencies)).bind(second, "payments")


def test_shared_extensions_are_there_once(config: dict[str, Any]) -> None:
    class Orders:
        name = "orders"

        @fired(Notes())
        def one(self, argument: str) -> None: ...

        @fired(Notes())
        def two(self, argument: str) -> None: ...

    container = ServiceContainer(Orders, config)
    assert len(container.entrypoints) == 2
    assert len(container.subextensions) == 1


def test_what_keeps_it_from_running_is_told(config: dict[str, Any]) -> None:
    class Nameless: ...

    class Misnamed:
        name = 7

    class Orders:
        name = "orders"

        @rpc
        def create(self) -> None: ...

    with pytest.raises(ConfigurationError, match="must define a `name`"):
        get_service_name(Nameless)
    with pytest.raises(ConfigurationError, match="must be a string"):
        get_service_name(Misnamed)
    with pytest.raises(ConfigurationError, match="PROCESSES"):
        ServiceContainer(Orders, {**config, "WORKER_MODE": "process"}).start()
    with pytest.raises(DeclarationError, match="AMQP_URI"):
        ServiceContainer(Orders, {}).start()
    container = ServiceContainer(Orders, config)
    with pytest.raises(RuntimeError, match="has not been started"):
        container.spawn_worker(entrypoint_of(container), (), {})


def test_the_class_of_containers_can_be_named() -> None:
    assert get_container_cls({}) is ServiceContainer
    assert get_container_cls({"SERVICE_CONTAINER_CLS": "nameko_compat.containers.ExtensionSet"}) is ExtensionSet


def test_a_set_of_extensions_calls_all_in_order() -> None:
    notes = Notes()
    items = ExtensionSet([Hooks(notes), Hooks(notes)])
    items.all.worker_setup(None)
    assert notes.several(2) == ["worker_setup", "worker_setup"]
    first, second = items
    items.discard(first)
    items.add(second)
    assert list(items) == [second]
    assert first not in items
