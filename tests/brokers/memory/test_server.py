from dataclasses import replace

import pytest

from micro_framework.brokers.memory.queues import Message
from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.exceptions import BrokerRefused, UnknownExchange, Unroutable
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Exchange
from tests.brokers.probes import exchange, queue


class Connection:
    def lose_connection(self, error: BaseException) -> None: ...
    def regain_connection(self) -> None: ...


OURS, THEIRS = Connection(), Connection()


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        (exchange("h", "headers"), "'headers'.*direct, fanout, topic only.*use RabbitMQ"),
        (exchange("d", "x-delayed-message"), "x-delayed-message"),
        (replace(exchange("a"), arguments={"alternate-exchange": "b"}), "alternate-exchange"),
        (exchange(""), "broker's own"),
        (exchange("amq.mine"), "broker's own"),
    ],
)
def test_an_exchange_it_does_not_have_is_refused_by_name(declared: Exchange, why: str) -> None:
    with pytest.raises(BrokerRefused, match=why):
        MemoryServer("").declare_exchange(declared)


@pytest.mark.parametrize("argument", ["x-dead-letter-exchange", "x-max-length", "x-max-priority", "x-expires"])
def test_a_queue_argument_it_does_not_keep_is_refused_by_name(argument: str) -> None:
    with pytest.raises(BrokerRefused, match=f"jobs.*{argument}"):
        MemoryServer("").declare_queue(queue("jobs", arguments={argument: 1}), OURS)


def test_how_rabbitmq_would_store_a_queue_makes_no_difference() -> None:
    MemoryServer("").declare_queue(queue("jobs", arguments={"x-queue-type": "quorum"}), OURS)


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic"])
def test_the_standard_exchanges_are_there(kind: str) -> None:
    server = MemoryServer("")
    standard = exchange(f"amq.{kind}", kind)
    server.declare_exchange(standard)
    server.declare_queue(queue("jobs", (standard, "key")), OURS)
    sent = Message(f"amq.{kind}", "key", b"", Properties())
    assert server.publish(sent, mandatory=True) is None


def test_binding_to_an_exchange_that_nobody_declared_is_refused_with_the_fix() -> None:
    with pytest.raises(BrokerRefused, match=r"'missing' does not exist.*DECLARE_EVENT_EXCHANGES"):
        MemoryServer("").declare_queue(queue("jobs", (exchange("missing"), "#")), OURS)


@pytest.mark.parametrize("turned", [False, True])
def test_exclusive_and_shared_are_different_flags_for_the_same_connection_too(turned: bool) -> None:
    first, second = queue("jobs", exclusive=not turned), queue("jobs", exclusive=turned)
    server = MemoryServer("")
    server.declare_queue(first, OURS)
    with pytest.raises(BrokerRefused, match="exclusive"):
        server.declare_queue(second, OURS)


def test_an_exclusive_queue_is_recorded_as_transient() -> None:
    server = MemoryServer("")
    server.declare_queue(queue("jobs", exclusive=True, durable=True), OURS)
    server.declare_queue(queue("jobs", exclusive=True, durable=False), OURS)


def test_only_the_owners_exclusive_queues_are_deleted() -> None:
    server = MemoryServer("")
    server.declare_queue(queue("ours", exclusive=True), OURS)
    server.declare_queue(queue("theirs", exclusive=True), THEIRS)
    server.delete_exclusive(OURS)
    assert isinstance(server.publish(Message("", "ours", b"", Properties()), mandatory=True), Unroutable)
    assert server.publish(Message("", "theirs", b"", Properties()), mandatory=True) is None


def test_an_auto_delete_exchange_stays_until_its_last_queue_is_gone() -> None:
    server = MemoryServer("")
    passing = exchange("passing", auto_delete=True)
    server.declare_exchange(passing)
    server.declare_queue(queue("ours", (passing, "#"), exclusive=True), OURS)
    server.declare_queue(queue("theirs", (passing, "#"), exclusive=True), THEIRS)
    sent = Message("passing", "key", b"", Properties())
    server.delete_exclusive(OURS)
    assert server.publish(sent, mandatory=True) is None
    server.delete_exclusive(THEIRS)
    assert isinstance(server.publish(sent, mandatory=False), UnknownExchange)


def test_a_message_delayed_for_a_queue_that_goes_meanwhile_is_dropped_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = MemoryServer("")
    server.declare_queue(queue("short-lived", exclusive=True), OURS)
    with server.lock:
        server.open_door(OURS)
        assert server.delay(Message("", "short-lived", b"", Properties()), "short-lived", 0) is None
        server.delete_exclusive(OURS)
        timer = server._timer._thread
    assert timer is not None
    timer.join(20)
    assert "short-lived" in caplog.text
    with server.lock:
        server.close_door(OURS)
