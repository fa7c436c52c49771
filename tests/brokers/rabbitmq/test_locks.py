"""Locks at RabbitMQ: exclusive queues, and what happens when connections, queues and brokers go."""

import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from micro_framework.brokers.port import Lock
from micro_framework.brokers.rabbitmq import RabbitMQBroker, locks as locks_module
from micro_framework.brokers.rabbitmq.locks import LOCK_HEARTBEAT, RabbitMQLocks
from micro_framework.testing.broker_state import BrokerAdmin, VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.brokers.probes import SECONDS, Contender, Diary, Doors, queue, soon, uri_of_user

NAME = "mf-timer.orders.tick"
DELETE_QUEUE = """
{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(%(vhost)s, queue, %(queue)s)),
{ok, _} = rabbit_amqqueue:delete(Q, false, false, <<"test">>),
[]
"""


def holder_and_one_who_waits(doors: Doors, first_events: Diary | None = None) -> tuple[Contender, Contender]:
    first = doors.contender(NAME, first_events.events if first_events else None)
    assert first.next_news() == "joined, holds"
    second = doors.contender(NAME)
    assert second.next_news() == "joined, waits"
    return first, second


def client_name(rabbit: VHost, contender: Contender) -> str:
    title: str = contender.door._link.thread_name  # type: ignore[attr-defined]
    (found,) = [each.client_name for each in rabbit.connections() if title in each.client_name]
    return found


def test_the_lock_is_an_exclusive_queue_that_keeps_nothing_and_leaves_nothing(doors: Doors, rabbit: VHost) -> None:
    first, second = holder_and_one_who_waits(doors)
    held = rabbit.queue(NAME)
    assert (held.exclusive, held.durable, held.auto_delete, held.depth) == (True, False, False, 0)
    assert held.arguments == {"x-queue-type": "classic", "x-message-ttl": 0}
    assert first.announce("x")
    second.door.stop(soon())
    first.door.stop(soon())
    rabbit.wait_for(lambda _: not rabbit.queues(), what="every queue to go")
    assert rabbit.exchanges() == {}


