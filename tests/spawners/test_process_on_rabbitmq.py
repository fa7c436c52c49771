"""Services with worker processes on a real broker."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from micro_framework.exceptions import BrokerRefused
from micro_framework.runner import Runner
from micro_framework.spawners.process import ProcessSpawner
from micro_framework.testing import running, wait_for
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.naming import Queue, event_queue
from tests.brokers.probes import Inbox
from tests.outside import Outside
from tests.spawners.shop import Shop, Stock

SECONDS = 30.0


@pytest.fixture
def outside(rabbit: VHost) -> Iterator[Outside]:
    outside = Outside(rabbit.uri)
    yield outside
    outside.close()


@contextmanager
def open_shop(rabbit: VHost, **config: Any) -> Iterator[Runner]:
    given = {"AMQP_URI": rabbit.uri, "WORKER_MODE": "process", "MAX_WORKERS": 2, **config}
    with running(Shop, config=given) as runner:
        yield runner


def next_of(heard: Inbox) -> Any:
    return json.loads(heard.deliveries.get(timeout=SECONDS).body)


def test_what_a_process_sends_carries_the_context_as_the_target_changed_it(rabbit: VHost, outside: Outside) -> None:
    heard = outside.listen("shop")
    with open_shop(rabbit) as runner:
        outside.event("web", "ordered", 7, {"nameko.user_id": 5, "nameko.call_id_stack": ["web.get.1"]})
        message = heard.next()
    told = json.loads(message.body)
    assert (told["order"], told["pid"] != os.getpid()) == (7, True)
    assert (message.headers["nameko.user_id"], message.headers["nameko.seen_by"]) == (5, "shop")
    first, second = message.headers["nameko.call_id_stack"]
    assert (first, second.startswith("shop.order.")) == ("web.get.1", True)
    assert runner.assembly.dependencies() == [], "the service itself has no producer"


def test_failures_are_put_off_and_given_up_as_in_threads(rabbit: VHost, outside: Outside) -> None:
    heard = outside.listen("shop")
    with open_shop(rabbit):
        outside.event("web", "cancelled", "order 7")
        told = [next_of(heard) for _ in range(4)]
    assert told == [0, 1, 2, ["order 7", "the bank does not answer", 2]]


def test_a_call_can_be_waited_for(rabbit: VHost, outside: Outside) -> None:
    with open_shop(rabbit) as runner, wait_for(runner, "Shop.order", SECONDS) as waited:
        outside.event("web", "ordered", 7)
    assert waited.result() is None
    assert waited.call is not None
    assert waited.call.args == (7,)


def test_a_message_that_kills_its_process_is_settled_and_no_other_is_touched(
    rabbit: VHost, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    heard = outside.listen("shop")
    with open_shop(rabbit):
        for payload in (1, 2, "fatal", 3, 4, "fatal", 5, 6):
            outside.event("web", "broken", payload)
        assert sorted(next_of(heard) for _ in range(6)) == [1, 2, 3, 4, 5, 6]
        rabbit.wait_until_drained("evt-web-broken--shop.die", timeout=SECONDS)
    assert caplog.text.count("WorkerDied: the worker process that ran call shop.die.") == 2


def test_killed_processes_lose_no_message(rabbit: VHost, outside: Outside, caplog: pytest.LogCaptureFixture) -> None:
    """Each message is handled; twice only where its process was killed at it, perhaps when it had done its work."""
    heard, count = outside.listen("shop"), 100
    with open_shop(rabbit, PREFETCH_COUNT=10) as runner:
        (spawner,) = runner.assembly.spawners.values()
        assert isinstance(spawner, ProcessSpawner)
        for number in range(count):
            outside.event("web", "ordered", number)
            working = [child for child in tuple(spawner.keeper.children) if child.working]
            if number % 20 == 10 and working:
                os.kill(working[0].process.pid, signal.SIGKILL)
        rabbit.wait_until_drained("evt-web-ordered--shop.order", timeout=SECONDS)
    outside.send("the end", to="shop.events", key="end")
    told = []
    while (body := next_of(heard)) != "the end":
        told.append(body["order"])
    assert set(told) == set(range(count))
    assert len(told) - count <= caplog.text.count("it is run again (crash ")


def test_a_target_that_holds_the_interpreter_does_not_disturb_the_heartbeat(
    rabbit: VHost, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    heard = outside.listen("shop")
    with open_shop(rabbit, HEARTBEAT=1, MAX_WORKERS=1):
        outside.event("web", "searched", 4)
        assert [next_of(heard), next_of(heard)] == ["searching", "found"]
    assert "lost" not in caplog.text


def test_what_the_broker_refuses_a_process_ends_the_service(rabbit: VHost, outside: Outside) -> None:
    outside.take_all(Queue("jobs", durable=False))
    with pytest.raises(BrokerRefused, match="jobs") as caught:
        with running(Stock, config={"AMQP_URI": rabbit.uri, "WORKER_MODE": "process", "MAX_WORKERS": 1}):
            pass
    assert "in worker process mf-process-default-0" in caught.value.__notes__[0]


def test_nothing_is_handled_twice_when_a_service_stops_under_load(rabbit: VHost, outside: Outside) -> None:
    heard, count = outside.listen("shop"), 200
    queue = event_queue("web", "ordered", service="shop", method="order")
    with open_shop(rabbit):
        outside.event("web", "ordered", 0)
        first = next_of(heard)["order"]
        for number in range(1, count):
            outside.event("web", "ordered", number)
    with open_shop(rabbit, WORKER_MODE="greedy_process"):
        told = [first, *(next_of(heard)["order"] for _ in range(count - 1))]
        rabbit.wait_until_drained(queue.name, timeout=SECONDS)
    assert sorted(told) == list(range(count))
