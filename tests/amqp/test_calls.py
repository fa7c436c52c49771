"""`RPCProxy` and `ClusterRPCProxy` in running services: calls over several hops, and what may be declared."""

import math
import threading
import time
from queue import SimpleQueue
from typing import Any

import pytest

from micro_framework.amqp.dependencies import ClusterRPCProxy, Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.dependencies import CallContext, Dependency, RunningCall
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import DeclarationError, RemoteError, RPCTimeout, UnknownService
from micro_framework.routes import Route
from micro_framework.runner import Runner, RunnerContext
from micro_framework.testing import running, wait_for
from tests.amqp.peers import RawCaller
from tests.outside import SECONDS, Outside


@pytest.fixture
def caller(outside: Outside) -> RawCaller:
    return RawCaller(outside)


class Stock:
    name = "stock"
    context = CallContext()

    @RPCListener()
    def take(self, item, count=1):
        if item == "nothing":
            raise KeyError(item)
        return [item, count, dict(self.context.data), list(self.context.call_id_stack)]


class Payments:
    name = "payments"
    rpc = ClusterRPCProxy()
    context = CallContext()

    @RPCListener()
    def charge(self, item):
        self.context.data["charged"] = True
        return self.rpc["stock"]["take"](item, count=2)


class Orders:
    name = "orders"
    payments = RPCProxy("payments")
    stock = RPCProxy("stock")
    missing = RPCProxy("nobody-there")
    rpc = ClusterRPCProxy(timeout=5)

    @RPCListener()
    def create(self, item):
        return self.payments.charge(item)

    @RPCListener()
    def fan_out(self, count):
        calls = [self.stock.take.call_async("a", number) for number in range(count)]
        return [call.result()[1] for call in calls]

    @RPCListener()
    def ways(self):
        return [
            self.stock.take("a")[0],
            self.stock["take"]("b")[0],
            self.rpc.stock.take("c")[0],
            self.stock.take.with_timeout(5)("d")[0],
            self.stock.take.with_timeout(math.inf).call_async("e").result()[0],
        ]

    @RPCListener()
    def nobody(self):
        return self.missing.method()


SERVICES = [Orders, Payments, Stock]


def test_context_data_and_the_stack_of_calls_travel_over_three_hops(broker_uri: str, caller: RawCaller) -> None:
    with running(*SERVICES, config={"AMQP_URI": broker_uri}):
        headers = {"nameko.user_id": 7, "nameko.call_id_stack": ["web.get.0"], "mf-own": "never travels on"}
        answer = caller.ask("orders.create", {"args": ["book"], "kwargs": {}}, headers=headers)
    item, count, data, stack = answer["result"]
    assert (item, count, data) == ("book", 2, {"user_id": 7, "charged": True})
    assert stack[0] == "web.get.0"
    assert [each.rpartition(".")[0] for each in stack[1:]] == ["orders.create", "payments.charge", "stock.take"]


def test_errors_lose_their_class_from_hop_to_hop_as_in_nameko(broker_uri: str, caller: RawCaller) -> None:
    with running(*SERVICES, config={"AMQP_URI": broker_uri}):
        kind, text = caller.error("orders.create", {"args": ["nothing"], "kwargs": {}})
        assert (kind, text) == ("RemoteError", "RemoteError KeyError 'nothing'")
        assert caller.error("orders.nobody") == ("UnknownService", "Unknown service `nobody-there`")


def test_every_way_to_call(broker_uri: str, caller: RawCaller) -> None:
    with running(*SERVICES, config={"AMQP_URI": broker_uri}):
        assert caller.result("orders.ways") == ["a", "b", "c", "d", "e"]


def test_fifty_calls_at_once(broker_uri: str, caller: RawCaller) -> None:
    with running(*SERVICES, config={"AMQP_URI": broker_uri}):
        assert caller.result("orders.fan_out", 50) == list(range(50))


def test_a_function_gets_a_proxy_by_its_name(broker_uri: str, caller: RawCaller) -> None:
    def relay(item, stock):
        return stock.take(item)[0]

    relaying = Route(relay, RPCListener(), dependencies={"stock": RPCProxy("stock")})
    with running(relaying, Stock, config={"AMQP_URI": broker_uri, "SERVICE_NAME": "relay"}):
        assert caller.result("relay.relay", "a") == "a"


def test_a_service_may_call_itself_where_it_has_workers_to_spare(broker_uri: str, caller: RawCaller) -> None:
    class Recursive:
        name = "recursive"
        own = RPCProxy("recursive")

        @RPCListener()
        def down(self, number):
            return [number, *(self.own.down(number - 1) if number else [])]

    with running(Recursive, config={"AMQP_URI": broker_uri, "MAX_WORKERS": 5}):
        assert caller.result("recursive.down", 3) == [3, 2, 1, 0]