def test_who_waits_asks_without_being_refused(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal is an error in the broker's log, every second, for each replica."""
    caplog.set_level(logging.DEBUG, locks_module.__name__)
    monkeypatch.setattr(locks_module, "ASK_SECONDS", 0.02)
    answers: SimpleQueue[BaseException | None] = SimpleQueue()
    answered = RabbitMQLocks._on_answer

    def note(self: RabbitMQLocks, name: str, error: BaseException | None) -> None:
        answers.put(error)
        answered(self, name, error)

    monkeypatch.setattr(RabbitMQLocks, "_on_answer", note)
    holder_and_one_who_waits(doors)
    assert type(answers.get(timeout=SECONDS)).__name__ == "Unroutable"
    assert [answers.get(timeout=SECONDS) for _ in range(10)] == [None] * 10
    assert "cannot be taken" not in caplog.text


def test_the_lock_goes_to_another_when_the_broker_closes_the_holders_connection(doors: Doors, rabbit: VHost) -> None:
    diary = Diary()
    first, second = holder_and_one_who_waits(doors, diary)
    assert rabbit.close_connections(client_name(rabbit, first)) == 1
    # The first may be back before the second has asked; then it is the second who goes on waiting.
    diary.wait_for("ready", "lost", "ready")
    if first.next_news() == "joined, waits":
        assert second.next_news() == "holds"
    assert sorted([first.announce("x"), second.announce("x")]) == [False, True]


def test_a_holder_that_does_not_know_yet_that_it_lost_the_lock_is_not_told_that_it_holds_it(
    doors: Doors, rabbit: VHost
) -> None:
    """As a process that was stopped with SIGSTOP: it wakes up and goes on where it was."""
    first, second = holder_and_one_who_waits(doors)
    asleep, wake_up = threading.Event(), threading.Event()

    def sleep() -> None:
        asleep.set()
        wake_up.wait(3 * SECONDS)

    first.door._link.post(sleep)  # type: ignore[attr-defined]
    assert asleep.wait(SECONDS)
    answers: SimpleQueue[bool] = SimpleQueue()
    try:
        assert rabbit.close_connections(client_name(rabbit, first)) == 1
        assert second.next_news() == "holds"
        first.door.announce(NAME, "a tick of mine", answers.put)
        assert answers.empty(), "it does not know yet"
        assert second.announce("a tick")
    finally:
        wake_up.set()
    assert answers.get(timeout=SECONDS) is False
    assert first.next_news() == "joined, waits"
    assert second.next_word() == "a tick"
    assert second.words.empty()


@pytest.mark.kills_broker
def test_a_holder_whose_queue_is_deleted_hears_of_it_and_takes_part_anew(
    own_node: RabbitMQNode, hurt: VHost, two_doors: Doors
) -> None:
    """Only from inside the broker can somebody else's exclusive queue be deleted."""
    diary = Diary()
    contender = two_doors.contender(NAME, diary.events)
    assert contender.next_news() == "joined, holds"
    own_node.evaluate(DELETE_QUEUE, vhost=hurt.name, queue=NAME)
    assert contender.next_news() == "joined, holds"
    assert diary.names == ["ready", "lost", "ready"]
    assert contender.announce("x")


def test_it_works_where_the_default_queue_type_is_quorum(broker: BrokerAdmin) -> None:
    vhost = VHost(broker, broker.add_vhost(default_queue_type="quorum"))
    doors = Doors(RabbitMQBroker(vhost.uri))
    try:
        first, second = holder_and_one_who_waits(doors)
        assert first.announce("x")
        first.door.stop(soon())
        assert second.next_news() == "holds"
    finally:
        doors.close()
        broker.delete_vhost(vhost.name)


@pytest.mark.parametrize(("configured", "used"), [(60, LOCK_HEARTBEAT), (0, LOCK_HEARTBEAT), (1, 1), (None, 3)])
def test_its_heartbeat_is_short_whatever_is_configured(configured: int | None, used: int) -> None:
    door: Any = RabbitMQBroker("amqp://localhost", heartbeat=configured).locks("x")
    (host,) = door._link._endpoints._hosts
    assert host.arguments["heartbeat"] == used


@pytest.fixture
def two_doors(hurt: VHost) -> Iterator[Doors]:
    doors = Doors(RabbitMQBroker(hurt.uri))
    yield doors
    doors.close()


@pytest.mark.kills_broker
@pytest.mark.timeout(180)
def test_after_the_broker_was_killed_one_of_them_holds_it_again(own_node: RabbitMQNode, two_doors: Doors) -> None:
    first, second = holder_and_one_who_waits(two_doors)
    own_node.kill()
    assert first.announce("into the void") is False
    own_node.start(90)
    first.news = second.news
    news = {first.next_news(60), first.next_news(60)}
    assert news in ({"joined, holds", "joined, waits"}, {"joined, waits", "holds"})
    assert sorted([first.announce("x"), second.announce("x")]) == [False, True]


@pytest.mark.kills_broker
@pytest.mark.timeout(180)
def test_a_broker_that_hangs_is_given_up_and_the_lock_with_it(own_node: RabbitMQNode, two_doors: Doors) -> None:
    diary = Diary()
    first, _ = holder_and_one_who_waits(two_doors, diary)
    answers: SimpleQueue[bool] = SimpleQueue()
    with own_node.paused():
        first.door.announce(NAME, "is anybody there?", answers.put)
        assert answers.get(timeout=60) is False
        assert diary.names[:2] == ["ready", "lost"]


@pytest.mark.kills_broker
def test_a_user_needs_few_permissions_for_it(own_node: RabbitMQNode, hurt: VHost) -> None:
    configure, write, read = (
        "^mf-(timer|locks)",
        "^(mf-locks.*|amq.default|amq.direct)$",
        "^(mf-(timer|locks).*|amq.direct)$",
    )
    doors = Doors(RabbitMQBroker(uri_of_user(own_node, hurt, configure, write, read)))
    try:
        first, second = holder_and_one_who_waits(doors)
        assert first.announce("x")
        assert second.next_word() == "x"
        first.door.stop(soon())
        assert second.next_news() == "holds"
    finally:
        doors.close()


def test_who_gets_the_lock_has_heard_every_word_before(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a busy broker words may come later than the news that the holder has gone; here they are held back so long."""
    first, second = holder_and_one_who_waits(doors)
    door: Any = second.door
    taken, late = threading.Event(), list[Any]()
    deliver, declare = door._listening.on_deliver, door._declare

    def hold_back(*content: bytes) -> None:
        late.append(content)
        if taken.is_set():
            while late:
                deliver(*late.pop(0))

    def declare_and_tell(*arguments: Any) -> None:
        declare(*arguments)
        taken.set()

    monkeypatch.setattr(door._listening, "on_deliver", hold_back)
    monkeypatch.setattr(door, "_declare", declare_and_tell)
    told: SimpleQueue[str] = SimpleQueue()
    door._locks[NAME] = Lock(NAME, on_joined=lambda _: None, on_held=lambda: told.put("holds"), on_word=told.put)
    assert first.announce("a tick")
    first.door.stop(soon())
    assert [told.get(timeout=3 * SECONDS) for _ in range(2)] == ["a tick", "holds"]


def test_a_queue_of_that_name_that_is_no_lock_is_waited_for(doors: Doors) -> None:
    doors.declare(queue(NAME))
    assert doors.contender(NAME).next_news() == "joined, waits"
