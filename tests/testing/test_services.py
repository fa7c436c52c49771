"""The helpers for tests of services, used as a user uses them."""

import os
from typing import Any
from unittest.mock import MagicMock

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.dependencies import CallContext
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import DeclarationError
from micro_framework.routes import Route
from micro_framework.testing import ManualClock, client_for, producer_for, running, wait_for, worker_for
from tests.outside import given


class Orders:
    name = "orders"
    dispatch = Producer()
    context = CallContext()

    @EventListener("orders", "created")
    def create(self, payload: Any) -> Any:
        if payload == "bad":
            raise ValueError("no such order")
        return payload


class Ticking:
    name = "ticking"

    @TimeEntrypoint(1)
    def tick(self) -> int:
        return os.getpid()


def handle(payload: Any) -> str:
    return f"handled {payload}"


def test_an_instance_has_doubles_for_all_its_dependencies() -> None:
    fake = MagicMock()
    orders = worker_for(Orders, dispatch=fake)
    orders.dispatch("created", 1)
    fake.assert_called_once_with("created", 1)
    assert isinstance(orders.context, MagicMock)
    assert orders.create(5) == 5


@pytest.mark.parametrize(
    ("service", "text"),
    [
        (Orders, "Orders has no dependency paymnets; it has dispatch, context"),
        (ManualClock, "ManualClock has no dependency paymnets; it has none at all"),
    ],
)
def test_a_double_for_no_dependency_is_refused(service: type, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        worker_for(service, paymnets=1)
    assert str(caught.value) == text


def test_a_service_runs_in_a_block_on_a_broker_of_its_own() -> None:
    with running(Orders) as first, running(Orders) as second:
        assert first.ready
        assert first.settings.amqp_uri != second.settings.amqp_uri
        with wait_for(first, "Orders.create") as waited:
            given(first, "dispatch")("created", {"id": 1})
    assert waited.result() == {"id": 1}
    assert not first.ready


def test_the_given_configuration_and_clock_are_used() -> None:
    clock = ManualClock()
    with running(Orders, config={"AMQP_URI": "memory://mine", "MINE": 1}, clock=clock) as runner:
        assert (runner.settings.amqp_uri, runner.settings.raw["MINE"], runner.clock) == ("memory://mine", 1, clock)


def test_a_service_with_worker_processes_runs_in_a_block() -> None:
    config, clock = {"WORKER_MODE": "process", "MAX_WORKERS": 1}, ManualClock()
    with running(Ticking, config=config, clock=clock) as runner, wait_for(runner, "Ticking.tick", 30) as waited:
        clock.advance(1)
    assert waited.result() != os.getpid()


def test_one_that_needs_a_broker_has_to_say_which() -> None:
    with pytest.raises(DeclarationError, match="AMQP_URI is missing"):
        with running(Orders, config={"WORKER_MODE": "process"}):
            pass


def test_waiting_for_a_function_by_its_path() -> None:
    declared = Route(handle, EventListener("orders", "created"))
    with running(Orders, declared, config={"SERVICE_NAME": "shop"}) as runner:
        with wait_for(runner, f"{__name__}.handle") as waited:
            given(runner, "dispatch")("created", 7)
    assert waited.result() == "handled 7"
    assert waited.call is not None
    assert waited.call.args == (7,)


def test_the_result_of_a_call_that_failed_is_its_error() -> None:
    with running(Orders) as runner:
        with wait_for(runner, "Orders.create") as waited:
            given(runner, "dispatch")("created", "bad")
    with pytest.raises(ValueError, match="no such order"):
        waited.result()


def test_only_the_first_call_counts() -> None:
    with running(Orders, config={"MAX_WORKERS": 1}) as runner:
        with wait_for(runner, "Orders.create") as waited:
            given(runner, "dispatch").many(("created", number) for number in range(3))
    assert waited.result() == 0


def test_two_may_wait_at_the_same_time() -> None:
    with running(Orders) as runner:
        with wait_for(runner, "Orders.create") as outer, wait_for(runner, "Orders.create") as inner:
            given(runner, "dispatch")("created", 1)
    assert outer.result() == inner.result() == 1
    assert runner.observers == []


def test_the_result_is_not_known_inside_the_block() -> None:
    with running(Orders) as runner:
        with wait_for(runner, "Orders.create") as waited:
            with pytest.raises(RuntimeError, match="the call has not ended; ask after the wait_for block"):
                waited.result()
            given(runner, "dispatch")("created", 1)


def test_waiting_for_an_unknown_target_names_the_known_ones() -> None:
    with running(Orders) as runner:
        with pytest.raises(ValueError, match=r"the runner has no target 'Orders.crate'; it has Orders.create"):
            with wait_for(runner, "Orders.crate"):
                pass


def test_waiting_in_vain_has_an_end() -> None:
    class Idle:
        name = "idle"

        @TimeEntrypoint(60)
        def tick(self) -> None: ...

    with running(Idle, clock=ManualClock()) as runner:
        with pytest.raises(TimeoutError, match=r"no call of Idle\.tick ended within 0\.01 s"):
            with wait_for(runner, "Idle.tick", timeout=0.01):
                pass
        assert runner.observers == []


def test_an_error_in_the_block_is_not_waited_out() -> None:
    with running(Orders) as runner:
        with pytest.raises(KeyError), wait_for(runner, "Orders.create", timeout=60):
            raise KeyError("mine")
        assert runner.observers == []


class Adding:
    name = "adding"
    context = CallContext()

    @RPCListener()
    def add(self, a: int, b: int) -> Any:
        return a + b, self.context.data

    @EventListener("source", "added")
    def hear(self, payload: Any) -> Any:
        return payload, self.context.data


def test_a_client_calls_what_runs() -> None:
    with running(Adding) as runner, client_for(runner, timeout=30, context_data={"user_id": 7}) as rpc:
        assert rpc.adding.add(1, b=2) == [3, {"user_id": 7}]


def test_a_producer_dispatches_to_what_runs_as_any_service() -> None:
    with running(Adding) as runner, producer_for(runner, "source", {"user_id": 7}) as dispatch:
        with wait_for(runner, "Adding.hear") as heard:
            dispatch("added", 5)
    assert heard.result() == (5, {"user_id": 7})
