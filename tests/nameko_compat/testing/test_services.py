"""Nameko's helpers for tests: doubles, calling a method directly, waiting for one."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from nameko_compat.containers import ServiceContainer
from nameko_compat.events import EventDispatcher, event_handler
from nameko_compat.exceptions import ExtensionNotFound
from nameko_compat.extensions import DependencyProvider
from nameko_compat.rpc import RpcProxy, rpc
from nameko_compat.testing.services import (
    EntrypointWaiterTimeout,
    dummy,
    entrypoint_hook,
    entrypoint_waiter,
    once,
    replace_dependencies,
    restrict_entrypoints,
    worker_factory,
)
from nameko_compat.testing.waiting import WaitResult
from nameko_compat.timer import timer
from tests.nameko_compat.peers import Context, Notes
from tests.outside import SECONDS, Outside, memory_uri


class Orders:
    name = "orders"
    payments = RpcProxy("payments")
    dispatch = EventDispatcher()
    context = Context()
    notes = Notes()

    @rpc
    def create(self, number: int) -> Any:
        return [number, self.payments.charge(number)]  # type: ignore[attr-defined]

    @dummy
    def whoami(self) -> Any:
        return self.context.data  # type: ignore[attr-defined]

    @rpc
    def fail(self) -> None:
        raise ValueError("no")

    @event_handler("payments", "paid")
    def paid(self, number: int) -> int:
        if number < 0:
            raise ValueError(number)
        return number + 1

    @timer(interval=3600, eager=True)
    def tick(self) -> None:
        self.notes("ticked")


@pytest.fixture
def config() -> dict[str, Any]:
    return {"AMQP_URI": memory_uri()}


@pytest.fixture
def container(config: dict[str, Any]) -> Iterator[ServiceContainer]:
    Orders.notes = Notes()
    made = ServiceContainer(Orders, config)
    yield made
    made.stop()


@pytest.fixture
def outside(config: dict[str, Any]) -> Iterator[Outside]:
    other = Outside(config["AMQP_URI"])
    yield other
    other.close()


def test_an_instance_is_made_with_doubles() -> None:
    orders = worker_factory(Orders, dispatch="a double")
    orders.payments.charge.return_value = 7
    assert orders.create(1) == [1, 7]
    assert orders.dispatch == "a double"
    with pytest.raises(ExtensionNotFound, match="nothing"):
        worker_factory(Orders, nothing=1)


def test_a_method_is_called_as_its_entrypoint_would(container: ServiceContainer) -> None:
    payments = replace_dependencies(container, "payments")
    payments.charge.return_value = "charged"
    container.start()
    with entrypoint_hook(container, "create") as create:
        assert create(1) == [1, "charged"]
        assert create(number=2) == [2, "charged"]
    payments.charge.assert_called_with(2)
    with entrypoint_hook(container, "whoami", context_data={"language": "de"}) as whoami:
        assert whoami() == {"language": "de"}
    with entrypoint_hook(container, "fail") as fail, pytest.raises(ValueError, match="no"):
        fail()
    with entrypoint_hook(container, "create") as create, pytest.raises(TypeError, match="argument"):
        create()
    with pytest.raises(ExtensionNotFound, match="nothing"), entrypoint_hook(container, "nothing"):
        pass


def test_a_hook_raises_what_keeps_its_method_from_running(config: dict[str, Any]) -> None:
    class Broken(DependencyProvider):
        def get_dependency(self, worker_ctx: Any) -> Any:
            raise ConnectionError("no database")

    class Service:
        name = "service"
        broken = Broken()

        @dummy
        def call(self) -> None: ...

    container = ServiceContainer(Service, config)
    container.start()
    with entrypoint_hook(container, "call") as call, pytest.raises(ConnectionError, match="no database"):
        call()
    container.stop()


def test_a_call_is_waited_for_and_its_result_is_there(container: ServiceContainer, outside: Outside) -> None:
    container.start()
    with entrypoint_waiter(container, "paid", timeout=SECONDS) as result:
        with pytest.raises(WaitResult.NotReady):
            result.get()
        outside.event("payments", "paid", 7)
    assert result.get() == 8
    with entrypoint_waiter(container, "paid", timeout=SECONDS) as result:
        outside.event("payments", "paid", -1)
    with pytest.raises(ValueError, match="-1"):
        result.get()


def test_a_callback_says_which_call_is_the_one(container: ServiceContainer, outside: Outside) -> None:
    container.start()

    def third(worker_ctx: Any, result: Any, exc_info: Any) -> bool:
        return bool(result == 4)

    with entrypoint_waiter(container, "paid", SECONDS, callback=third) as result:
        for number in (1, 2, 3):
            outside.event("payments", "paid", number)
    assert result.get() == 4


def test_a_call_that_does_not_come_is_told(container: ServiceContainer) -> None:
    container.start()
    with (
        pytest.raises(EntrypointWaiterTimeout, match=r"Timeout on orders\.paid after 0\.01 seconds"),
        entrypoint_waiter(container, "paid", timeout=0.01),
    ):
        pass
    assert entrypoint_waiter.Timeout is EntrypointWaiterTimeout
    with pytest.raises(RuntimeError, match="no entrypoint `nothing`"), entrypoint_waiter(container, "nothing"):
        pass
    assert container.watchers == []


def test_dependencies_are_replaced_before_the_start(container: ServiceContainer) -> None:
    first, second = replace_dependencies(container, "payments", "dispatch", context="stub")
    assert isinstance(first, MagicMock)
    assert isinstance(second, MagicMock)
    with pytest.raises(ExtensionNotFound, match="nothing"):
        replace_dependencies(container, "nothing")
    with pytest.raises(RuntimeError, match="both args and kwargs: payments"):
        replace_dependencies(container, "payments", payments=1)
    container.start()
    with pytest.raises(RuntimeError, match="before the container is started"):
        replace_dependencies(container, "payments")


def test_entrypoints_are_left_out_before_the_start(container: ServiceContainer) -> None:
    restrict_entrypoints(container, "create")
    assert [entrypoint.method_name for entrypoint in container.entrypoints] == ["create"]
    with pytest.raises(ExtensionNotFound, match="paid"):
        restrict_entrypoints(container, "paid")
    container.start()
    with pytest.raises(RuntimeError, match="before the container is started"):
        restrict_entrypoints(container, "create")
    assert Orders.notes.queue.empty()


def test_once_calls_once(config: dict[str, Any]) -> None:
    notes = Notes()

    class Service:
        name = "service"

        @once("hello", loud=True)
        def call(self, word: str, loud: bool) -> None:
            notes(word, loud)

    container = ServiceContainer(Service, config)
    container.start()
    assert notes.next() == ("hello", True)
    container.stop()
