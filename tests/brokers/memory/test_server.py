import threading
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import pytest

from micro_framework.brokers.memory.queues import MemoryDelivery, Message
from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.exceptions import BrokerRefused, UnknownExchange, Unroutable
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Exchange
from tests.brokers.probes import SECONDS, exchange, queue


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


@pytest.mark.parametrize("argument", ["x-dead-letter-exchange", "x-max-length", "x-max-priority"])
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


# Deleting a queue


def test_a_deleted_queue_takes_its_messages_bindings_and_exchange_along() -> None:
    server = MemoryServer("")
    passing = exchange("passing", auto_delete=True)
    server.declare_exchange(passing)
    server.declare_queue(queue("jobs", (passing, "#")), OURS)
    server.publish(Message("", "jobs", b"held", Properties()), mandatory=True)
    server.delete_queue("jobs")
    assert server.find_queue("jobs") is None
    assert isinstance(server.publish(Message("passing", "key", b"", Properties()), mandatory=False), UnknownExchange)
    server.declare_queue(queue("jobs"), OURS)
    taken: list[MemoryDelivery] = []
    server.consume("jobs", 0, taken.append)
    assert taken == []


def test_deleting_an_unknown_queue_changes_nothing() -> None:
    server = MemoryServer("")
    server.declare_queue(queue("jobs"), OURS)
    server.delete_queue("unknown")
    assert server.find_queue("jobs") is not None


def test_every_consumer_of_a_deleted_queue_is_told_when_it_has_gone() -> None:
    server = MemoryServer("")
    server.declare_queue(queue("jobs"), OURS)
    told: list[bool] = []
    for _ in range(2):
        server.consume("jobs", 1, lambda delivery: None, lambda: told.append(server.find_queue("jobs") is not None))
    ended = server.consume("jobs", 1, lambda delivery: None, lambda: told.append(True))
    server.end_consumption(ended)
    server.delete_queue("jobs")
    assert told == [False, False]


# Queues that go when nobody used them for some time (x-expires)

LEASE = 0.05
LEASED = queue("leased", arguments={"x-expires": int(LEASE * 1000)})


class Leases:
    """A server whose timer runs, and looks at moments between the ends of two leases."""

    def __init__(self) -> None:
        self.server = MemoryServer("test")
        with self.server.lock:
            self.server.open_door(OURS)

    def declare(self) -> None:
        with self.server.lock:
            self.server.declare_queue(LEASED, OURS)

    def look_after_one_lease(self) -> "Look":
        """Look when a lease is over that begins now: every earlier one is over then, and no later one is.

        The timer goes by what is due first, and what was scheduled first, so it depends on no thread's luck.
        """
        look = Look(self.server)
        with self.server.lock:
            self.server._timer.schedule(monotonic() + LEASE, look.take)
        return look

    def close(self) -> None:
        with self.server.lock:
            ending = self.server.close_door(OURS)
        if ending is not None:
            ending.join(SECONDS)


class Look:
    """Whether the leased queue was there at some moment, once that has come."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.taken = threading.Event()
        self.found = False

    def take(self) -> None:
        self.found = self.server.find_queue("leased") is not None
        self.taken.set()

    @property
    def found_it(self) -> bool:
        assert self.taken.wait(SECONDS)
        return self.found


@pytest.fixture
def leases() -> Iterator[Leases]:
    leases = Leases()
    yield leases
    leases.close()


def test_a_queue_goes_when_its_lease_is_over(leases: Leases) -> None:
    leases.declare()
    assert leases.server.find_queue("leased") is not None
    assert not leases.look_after_one_lease().found_it


def test_declaring_it_again_renews_a_lease(leases: Leases) -> None:
    with leases.server.lock:
        leases.declare()
        between = leases.look_after_one_lease()
        leases.declare()
        after = leases.look_after_one_lease()
    assert between.found_it
    assert not after.found_it


def test_publishing_renews_no_lease(leases: Leases) -> None:
    with leases.server.lock:
        leases.declare()
        after = leases.look_after_one_lease()
        assert leases.server.publish(Message("", "leased", b"", Properties()), mandatory=True) is None
    assert not after.found_it


def test_a_queue_does_not_go_while_it_is_consumed_and_the_last_consumer_renews_the_lease(leases: Leases) -> None:
    server = leases.server
    with server.lock:
        leases.declare()
        one, two = (server.consume("leased", 1, lambda delivery: None) for _ in range(2))
        consumed = leases.look_after_one_lease()
    assert consumed.found_it
    with server.lock:
        server.end_consumption(one)
        half_consumed = leases.look_after_one_lease()
    assert half_consumed.found_it
    with server.lock:
        before = leases.look_after_one_lease()
        server.end_consumption(two)
        after = leases.look_after_one_lease()
    assert before.found_it
    assert not after.found_it


def test_a_consumer_that_comes_and_goes_renews_the_lease(leases: Leases) -> None:
    server = leases.server
    with server.lock:
        leases.declare()
        between = leases.look_after_one_lease()
        server.end_consumption(server.consume("leased", 1, lambda delivery: None))
        after = leases.look_after_one_lease()
    assert between.found_it
    assert not after.found_it


def test_the_end_of_an_old_queues_lease_spares_a_new_one_of_that_name(leases: Leases) -> None:
    server = leases.server
    with server.lock:
        leases.declare()
        between = leases.look_after_one_lease()
        server.delete_queue("leased")
        leases.declare()
        after = leases.look_after_one_lease()
    assert between.found_it
    assert not after.found_it


def test_a_queue_without_a_lease_stays(leases: Leases) -> None:
    with leases.server.lock:
        leases.server.declare_queue(queue("leased"), OURS)
    assert leases.look_after_one_lease().found_it


def test_an_expired_queue_takes_its_exchange_along(leases: Leases) -> None:
    server = leases.server
    with server.lock:
        passing = exchange("passing", auto_delete=True)
        server.declare_exchange(passing)
        server.declare_queue(queue("leased", (passing, "#"), arguments=LEASED.arguments), OURS)
        after = leases.look_after_one_lease()
    assert not after.found_it
    with server.lock:
        sent = server.publish(Message("passing", "key", b"", Properties()), mandatory=False)
    assert isinstance(sent, UnknownExchange)
