"""RPC methods of one service in several contexts: a slow one must not hold up a fast one."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.amqp.lanes import Lane, LaneRequest, lane_queue, moved_key
from micro_framework.brokers.port import Verdict
from micro_framework.routes import route
from micro_framework.rpc import RPCFuture
from micro_framework.standalone import RPCClient
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.messages import Properties

SECONDS = 20.0
CONTEXTS = {"fast": {"MAX_WORKERS": 2}, "slow": {"MAX_WORKERS": 2}}


class Request:
    """A delivery that notes its verdicts."""

    body, content_type, content_encoding, queue, redelivered = b"{}", "application/json", "utf-8", "rpc-orders", False
    exchange, routing_key = "nameko-rpc", "orders.create"

    def __init__(self, **headers: Any) -> None:
        self.properties = Properties(headers=headers, correlation_id="1", reply_to="there")
        self.verdicts: list[Verdict] = []

    @property
    def headers(self) -> Any:
        return self.properties.headers

    def settle(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)


def test_a_lane_lets_in_no_more_than_its_share() -> None:
    lane = Lane(lane_queue("orders", "slow"), 2)
    assert [lane.enter(), lane.enter(), lane.enter()] == [True, True, False]
    lane.leave()
    assert lane.enter()


def test_a_request_leaves_its_lane_with_its_first_verdict() -> None:
    lane, request = Lane(lane_queue("orders", "slow"), 1), Request()
    assert lane.enter()
    counted = LaneRequest(request, "orders.create", lane)
    counted.settle(Verdict.ACK)
    counted.settle(Verdict.REQUEUE)
    assert request.verdicts == [Verdict.ACK, Verdict.REQUEUE]
    assert lane.taken == 0


def test_a_moved_request_is_the_same_and_knows_where_it_was_sent() -> None:
    lane, request = Lane(lane_queue("orders", "slow"), 1), Request(language="en")
    moved = lane.moved(request)
    assert (moved.exchange, moved.routing_key, moved.body, moved.mandatory) == ("", "rpc-orders.slow", b"{}", True)
    assert (moved.properties.correlation_id, moved.properties.reply_to) == ("1", "there")
    arrived = Request(**moved.properties.headers)
    assert moved_key(arrived) == "orders.create"
    as_sent = LaneRequest(arrived, moved_key(arrived), None)
    assert (as_sent.routing_key, as_sent.headers["language"], as_sent.queue) == ("orders.create", "en", "rpc-orders")
    as_sent.settle(Verdict.ACK)
    assert replace(as_sent.properties, headers={}) == replace(request.properties, headers={})


class Orders:
    """A slow method and a fast one, each in a context of its own."""

    name = "orders"
    release = threading.Event()
    started = threading.Semaphore(0)

    @route(RPCListener(), context="slow")
    def wait(self, number: int) -> int:
        self.started.release()
        assert self.release.wait(SECONDS)
        return number

    @route(RPCListener(), context="fast")
    def quick(self, number: int) -> int:
        return number


@pytest.fixture
def held_up() -> Iterator[type[Orders]]:
    Orders.release.clear()
    yield Orders
    Orders.release.set()


def test_a_context_that_is_taken_up_does_not_hold_up_another(broker_uri: str, held_up: type[Orders]) -> None:
    with running(held_up, config={"AMQP_URI": broker_uri, "CONTEXTS": CONTEXTS}), RPCClient(broker_uri, SECONDS) as rpc:
        slow: list[RPCFuture] = [rpc.orders.wait.call_async(number) for number in range(50)]
        assert held_up.started.acquire(timeout=SECONDS)
        assert [rpc.orders.quick(number) for number in range(20)] == list(range(20))
        assert not any(call.done() for call in slow)
        held_up.release.set()
        assert [call.result() for call in slow] == list(range(50))


def test_what_waits_is_in_the_contexts_own_queue(rabbit: VHost, held_up: type[Orders]) -> None:
    with running(held_up, config={"AMQP_URI": rabbit.uri, "CONTEXTS": CONTEXTS}), RPCClient(rabbit.uri, SECONDS) as rpc:
        slow = [rpc.orders.wait.call_async(number) for number in range(20)]
        # 2 run, 2 more of the context's own queue wait for a worker, the rest waits in that queue.
        rabbit.wait_for(lambda vhost: vhost.depth("rpc-orders.slow") == 18, what="18 calls in the queue of the context")
        assert rabbit.depth("rpc-orders") == 2
        held_up.release.set()
        assert [call.result() for call in slow] == list(range(20))
        rabbit.wait_until_drained("rpc-orders", "rpc-orders.slow")


def test_a_service_in_one_context_has_no_further_queue(rabbit: VHost) -> None:
    class Alone:
        name = "alone"

        @RPCListener()
        def quick(self) -> int:
            return 1

    with running(Alone, config={"AMQP_URI": rabbit.uri}):
        assert [name for name in rabbit.queues() if name.startswith("rpc-")] == ["rpc-alone"]
