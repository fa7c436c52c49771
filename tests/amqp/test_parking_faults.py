"""Parking while things break: the broker or the service is killed in the middle, and a message kills its service.

500 messages, or 10,000 in a soak (`make soak`).
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from micro_framework.amqp.entrypoints import QueueListener
from micro_framework.brokers.port import Delivery
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.parking import read_parked
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue
from tests.brokers.probes import Doors, message, soon
from tests.outside import recording

MESSAGES, MOST = 500, 10_000
DEADLINE = 120.0
DURABLE = Properties("application/json", "utf-8", delivery_mode=2)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

SERVICE = """
import os, signal, sys
from kombu import Queue
from micro_framework.amqp.entrypoints import QueueListener
from micro_framework.routes import route


class Failing:
    name = "failing"

    @route(QueueListener("jobs"), dead_letter=True)
    def handle(self, payload):
        if str(payload) == os.environ.get("KILLED_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(payload)


class Poisoned:
    name = "poisoned"

    @QueueListener(Queue("jobs", queue_arguments={"x-queue-type": os.environ.get("QUEUE_TYPE", "classic")}))
    def handle(self, payload):
        if payload == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        print("handled", payload, flush=True)
"""


@pytest.fixture
def count(soak_size: Callable[[int], int]) -> int:
    return min(MOST, soak_size(MESSAGES))


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "services.py").write_text(SERVICE)
    return tmp_path


@contextlib.contextmanager
def opened(vhost: VHost) -> Iterator[Doors]:
    doors = Doors(RabbitMQBroker(vhost.uri, heartbeat=1))
    try:
        yield doors
    finally:
        doors.close()


def fill(vhost: VHost, payloads: list[str], queue_type: str | None = None) -> None:
    """Declare the queue and put these into it."""
    with opened(vhost) as doors:
        doors.declare(Queue("jobs", arguments={"x-queue-type": queue_type} if queue_type else {}))
        doors.send(*(message("jobs", payload, properties=DURABLE) for payload in payloads))


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def parked_in(vhost: VHost) -> list[Delivery]:
    """Everything that is parked."""
    with opened(vhost) as doors:
        browser = doors.browser()
        waiting = browser.count("jobs.parked", soon()) or 0
        found = [browser.get("jobs.parked", soon()) for _ in range(waiting)]
    return [delivery for delivery in found if delivery is not None]


def check_nothing_is_lost(vhost: VHost, count: int) -> None:
    parked = parked_in(vhost)
    assert {delivery.body.decode() for delivery in parked} == set(numbers(count))
    for delivery in parked:
        record = read_parked(delivery.headers)
        assert record is not None
        assert (record.queue, record.error) == ("jobs", "ValueError")


@contextlib.contextmanager
def process(
    module: Path, name: str, vhost: VHost, output: int = subprocess.DEVNULL, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """A service in a process of its own, which does not outlive the block."""
    (module / "config.yaml").write_text("AMQP_URI: ${AMQP_URI}\nMAX_WORKERS: ${WORKERS:10}\n")
    variables = {"AMQP_URI": vhost.uri, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    with subprocess.Popen(
        [sys.executable, "-m", "micro_framework", "run", f"services:{name}", "--config", "config.yaml"],
        cwd=module,
        env=os.environ | variables,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


# -- killed in the middle


def test_nothing_is_lost_when_the_broker_is_killed_while_messages_are_parked(
    own_node: RabbitMQNode, count: int
) -> None:
    vhost = own_node.vhost()
    fill(vhost, numbers(count))
    own_node.persist_declarations()

    def fail(payload: Any) -> None:
        raise ValueError(payload)

    service, _ = recording(QueueListener("jobs"), then=fail, dead_letter=True)
    config = {"AMQP_URI": vhost.uri, "PUBLISH_TIMEOUT": DEADLINE, "HEARTBEAT": 2}
    with running(service, config=config):
        vhost.wait_for(lambda it: it.depth("jobs.parked") >= count // 4, DEADLINE, "a quarter to be parked")
        own_node.kill()
        own_node.start()
        assert vhost.depth("jobs") > 0, "everything was parked before the broker was killed"
        vhost.wait_until_drained("jobs", timeout=DEADLINE)
    check_nothing_is_lost(vhost, count)


def test_nothing_is_lost_when_the_broker_is_killed_right_after_the_first_was_parked(own_node: RabbitMQNode) -> None:
    """A broker may forget the queue that it has only just declared, with the confirmed messages in it."""
    vhost = own_node.vhost()
    fill(vhost, numbers(20))
    own_node.persist_declarations()  # of this queue, not of the one for what is parked

    def fail(payload: Any, exception: BaseException | None = None) -> None:
        raise ValueError(payload)

    # Nothing says beforehand that this route parks, so the queue is declared for the first message.
    service, _ = recording(QueueListener("jobs"), then=fail, on_failure=fail)
    with running(service, config={"AMQP_URI": vhost.uri, "PUBLISH_TIMEOUT": DEADLINE, "HEARTBEAT": 2}):
        vhost.wait_for(lambda it: it.depth("jobs.parked") > 0, DEADLINE, "the first one to be parked")
        own_node.kill()
        own_node.start()
        vhost.wait_until_drained("jobs", timeout=DEADLINE)
    check_nothing_is_lost(vhost, 20)


def test_nothing_is_lost_when_the_service_is_killed_while_it_parks(rabbit: VHost, module: Path, count: int) -> None:
    fill(rabbit, numbers(count))
    with process(module, "Failing", rabbit, KILLED_AT=str(count // 2)) as first:
        assert first.wait(DEADLINE) == -signal.SIGKILL
    assert rabbit.depth("jobs") > 0
    assert rabbit.depth("jobs.parked") > 0
    with process(module, "Failing", rabbit) as second:
        rabbit.wait_until_drained("jobs", timeout=DEADLINE)
        second.send_signal(signal.SIGTERM)
        assert second.wait(DEADLINE) == 0
    check_nothing_is_lost(rabbit, count)


# -- a message that kills its service


def deaths_until_handled(module: Path, vhost: VHost, queue_type: str, most: int) -> tuple[int, str]:
    """Start the service again and again until "innocent" was handled; how often it was killed, and its last log."""
    for deaths in range(most):
        with process(module, "Poisoned", vhost, subprocess.PIPE, QUEUE_TYPE=queue_type, WORKERS="1") as service:
            assert service.stdout is not None
            log: list[str] = []
            for line in service.stdout:
                log.append(line)
                if line == "handled innocent\n":
                    service.send_signal(signal.SIGTERM)
            if service.wait(DEADLINE) == 0:
                return deaths, "".join(log)
            assert service.returncode == -signal.SIGKILL, log
    return most, ""


def test_a_message_that_kills_its_service_is_parked_where_the_queue_counts(rabbit: VHost, module: Path) -> None:
    fill(rabbit, ['"poison"', '"innocent"'], "quorum")
    deaths, log = deaths_until_handled(module, rabbit, "quorum", 10)
    assert deaths == 3
    assert "not run any more: 3 times a worker, a service or its connection has ended while it was there" in log
    (delivery,) = parked_in(rabbit)
    record = read_parked(delivery.headers)
    assert record is not None
    assert (delivery.body, record.reason, record.crashes) == (b'"poison"', "crashed", 3)
    assert (record.service, record.method, record.queue) == ("poisoned", "handle", "jobs")
    assert rabbit.queue("jobs.parked").arguments == {"x-queue-type": "quorum"}
    rabbit.wait_until_drained("jobs", timeout=DEADLINE)  # a quorum queue counts late


def test_where_the_queue_does_not_count_nothing_is_parked_for_being_delivered_again(
    rabbit: VHost, module: Path
) -> None:
    fill(rabbit, ['"poison"', '"innocent"'], "classic")
    assert deaths_until_handled(module, rabbit, "classic", 5) == (5, "")
    assert rabbit.depth("jobs.parked") == 0
    assert rabbit.depth("jobs") == 2
