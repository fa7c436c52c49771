"""A service whose broker has run out of disk: it takes nothing more, and everything that is there is handled."""

import json
import threading
from queue import SimpleQueue
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import QueueListener
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import PublishTimeout
from micro_framework.observe.server import ObserveServer
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import route
from micro_framework.testing import running
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.naming import Queue
from tests.outside import Outside
from tests.scraping import Scraper, eventually

SECONDS = 60.0

pytestmark = pytest.mark.fault


def test_under_a_disk_alarm_services_handle_what_is_there_and_say_why_they_cannot_publish(
    own_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    vhost = own_node.vhost()
    outside = Outside(vhost.uri)
    handled, failures = SimpleQueue[int](), SimpleQueue[str]()

    class Orders:
        name = "orders"
        dispatch = Producer()

        @QueueListener("plain")
        def handle(self, number: int) -> None:
            handled.put(number)

        @route(QueueListener("telling"), backoff=AsyncBackOff(max_retries=3, interval=100))
        def tell(self, number: int) -> None:
            try:
                self.dispatch("told", number)
            except PublishTimeout as error:
                failures.put(str(error))
                raise

    try:
        told = outside.listen("orders")
        outside.doors.declare(Queue("plain"), Queue("telling"))
        for number in range(20):
            outside.send(number, key="plain")
        outside.send(7, key="telling")
        config: dict[str, Any] = {"AMQP_URI": vhost.uri, "PUBLISH_TIMEOUT": 2, "HEARTBEAT": 2}
        with own_node.disk_alarm(), running(Orders, config=config):
            assert sorted(handled.get(timeout=SECONDS) for _ in range(20)) == list(range(20))
            failure = failures.get(timeout=SECONDS)
            own_node.set_disk_alarm(False)
            assert json.loads(told.next().body) == 7
            vhost.wait_until_drained("plain", "telling", timeout=SECONDS)
    finally:
        outside.close()
    assert "low on disk" in failure
    assert "takes no messages for now: low on disk" in caplog.text


@pytest.mark.parametrize("alarm", ["memory_alarm", "disk_alarm"])
def test_under_an_alarm_a_service_is_alive_and_ready_and_tells_which_connection_is_blocked(
    own_node: RabbitMQNode, alarm: str
) -> None:
    enough = threading.Event()

    class Orders:
        name = "orders"
        dispatch = Producer()

        @TimeEntrypoint(interval=3600, eager=True)
        def tell(self) -> None:
            while not enough.wait(0.02):
                self.dispatch("told", "again and again")

    config = {
        "AMQP_URI": own_node.vhost().uri,
        "PUBLISH_TIMEOUT": SECONDS,
        "ENABLE_METRICS": True,
        "METRICS": {"HOST": "127.0.0.1", "PORT": 0},
    }
    with running(Orders, config=config) as runner:
        assert isinstance(runner.observing, ObserveServer)
        scraper = Scraper(runner.observing.port)

        def blocked() -> list[str]:
            shown = json.loads(scraper.ask("/status.json")[1])["connections"]
            return [each["name"] for each in shown if each["blocked"]]

        try:
            assert blocked() == []
            with getattr(own_node, alarm)():
                assert eventually(blocked) == ["publishing connection"]
                assert scraper.total("connections_blocked", connection="publishing connection") == 1
                assert scraper.total("connections_up") == scraper.total("connections") > 0
                # It takes and handles messages, and another process would be blocked as well.
                assert (scraper.ask("/healthz")[0], scraper.ask("/readyz")[0]) == (200, 200)
                assert scraper.total("calls_running", route="tell") == 1
            eventually(lambda: blocked() == [] and scraper.total("connections_blocked") == 0)
        finally:
            enough.set()
        eventually(lambda: scraper.total("calls_succeeded_total", route="tell") == 1)
        assert scraper.total("publish_outcomes_total", outcome="timeout") == 0
