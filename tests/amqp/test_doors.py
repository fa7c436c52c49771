"""The connections that AMQP extensions share: how they report, and what ends the start."""

import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.doors import ConsumerDoor, counted
from micro_framework.amqp.entrypoints import EventListener, QueueListener
from micro_framework.brokers.memory import MemoryBroker
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import BrokerRefused, DeclarationError, StartTimeout
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import Route
from micro_framework.runner import Runner, RunnerContext
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.naming import Queue
from tests.outside import SECONDS, Outside, memory_uri, recording

PASSWORD = "s3cret-pass"


def listening() -> type:
    service, _ = recording(EventListener("payments", "refunded"))
    return service


class Sending:
    name = "sending"
    dispatch = Producer()

    @TimeEntrypoint(3600)
    def tick(self) -> None: ...


@pytest.mark.parametrize("service", [listening(), Sending])
def test_a_missing_uri_names_both_ways_out(service: type) -> None:
    with pytest.raises(DeclarationError) as caught:
        Runner([service], {})
    text = str(caught.value)
    for part in ("AMQP_URI is missing", "amqp://guest:guest@localhost:5672 for RabbitMQ", "memory:// for the broker"):
        assert part in text


@pytest.mark.parametrize("config", [{"serializer": "nonsense"}, {"ACCEPT": ["json", "nonsense"]}])
def test_an_unknown_serializer_is_refused_by_name(config: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="serializer 'nonsense' is not known; known are"):
        Runner([listening()], {"AMQP_URI": "memory://", **config})


def test_the_publishing_connection_of_a_worker_process_is_called_after_it() -> None:
    class Broker:
        def publisher(self, name: str) -> str:
            return name

    (dependency,) = Runner([Sending], {"AMQP_URI": memory_uri()}).assembly.dependencies()
    door: Any = dependency.publisher  # type: ignore[attr-defined]
    door.source.broker = Broker()
    for process, name in (("", "publisher"), ("mf-process-default-0", "publisher of mf-process-default-0")):
        door.host = replace(door.host, process=process)
        door.setup()
        assert door.door == name


def test_each_context_has_a_consuming_connection_of_its_own() -> None:
    routes = [Route(print, QueueListener(name)) for name in ("a", "b", "c")]
    services = [routes[0], routes[1], RunnerContext([routes[2]], name="slow")]
    runner = Runner(services, {"AMQP_URI": memory_uri(), "SERVICE_NAME": "orders"})
    doors = [found.entrypoint.consumer for found in runner.assembly.routes]  # type: ignore[attr-defined]
    assert [str(door) for door in doors] == [
        "consuming connection of context 'slow'",
        "consuming connection of context 'default'",
        "consuming connection of context 'default'",
    ]
    assert doors[1] is doors[2]


def test_a_connection_nobody_uses_is_not_made() -> None:
    """A listener without backoff publishes nothing."""
    with running(listening()) as runner:
        connected = sorted(str(extension) for extension in runner.started if getattr(extension, "used", False))
    assert connected == ["consuming connection of context 'default'"]


def test_a_connection_that_turns_out_to_be_needed_is_made_then() -> None:
    def fail(payload: Any, exception: BaseException | None = None) -> None:
        raise LookupError("nothing works")

    service, _ = recording(EventListener("payments", "refunded"), then=fail, on_failure=fail)
    uri = memory_uri()
    outside = Outside(uri)
    with running(service, config={"AMQP_URI": uri}) as runner:
        door = runner.assembly.routes[0].entrypoint.publisher  # type: ignore[attr-defined]
        assert (door.used, door.begun, runner.ready) == (False, False, True)
        outside.event("payments", "refunded", 1)
        inbox, _ = outside.doors.consuming(Queue("evt-payments-refunded--orders.handle.parked"))
        assert inbox.next().body == b"1"
        assert door.begun
    outside.close()


def test_no_connection_is_made_after_the_end() -> None:
    with running(listening()) as runner:
        door = runner.assembly.routes[0].entrypoint.publisher  # type: ignore[attr-defined]
    door.connect()
    assert not door.begun


def test_a_stop_cancels_the_consumers_of_a_context_once() -> None:
    """A broker that does not answer would be waited for as often as there are listeners."""
    routes = [Route(print, QueueListener(name)) for name in ("a", "b", "c")]
    deadlines: list[float] = []
    with running(*routes, config={"SERVICE_NAME": "orders"}) as runner:
        door = runner.assembly.routes[0].entrypoint.consumer.door  # type: ignore[attr-defined]
        cancel = door.cancel
        door.cancel = lambda deadline: (deadlines.append(deadline), cancel(deadline))
    assert len(deadlines) == 1


# -- refusals


def changed(uri: str, *, password: str | None = None, vhost: str | None = None) -> str:
    parts = urlsplit(uri)
    netloc = f"{parts.username}:{password or parts.password}@{parts.hostname}:{parts.port}"
    return parts._replace(netloc=netloc, path=f"/{vhost}" if vhost else parts.path).geturl()


