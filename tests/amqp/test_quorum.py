"""Everything where a virtual host makes queues quorum queues by default: nobody asks for a type, Nameko neither."""

import json
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, QueueListener, RPCListener
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.parking import read_parked
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.standalone import RPCClient
from micro_framework.testing import client_for, running, wait_for
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.erlang import ErlangAdmin
from micro_framework.testing.management import ManagementAdmin
from micro_framework.wire.naming import Queue
from tests.brokers.probes import soon
from tests.outside import Outside, let_end_at_stop, recording
from tests.spawners.shop import Shop

SECONDS = 30.0


@pytest.fixture
def quorum(broker: ErlangAdmin | ManagementAdmin) -> Iterator[VHost]:
    vhost = broker.vhost(default_queue_type="quorum")
    yield vhost
    broker.delete_vhost(vhost.name)


@pytest.fixture
def outside(quorum: VHost) -> Iterator[Outside]:
    outside = Outside(quorum.uri)
    yield outside
    outside.close()


def is_quorum(vhost: VHost, queue: str) -> bool:
    return vhost.queue(queue).arguments.get("x-queue-type") == "quorum"


@pytest.mark.parametrize(
    ("options", "lasts"),
    [
        ({}, True),
        ({"handler_type": "singleton"}, True),
        ({"handler_type": "broadcast"}, False),
        ({"handler_type": "broadcast", "reliable_delivery": True, "broadcast_identifier": "here"}, True),
        ({"reliable_delivery": False}, False),
    ],
    ids=["service pool", "singleton", "broadcast", "reliable broadcast", "unreliable"],
)
def test_events_of_every_handler_type_are_heard(
    quorum: VHost, outside: Outside, options: dict[str, Any], lasts: bool
) -> None:
    service, calls = recording(EventListener("web", "ordered", **options))
    for number in range(2):  # the second start finds what the first one has left
        with running(service, config={"AMQP_URI": quorum.uri}):
            (queue,) = [name for name in quorum.queues() if name.startswith("evt-")]
            assert is_quorum(quorum, queue) == lasts
            outside.event("web", "ordered", number)
            assert calls.next() == number


def test_calls_are_answered_also_those_that_are_tried_again(quorum: VHost) -> None:
    class Prices:
        name = "prices"
        retry = BackOffData()

        @route(RPCListener(), backoff=AsyncBackOff(max_retries=3, interval=30, exception_list=[TimeoutError]))
        def price(self, article: str) -> list[Any]:
            if self.retry.retry_count < 2:
                raise TimeoutError("not yet")
            return [article, self.retry.retry_count]

    class Shop:
        name = "shop"
        prices = RPCProxy("prices")

        @route(RPCListener(), context="shop")
        def order(self, article: str) -> Any:
            return self.prices.price(article)

    config = {"AMQP_URI": quorum.uri, "CONTEXTS": {"shop": {"MAX_WORKERS": 5}}}
    with running(Prices, Shop, config=config) as runner, client_for(runner, SECONDS) as rpc:
        calls = [rpc.shop.order.call_async(f"article {number}") for number in range(20)]
        assert [call.result() for call in calls] == [[f"article {number}", 2] for number in range(20)]
        replies = [name for name in quorum.queues() if name.startswith("rpc.reply")]
        assert replies
        assert all(is_quorum(quorum, name) for name in ("rpc-prices", "rpc-shop", *replies))
    quorum.wait_until_drained("rpc-prices", "rpc-shop", timeout=SECONDS)


def test_failed_events_come_back_and_their_callback_runs_once(quorum: VHost, outside: Outside) -> None:
    heard = outside.listen("orders")

    class Orders:
        name = "orders"
        dispatch = Producer()
        retry = BackOffData()

        @route(
            EventListener("web", "ordered"), backoff=AsyncBackOff(max_retries=2, interval=30), on_failure="not_ordered"
        )
        def order(self, payload: Any) -> None:
            self.dispatch("tried", self.retry.retry_count)
            raise ValueError(payload)

        def not_ordered(self, payload: Any, exception: BaseException) -> None:
            self.dispatch("failed", [payload, str(exception), self.retry.retry_count])

    with running(Orders, config={"AMQP_URI": quorum.uri}):
        outside.event("web", "ordered", "7")
        told = [json.loads(heard.next().body) for _ in range(4)]
        quorum.wait_until_drained("evt-web-ordered--orders.order", timeout=SECONDS)
    assert told == [0, 1, 2, ["7", "7", 2]]


def test_what_has_failed_for_good_is_parked(quorum: VHost, outside: Outside) -> None:
    def fail(payload: Any) -> None:
        raise ValueError(payload)

    service, _ = recording(QueueListener("jobs"), then=fail, dead_letter=True)
    with running(service, config={"AMQP_URI": quorum.uri}):
        outside.send("broken", key="jobs")
        # Not asked for how many wait there: a quorum queue tells that late.
        inbox, _ = outside.doors.consuming(Queue("jobs.parked"))
        parked = inbox.next()
        assert is_quorum(quorum, "jobs")
        assert is_quorum(quorum, "jobs.parked")
    record = read_parked(parked.headers)
    assert record is not None
    assert (json.loads(parked.body), record.error, record.queue) == ("broken", "ValueError", "jobs")


