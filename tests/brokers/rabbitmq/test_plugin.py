"""The plugin for delays: that a broker lacks it is found out; what is done with it, as far as that goes without it."""

import pytest

from micro_framework.brokers.port import DoorEvents
from micro_framework.brokers.rabbitmq import RabbitMQBroker, delays, plugin
from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.plugin import require_plugin
from micro_framework.exceptions import BrokerRefused
from micro_framework.testing.broker_state import VHost
from tests.brokers.probes import Diary, Doors, exchange, message, queue, soon

JOBS = queue("jobs")


def test_a_broker_without_it_is_told_as_such_with_both_ways_out(rabbit: VHost) -> None:
    connection = Endpoints(rabbit.uri).connect_apart("asking")
    with pytest.raises(BrokerRefused) as caught:
        require_plugin(connection, "here")
    for part in ("RETRY_BACKEND is plugin", "at here does not have rabbitmq_delayed_message_exchange",
                 "unknown exchange type", "leave RETRY_BACKEND out", "rabbitmq-plugins enable"):  # fmt: skip
        assert part in str(caught.value)
    rabbit.wait_for(lambda _: not rabbit.connections(), what="the connection to be closed")


def test_a_publisher_that_needs_it_is_refused(rabbit: VHost) -> None:
    diary = Diary()
    publisher = RabbitMQBroker(rabbit.uri, delayed_by_plugin=True).publisher("delaying")
    publisher.expect_delays(JOBS, [50])
    publisher.start(diary.events)
    try:
        diary.wait_for("refused")
        assert "does not have rabbitmq_delayed_message_exchange" in str(diary.errors[0])
        assert "guest:guest" not in str(diary.errors[0])
    finally:
        publisher.stop(soon())


def test_a_publisher_that_delays_nothing_does_not_ask(rabbit: VHost) -> None:
    publisher = RabbitMQBroker(rabbit.uri, delayed_by_plugin=True).publisher("straight")
    publisher.start(DoorEvents())
    try:
        assert publisher.wait_ready(soon())
    finally:
        publisher.stop(soon())


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, rabbit: VHost) -> Doors:
    """Doors with an exchange type that every broker has in place of the plugin's: all goes as with it but the wait."""
    monkeypatch.setattr(delays, "DELAYED_TYPE", "direct")
    monkeypatch.setattr(plugin, "DELAYED_TYPE", "direct")
    return Doors(RabbitMQBroker(rabbit.uri, delayed_by_plugin=True))


def test_messages_come_back_through_the_plugins_exchange(stand_in: Doors, rabbit: VHost) -> None:
    try:
        inbox, _ = stand_in.consuming(JOBS)
        publisher = stand_in.delaying(JOBS, delays=[500])
        publisher.delay(message("", "x"), queue="jobs", delay=500).wait(soon())
        delivery = inbox.next()
        assert (delivery.exchange, delivery.routing_key, delivery.body) == ("mf-delayed", "jobs", b"x")
        assert delivery.headers == {"x-delay": 500}
        assert set(rabbit.queues()) == {"jobs"}
    finally:
        stand_in.close()


def test_messages_come_back_through_the_plugins_exchange_and_another(stand_in: Doors) -> None:
    try:
        inbox, _ = stand_in.consuming(queue("rpc-orders", (exchange("rpc"), "orders.*")))
        publisher = stand_in.delaying(queue("rpc-orders"), exchange="rpc", routing_key="orders.create")
        back = {"exchange": "rpc", "routing_key": "orders.create"}
        publisher.delay(message("", "x"), queue="rpc-orders", delay=500, **back).wait(soon())
        assert (inbox.next().routing_key, inbox.is_empty) == ("orders.create", True)
    finally:
        stand_in.close()