@pytest.mark.parametrize("service", [listening(), Sending])
@pytest.mark.parametrize(
    ("wrong", "fix"), [({"password": PASSWORD}, "correct AMQP_URI"), ({"vhost": "nowhere"}, "rabbitmqctl add_vhost")]
)
def test_an_answer_that_will_not_change_ends_the_start_with_the_fix(
    amqp_uri: str, service: type, wrong: dict[str, str], fix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = {"AMQP_URI": changed(amqp_uri, **wrong)}
    with pytest.raises(BrokerRefused) as caught:
        Runner([service], config).start()
    assert fix in str(caught.value)
    with pytest.raises(BrokerRefused, match="refused|does not exist"), Runner([service], config):
        pass
    assert PASSWORD not in caplog.text + str(caught.value)


def test_an_exchange_that_is_not_declared_and_does_not_exist_is_not_waited_for_in_silence(
    amqp_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"AMQP_URI": amqp_uri, "DECLARE_EVENT_EXCHANGES": False, "START_TIMEOUT": 1}
    with pytest.raises((StartTimeout, BrokerRefused)) as caught, Runner([listening()], config):
        pass
    assert "payments.events" in caplog.text + str(caught.value)


# -- nobody there


@pytest.fixture
def nobody() -> Iterator[str]:
    """A port that refuses connections for as long as the test lasts: bound, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"amqp://guest:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/"


def test_a_block_gives_up_after_start_timeout(nobody: str, caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner([listening(), Sending], {"AMQP_URI": nobody, "START_TIMEOUT": 0.3})
    with pytest.raises(StartTimeout) as caught, runner:
        pass
    text = str(caught.value)
    assert text.startswith("not ready within START_TIMEOUT (0.3 s): ")
    assert "consuming connection of context 'default'" in text
    assert "publishing connection" in text
    assert "Is the broker running and AMQP_URI right?" in text
    assert PASSWORD not in text + caplog.text


class Attempts(logging.Handler):
    """Lets the test wait for log lines."""

    def __init__(self, needed: int) -> None:
        super().__init__(logging.WARNING)
        self.left = needed
        self.enough = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.left -= 1
        if self.left == 0:
            self.enough.set()


def test_start_tries_for_ever_with_one_line_for_each_attempt(nobody: str) -> None:
    runner = Runner([listening()], {"AMQP_URI": nobody, "START_TIMEOUT": 0.01})
    attempts = Attempts(2)
    logger = logging.getLogger("micro_framework")
    logger.addHandler(attempts)
    starting = threading.Thread(target=runner.start)
    try:
        starting.start()
        assert attempts.enough.wait(SECONDS)
        assert starting.is_alive()
        assert not runner.ready
    finally:
        runner.request_stop()
        starting.join(SECONDS)
        logger.removeHandler(attempts)
    assert not starting.is_alive()
    assert all("127.0.0.1" in line and PASSWORD not in line for line in attempts.lines)


def test_a_service_is_not_ready_while_its_connection_is_lost(rabbit: VHost) -> None:
    with running(listening(), config={"AMQP_URI": rabbit.uri}) as runner:
        assert runner.ready
        (door,) = [extension for extension in runner.started if isinstance(extension, ConsumerDoor)]
        rabbit.wait_for(lambda vhost: vhost.connections(), what="the connection to be listed")
        seen: list[bool] = []
        watcher = threading.Thread(
            target=lambda: seen.append(runner.lifecycle.wait_until(lambda: not runner.ready, SECONDS))
        )
        watcher.start()
        assert rabbit.close_connections() >= 1
        watcher.join(SECONDS)
        assert seen == [True]
        assert runner.lifecycle.wait_until(lambda: runner.ready, SECONDS)
        assert door.is_ready()
        rabbit.wait_for_consumers("evt-payments-refunded--orders.handle")


# -- who holds back what is tried again


def retrying() -> type:
    service, _ = recording(EventListener("payments", "refunded"), backoff=AsyncBackOff(1, 1))
    return service


def test_the_plugin_is_asked_for_at_the_start_and_a_broker_without_it_refused(amqp_uri: str) -> None:
    with (
        pytest.raises(BrokerRefused, match="does not have rabbitmq_delayed_message_exchange"),
        running(retrying(), config={"AMQP_URI": amqp_uri, "RETRY_BACKEND": "plugin"}),
    ):
        pass


def test_the_plugin_is_not_asked_for_where_nothing_is_tried_again(amqp_uri: str) -> None:
    with running(listening(), config={"AMQP_URI": amqp_uri, "RETRY_BACKEND": "plugin"}) as runner:
        assert runner.ready


def test_the_embedded_broker_has_no_plugin() -> None:
    with pytest.raises(DeclarationError, match=r"RETRY_BACKEND is plugin, which RabbitMQ may have; memory://"):
        Runner([retrying()], {"AMQP_URI": "memory://", "RETRY_BACKEND": "plugin"})


def test_without_metrics_a_door_is_as_it_was() -> None:
    door = MemoryBroker().publisher("test")
    assert counted(door, None) is door
