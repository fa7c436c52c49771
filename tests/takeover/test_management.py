"""The HTTP API as the tool asks it."""

import pytest

from micro_framework.exceptions import BrokerError
from micro_framework.takeover.management import Management, ManagementRefused
from micro_framework.testing.rabbitmq import free_port

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]


def test_a_refusal_says_what_was_asked_and_shows_no_password(management: Management) -> None:
    with pytest.raises(ManagementRefused, match="404") as raised:
        management.ask("GET", "queues/{vhost}/nowhere")
    assert raised.value.status == 404
    assert "guest" not in str(raised.value)


def test_where_nobody_answers_the_way_out_is_told() -> None:
    management = Management("amqp://me:secret@127.0.0.1/", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerError, match="rabbitmq-plugins enable rabbitmq_management") as raised:
        management.ask("GET", "overview")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("amqp", "given", "where", "vhost"),
    [
        ("amqp://u:p@broker:5672/", None, "http://broker:15672", "/"),
        ("amqp://u:p@broker/a%2Fb", "https://me:pw@api:443/rabbit/", "https://api:443/rabbit", "a/b"),
        ("amqp://one;amqp://two", None, "http://one:15672", "/"),
    ],
)
def test_the_place_comes_from_the_brokers_uri(amqp: str, given: str | None, where: str, vhost: str) -> None:
    management = Management(amqp, given)
    assert (management.where, management.vhost_name) == (where, vhost)


def test_the_version_comes_as_numbers(management: Management) -> None:
    assert management.version() >= (3, 10, 0)