def test_a_message_that_kills_its_workers_is_parked(quorum: VHost, outside: Outside) -> None:
    heard = outside.listen("shop")
    config = {"AMQP_URI": quorum.uri, "WORKER_MODE": "process", "MAX_WORKERS": 1, "MAX_CRASHES": 2}
    with running(Shop, config=config):
        queue = "evt-web-broken--shop.die"
        for payload in (1, "fatal", 2):
            outside.event("web", "broken", payload)
        assert sorted(json.loads(heard.next().body) for _ in range(2)) == [1, 2]
        quorum.wait_for(lambda it: f"{queue}.parked" in it.queues(), SECONDS, "the queue for parked messages")
        inbox, _ = outside.doors.consuming(Queue(f"{queue}.parked"))
        assert json.loads(inbox.next().body) == "fatal"


def test_a_cluster_wide_timer_ticks(quorum: VHost) -> None:
    ticks = SimpleQueue[str]()

    def ticking(replica: str) -> type:
        class Ticking:
            name = "ticking"

            @TimeEntrypoint(interval=0.1, cluster=True)
            def tick(self) -> None:
                ticks.put(replica)

        return Ticking

    with running(ticking("first"), config={"AMQP_URI": quorum.uri}) as first:
        assert ticks.get(timeout=SECONDS) == "first"
        with running(ticking("second"), config={"AMQP_URI": quorum.uri}):
            first.stop()
            while ticks.get(timeout=SECONDS) == "first":
                pass


def test_contexts_do_not_wait_for_each_other(quorum: VHost) -> None:
    may_end = Event()

    class Reports:
        name = "reports"

        @route(RPCListener(), context="slow")
        def slow(self, number: int) -> int:
            may_end.wait(SECONDS)
            return number

        @RPCListener()
        def quick(self, number: int) -> int:
            return number

    config = {"AMQP_URI": quorum.uri, "MAX_WORKERS": 2, "CONTEXTS": {"slow": {"MAX_WORKERS": 1}}}
    with running(Reports, config=config), RPCClient(quorum.uri, timeout=2 * SECONDS) as rpc:
        slow = [rpc.reports.slow.call_async(number) for number in range(6)]
        assert [rpc.reports.quick(number) for number in range(10)] == list(range(10))
        assert is_quorum(quorum, "rpc-reports.slow")
        may_end.set()
        assert [call.result() for call in slow] == list(range(6))


def test_calls_that_wait_at_a_stop_are_answered_by_the_next_replica(quorum: VHost, outside: Outside) -> None:
    """They come back as new: RabbitMQ from 4.0 on drops what has come back 20 times."""
    may_end = Event()

    class Slow:
        name = "slow"

        @RPCListener()
        def double(self, number: int) -> int:
            may_end.wait(SECONDS)
            return 2 * number

    config = {"AMQP_URI": quorum.uri, "MAX_WORKERS": 1, "PREFETCH_COUNT": 20}
    with RPCClient(quorum.uri, timeout=2 * SECONDS) as rpc:
        with running(Slow, config=config) as runner, wait_for(runner, "Slow.double", SECONDS):
            calls = [rpc.slow.double.call_async(number) for number in range(10)]
            waiting: Any = runner.assembly.spawners["default"]
            quorum.wait_for(lambda it: waiting.jobs.qsize() == 9, SECONDS, "the requests to be received")
            let_end_at_stop(runner, may_end)
            runner.stop()
        inbox, consumer = outside.doors.consuming(Queue("rpc-slow"), None)
        for request in inbox.several(9):
            assert request.routing_key == "slow.double"
            assert "x-delivery-count" not in request.headers
        consumer.stop(soon())
        with running(Slow, config=config):
            assert [call.result() for call in calls] == [2 * number for number in range(10)]
    assert is_quorum(quorum, "rpc-slow")


def test_a_stop_under_load_hands_everything_back(quorum: VHost, outside: Outside) -> None:
    """What was received and not begun comes back as new: the queue's count is to tell of deaths alone."""
    may_end, begun = Event(), SimpleQueue[int]()

    def wait(number: Any) -> None:
        begun.put(number)
        may_end.wait(SECONDS)

    service, _ = recording(QueueListener("jobs"), then=wait)
    config = {"AMQP_URI": quorum.uri, "MAX_WORKERS": 1, "PREFETCH_COUNT": 50, "MAX_CRASHES": 2}
    count = 30
    outside.doors.declare(Queue("jobs"))
    for number in range(count):
        outside.send(number, key="jobs")
    done: list[int] = []
    for _ in range(4):  # more often than MAX_CRASHES
        may_end.clear()
        with running(service, config=config) as runner:
            done.append(begun.get(timeout=SECONDS))
            let_end_at_stop(runner, may_end)
        done += calls_left(begun)
    may_end.set()
    with running(service, config=config):
        while len(done) < count:
            done.append(begun.get(timeout=SECONDS))
        quorum.wait_until_drained("jobs", timeout=SECONDS)
    assert sorted(done) == list(range(count))
    assert quorum.depth("jobs.parked") == 0


def calls_left(queue: "SimpleQueue[int]") -> list[int]:
    found = []
    while not queue.empty():
        found.append(queue.get())
    return found
