"""RabbitMQ as one reaches it: by its URI."""

import pytest

from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.exceptions import ConfigError
from tests.brokers.probes import Doors, message, queue, soon


def test_it_shows_every_host_and_no_password() -> None:
    broker = RabbitMQBroker("amqp://joe:hush@one/v;amqp://joe:hush@two/v")
    assert broker.description == str(broker) == "amqp://joe@one:5672/v, amqp://joe@two:5672/v"
    assert "hush" not in repr(broker)


def test_a_uri_that_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="AMQP_URI"):
        RabbitMQBroker("http://somewhere")


@pytest.mark.parametrize("login_method", [None, "PLAIN", "AMQPLAIN"])
def test_login_methods(amqp_uri: str, login_method: str | None) -> None:
    doors = Doors(RabbitMQBroker(amqp_uri, login_method=login_method))
    assert doors.publisher().wait_ready(soon())
    doors.close()


def test_a_small_frame_size_can_be_chosen(amqp_uri: str) -> None:
    doors = Doors(RabbitMQBroker(amqp_uri, transport_options={"frame_max": 4096}))
    inbox, _ = doors.consuming(queue("jobs"))
    doors.send(message("jobs", b"x" * 100_000))
    assert inbox.next().body == b"x" * 100_000
    doors.close()


@pytest.mark.parametrize("heartbeat", [0, None])
def test_heartbeats_can_be_done_without(amqp_uri: str, heartbeat: float | None) -> None:
    doors = Doors(RabbitMQBroker(amqp_uri, heartbeat=heartbeat))
    assert doors.publisher(queues=[queue("jobs")]).wait_ready(soon())
    doors.send(message("jobs"))
    doors.close()