def test_events_and_timers_call_too(broker_uri: str, outside: Outside) -> None:
    class Hearing:
        name = "hearing"
        stock = RPCProxy("stock")

        @EventListener("source", "event")
        def hear(self, payload):
            return self.stock.take(payload)[0]

    with running(Hearing, Stock, config={"AMQP_URI": broker_uri}) as runner:
        with wait_for(runner, "Hearing.hear", SECONDS) as heard:
            outside.event("source", "event", "a")
        assert heard.result() == "a"
        assert heard.call is not None
        assert heard.call.deadline is None


# -- deadlines over several hops


class Inner:
    name = "inner"
    deadlines: SimpleQueue[float | None] = SimpleQueue()
    release = threading.Event()

    class OfCall(Dependency[float | None]):
        def get_dependency(self, worker: RunningCall) -> float | None:
            return worker.call.deadline

    deadline = OfCall()

    @RPCListener()
    def wait(self):
        self.deadlines.put(self.deadline)
        self.release.wait(SECONDS)


class Outer:
    name = "outer"
    inner = RPCProxy("inner", timeout=1000)
    dispatch = Producer()
    ended: SimpleQueue[BaseException] = SimpleQueue()

    @RPCListener()
    def call(self):
        try:
            self.inner.wait()
        except RPCTimeout as error:
            self.ended.put(error)
            self.dispatch("timed_out")
            raise


def test_what_is_left_of_the_deadline_is_inherited_and_nothing_outlives_it(
    broker_uri: str, outside: Outside, caller: RawCaller
) -> None:
    Inner.release.clear()
    try:
        with running(Outer, Inner, config={"AMQP_URI": broker_uri}):
            events = outside.listen("outer")
            deadline = int((time.time() + 4) * 1000)
            caller.send("outer.call", headers={"mf-deadline": deadline})
            found = Inner.deadlines.get(timeout=SECONDS)
            assert found is not None
            assert found * 1000 <= deadline
            error = Outer.ended.get(timeout=SECONDS)
            assert str(error).startswith("inner.wait did not answer within ")
            assert time.time() * 1000 >= deadline - 1
            assert [name for name in events.next().headers if "deadline" in name] == []
            Inner.release.set()
            assert caller.answer()["error"]["exc_type"] == "RPCTimeout"
    finally:
        Inner.release.set()


# -- declarations


def calling(proxy: Any) -> type:
    class Calling:
        name = "calling"
        remote = proxy

        @TimeEntrypoint(3600)
        def tick(self): ...

    return Calling


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        (RPCProxy(""), "RPCProxy: service_name must not be empty"),
        (RPCProxy(5), "RPCProxy: service_name must be a string, not 5"),  # type: ignore[arg-type]
        (RPCProxy("payments", timeout=0), "RPCProxy: a timeout is a number of seconds above 0"),
        (RPCProxy("payments", timeout="2"), "not '2'"),  # type: ignore[arg-type]
        (ClusterRPCProxy(timeout=-1), "ClusterRPCProxy: a timeout is a number of seconds above 0"),
    ],
)
def test_declarations_that_cannot_work_are_refused(proxy: Any, text: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        Runner([calling(proxy)], {"AMQP_URI": "memory://"})
    assert text in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(DeclarationError) as caught:
        Runner([calling(RPCProxy("", timeout=0))], {"AMQP_URI": "memory://"})
    assert len(caught.value.problems) == 2


def test_a_missing_uri_names_both_ways_out() -> None:
    with pytest.raises(DeclarationError, match="AMQP_URI is missing"):
        Runner([calling(RPCProxy("payments"))], {})


def test_every_context_calls_by_the_same_connection(broker_uri: str, caller: RawCaller) -> None:
    other = type("Other", (Orders,), {"name": "other"})
    services = [Orders, RunnerContext([other], name="second"), Stock, Payments]
    with running(*services, config={"AMQP_URI": broker_uri}) as runner:
        assert caller.result("other.ways") == caller.result("orders.ways")
        doors = [str(each) for each in runner.started if str(each) == "connection for RPC calls"]
    assert doors == ["connection for RPC calls"]


def test_the_errors_are_importable_where_they_are_documented() -> None:
    from micro_framework.rpc import RPCFuture, RPCManager, TargetInfo, discover, register_exception

    assert all((RPCFuture, RPCManager, TargetInfo, discover, register_exception, RemoteError, UnknownService))
