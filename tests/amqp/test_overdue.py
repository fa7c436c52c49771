"""Calls that last longer than RabbitMQ waits for an acknowledgement, or that hold the interpreter for longer than it
waits for a heartbeat: the rest goes on, and the log says what to do.

The broker waits 2 seconds for an acknowledgement here, or 10 in a soak.
"""

import ctypes
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from kombu import Queue as KombuQueue

from micro_framework.amqp.entrypoints import QueueListener
from micro_framework.amqp.overdue import overdue_report, standstill_report
from micro_framework.calls import Underway
from micro_framework.testing import client_for, running
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.amqp.workshop import QUICK_QUEUE, SEARCH_QUEUE, SLOW_QUEUE, Workshop, held
from tests.outside import Outside
from tests.versions import need_limit

SECONDS = 60.0
MANY = 1000
SET_LIMIT = """
ok = application:set_env(rabbit, consumer_timeout, {limit}),
ok = application:set_env(rabbit, channel_tick_interval, {interval}),
[]
"""
DEFAULTS = {"limit": 1_800_000, "interval": 60_000}  # of RabbitMQ 3.10, in milliseconds


# What is told


def test_the_report_names_the_calls_that_ran_too_long_and_the_ways_out() -> None:
    calls = [Underway("Orders.quick", "orders.quick.1", 0.1), Underway("Orders.slow", "orders.slow.2", 12.3)]
    text = overdue_report(10.0, [*calls, Underway("Orders.pay", "orders.pay.3", 15)])
    assert "its consumer_timeout (10 s)" in text
    assert (
        "Longer than that, or about as long, runs Orders.pay (call orders.pay.3, for 15 s), "
        "Orders.slow (call orders.slow.2, for 12 s);" in text
    )
    assert "quick" not in text
    assert "raise consumer_timeout" in text
    assert "make the call shorter" in text


def test_the_report_tells_where_no_call_is_the_reason() -> None:
    text = overdue_report(10.0, [Underway("Orders.slow", "orders.slow.2", 7)])
    assert "No call runs as long as that: it waited for a worker before, or is held off; running is Orders.slow" in text
    assert "PREFETCH_COUNT" in text
    assert "nothing is running" in overdue_report(10.0, [])


def test_the_report_names_what_runs_where_the_limit_is_not_known() -> None:
    calls = [Underway("Orders.quick", "orders.quick.1", 0.1), Underway("Orders.slow", "orders.slow.2", 12.3)]
    text = overdue_report(None, calls)
    assert "Running is Orders.slow (call orders.slow.2, for 12 s), Orders.quick" in text
    assert "raise consumer_timeout" in text
    assert "Nothing is running" in overdue_report(None, [])


def test_the_report_stays_readable_with_many_calls() -> None:
    text = overdue_report(1.0, [Underway("Orders.slow", f"orders.slow.{n}", 5) for n in range(500)])
    assert "and 490 more" in text
    assert len(text) < 2000


def test_the_report_of_a_standstill_names_who_may_be_the_reason() -> None:
    text = standstill_report(4.25, [Underway("Orders.search", "orders.search.2", 4.3)])
    assert "stood still for 4.2 s" in text
    assert "Meanwhile ran Orders.search (call orders.search.2, for 4 s)." in text
    assert "WORKER_MODE: process" in text
    assert "No call that came by it ran meanwhile" in standstill_report(4.25, [])


# What happens


