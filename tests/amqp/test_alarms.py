"""A service whose broker has run out of disk: it takes nothing more, and everything that is there is handled."""

import json
from queue import SimpleQueue
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import QueueListener
from micro_framework.exceptions import PublishTimeout
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import route
from micro_framework.testing import running
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.naming import Queue
from tests.outside import Outside

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