class Log(logging.Handler):
    """What is logged, as it comes."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: SimpleQueue[str] = SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.put(record.getMessage())

    def next(self) -> str:
        return self.texts.get(timeout=SECONDS)


@pytest.fixture
def log() -> Iterator[Log]:
    handler, logger = Log(), logging.getLogger("micro_framework.amqp.doors")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def impatient_node(own_node: RabbitMQNode, soak_size: Callable[[int], int]) -> Iterator[RabbitMQNode]:
    own_node.evaluate(SET_LIMIT.format(limit=1000 * min(10, soak_size(2)), interval=200))
    yield own_node
    own_node.evaluate(SET_LIMIT.format(**DEFAULTS))


@pytest.mark.fault
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_call_that_lasts_too_long_is_named_and_everything_else_goes_on(
    impatient_node: RabbitMQNode, log: Log, tmp_path: Path, mode: str, queue_type: str
) -> None:
    vhost, file = impatient_node.vhost(default_queue_type=queue_type), tmp_path / "held"
    need_limit(vhost.uri, queue_type)
    outside = Outside(vhost.uri)
    # Each time the long call is delivered again it takes one more worker.
    config: dict[str, Any] = {"AMQP_URI": vhost.uri, "WORKER_MODE": mode, "MAX_WORKERS": 4, "PREFETCH_COUNT": 10}
    config["MAX_CRASHES"] = MANY
    try:
        slow, quick = outside.listen("workshop", "slow"), outside.listen("workshop", "quick")
        with running(Workshop, config=config):
            with held(file):
                outside.event("web", "slow", str(file))
                assert json.loads(slow.next().body) == "begun"
                outside.event("web", "quick", "before")
                assert json.loads(quick.next().body) == "before"
                text = log.next()
                outside.event("web", "quick", "after")
                assert json.loads(quick.next().body) == "after"
                assert json.loads(slow.next().body) == "begun", "it was not delivered again"
            assert json.loads(slow.next().body) == "done"
            vhost.wait_until_drained(SLOW_QUEUE, QUICK_QUEUE, timeout=SECONDS)
            outside.event("web", "quick", "at the end")
            assert json.loads(quick.next().body) == "at the end"
    finally:
        outside.close()
    assert "consuming connection of context 'default': RabbitMQ has taken back" in text
    assert "Workshop.slow (call workshop.slow." in text  # late, or what else runs: on a busy machine it began late
    assert "There are two ways out: raise consumer_timeout" in text


@pytest.mark.fault
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_caller_gets_the_answer_of_a_call_that_lasts_too_long(
    impatient_node: RabbitMQNode, log: Log, tmp_path: Path, queue_type: str
) -> None:
    vhost, file = impatient_node.vhost(default_queue_type=queue_type), tmp_path / "held"
    need_limit(vhost.uri, queue_type)
    config: dict[str, Any] = {"AMQP_URI": vhost.uri, "MAX_WORKERS": 4, "MAX_CRASHES": MANY}
    with running(Workshop, config=config) as runner, client_for(runner, timeout=SECONDS) as rpc:
        with held(file):
            answer = rpc.workshop.ask.call_async(str(file))
            assert "RPC connection of service 'workshop'" in (text := log.next())
        assert answer.result() == "answered"
        vhost.wait_until_drained("rpc-workshop", timeout=SECONDS)
    assert "Workshop.ask (call workshop.ask." in text


@pytest.mark.fault
def test_a_call_that_holds_the_interpreter_is_named_and_parked_where_its_queue_counts(
    rabbit: VHost, log: Log, soak_size: Callable[[int], int]
) -> None:
    """In a thread: nothing else runs, so heartbeats stay out and the broker gives the connection up."""
    deaths, handled = min(3, soak_size(1)), SimpleQueue[Any]()

    class Searching:
        name = "searching"

        @QueueListener(KombuQueue("texts", queue_arguments={"x-queue-type": "quorum"}))
        def search(self, payload: Any) -> None:
            if payload == "holds":
                ctypes.PyDLL(None).sleep(4)
            handled.put(payload)

    config = {"AMQP_URI": rabbit.uri, "HEARTBEAT": 1, "MAX_WORKERS": 2, "MAX_CRASHES": deaths}
    outside = Outside(rabbit.uri)
    try:
        with running(Searching, config=config):
            outside.send("holds", key="texts")
            texts = [log.next() for _ in range(deaths)]
            rabbit.wait_for(lambda it: it.depth("texts.parked") == 1, SECONDS, "the message to be parked")
            outside.send("innocent", key="texts")
            assert [handled.get(timeout=SECONDS) for _ in range(deaths + 1)] == ["holds"] * deaths + ["innocent"]
    finally:
        outside.close()
    for text in texts:
        assert "consuming connection of context 'default': RabbitMQ has given this connection up" in text
        assert "Searching.search (call searching.search." in text


@pytest.mark.fault
def test_in_a_process_a_call_that_holds_the_interpreter_disturbs_nobody(
    rabbit: VHost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, outside = tmp_path / "held", Outside(rabbit.uri)
    config = {"AMQP_URI": rabbit.uri, "WORKER_MODE": "process", "MAX_WORKERS": 2, "HEARTBEAT": 2}
    try:
        slow, quick = outside.listen("workshop", "slow"), outside.listen("workshop", "quick")
        with running(Workshop, config=config):
            with held(file):
                outside.event("web", "searched", str(file))
                assert json.loads(slow.next().body) == "begun"
                began, number = time.monotonic(), 0
                while time.monotonic() - began < 6:  # three heartbeats
                    outside.event("web", "quick", number)
                    assert json.loads(quick.next().body) == number
                    number += 1
                assert slow.is_empty
            assert json.loads(slow.next().body) == "done"
            rabbit.wait_until_drained(SEARCH_QUEUE, QUICK_QUEUE, timeout=SECONDS)
    finally:
        outside.close()
    assert "lost its connection" not in caplog.text
