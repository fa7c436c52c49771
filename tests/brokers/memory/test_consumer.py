import threading
from collections.abc import Iterator

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import Delivery, DoorEvents, Subscription, Verdict
from micro_framework.exceptions import BrokerError
from tests.brokers.probes import SECONDS, Diary, Doors, Inbox, Told, exchange, message, queue, soon

JOBS = queue("jobs")


@pytest.fixture
def doors() -> Iterator[Doors]:
    doors = Doors(MemoryBroker("test"))
    yield doors
    doors.close()


def test_subscribing_after_the_start_is_refused(doors: Doors) -> None:
    consumer = doors.consumer()
    with pytest.raises(BrokerError, match=r"subscribe before start"):
        consumer.subscribe(Subscription(JOBS, 1, Inbox().take))


def test_unsettled_deliveries_come_again_after_a_lost_connection(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS, None, prefetch=3)
    doors.send(*(message("jobs", body) for body in "abcd"))
    held = inbox.several(3)
    held[1].settle(Verdict.ACK)
    inbox.next()
    doors.broker.drop_connections()  # type: ignore[attr-defined]
    held[0].settle(Verdict.ACK)
    again = inbox.several(3)
    assert [(delivery.body, delivery.redelivered) for delivery in again] == [(b"a", True), (b"c", True), (b"d", True)]


def test_cancel_gives_back_what_no_callback_saw_in_time(doors: Doors) -> None:
    entered, leave = threading.Event(), threading.Event()

    def on_message(_delivery: object) -> None:
        entered.set()
        leave.wait(SECONDS)

    consumer = doors.consumer(Subscription(JOBS, 3, on_message))
    doors.send(*(message("jobs", body) for body in "abc"))
    assert entered.wait(SECONDS)
    consumer.cancel(0.0)
    other, _ = doors.consuming(JOBS)
    assert other.bodies(2) == ["b", "c"]
    leave.set()


def test_cancel_lets_the_callbacks_see_what_was_delivered_before(doors: Doors) -> None:
    entered, leave = threading.Event(), threading.Event()
    seen: list[bytes] = []

    def on_message(delivery: object) -> None:
        entered.set()
        leave.wait(SECONDS)
        seen.append(delivery.body)  # type: ignore[attr-defined]

    consumer = doors.consumer(Subscription(JOBS, 3, on_message))
    doors.send(*(message("jobs", body) for body in "abcd"))
    assert entered.wait(SECONDS)
    leave.set()
    consumer.cancel(soon())
    assert seen == [b"a", b"b", b"c"]


def test_cancel_in_a_callback_does_not_wait_for_itself(doors: Doors) -> None:
    done = threading.Event()

    def on_message(_delivery: object) -> None:
        consumer.cancel(soon())
        done.set()

    consumer = doors.broker.consumer("self")
    doors.opened.append(consumer)
    consumer.subscribe(Subscription(JOBS, 1, on_message))
    consumer.start(DoorEvents())
    doors.send(message("jobs"))
    assert done.wait(SECONDS / 2)


def test_a_cancelled_consumer_does_not_come_back_after_a_lost_connection(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS)
    consumer.cancel(soon())
    doors.broker.drop_connections()  # type: ignore[attr-defined]
    assert consumer.ready is False
    doors.send(message("jobs", "for another"))
    other, _ = doors.consuming(JOBS)
    assert other.next().body == b"for another"
    assert inbox.is_empty


def test_an_exchange_left_to_others_must_be_there(doors: Doors) -> None:
    diary = Diary()
    ours = queue("ours", (exchange("theirs"), "#"))
    doors.consumer(Subscription(ours, 1, Inbox().take, declare_exchanges=False), events=diary.events)
    diary.wait_for("refused")
    assert "'theirs' does not exist" in str(diary.errors[0])


def test_nothing_is_lost_among_requeues_and_lost_connections(doors: Doors) -> None:
    seen: set[bytes] = set()
    everything = threading.Event()

    def on_message(delivery: Delivery) -> None:
        if not delivery.redelivered and delivery.body.endswith(b"3"):
            delivery.settle(Verdict.REQUEUE)
            return
        seen.add(delivery.body)
        delivery.settle(Verdict.ACK)
        if len(seen) == 2000:
            everything.set()

    for prefetch in (1, 7, 0):
        assert doors.consumer(Subscription(JOBS, prefetch, on_message)).wait_ready(soon())
    for number in range(2000):
        doors.send(message("jobs", str(number)))
        if number % 100 == 0:
            doors.broker.drop_connections()  # type: ignore[attr-defined]
    assert everything.wait(SECONDS)


def test_two_subscriptions_of_one_door_to_one_queue_give_nothing_to_each_other_at_the_end(doors: Doors) -> None:
    inbox = Inbox()
    consumer = doors.consumer(Subscription(JOBS, 1, inbox.take), Subscription(JOBS, 1, inbox.take))
    doors.send(*(message("jobs", body) for body in "abc"))
    inbox.several(2)
    consumer.stop(soon())
    later, _ = doors.consuming(JOBS)
    assert later.bodies(3) == ["a", "b", "c"]
    assert inbox.is_empty


# Queues that go


def test_a_queue_that_cannot_be_declared_again_refuses_the_door_and_nobody_else(doors: Doors) -> None:
    passing = exchange("passing", auto_delete=True)
    bound, diary = queue("bound", (passing, "#")), Diary()
    doors.declare(bound)
    inbox = Inbox(Verdict.ACK)
    left_to_others = Subscription(bound, 1, Inbox().take, declare_exchanges=False)
    doors.consumer(left_to_others, events=diary.events)
    doors.consumer(Subscription(bound, 1, inbox.take))
    doors.broker.delete_queue("bound")  # type: ignore[attr-defined]  # and its exchange with it
    diary.wait_for("ready", "refused")
    doors.send(message("key", "after", to="passing"))
    assert inbox.bodies(1) == ["after"]


def test_a_queue_that_went_while_cancelled_is_not_declared_again(doors: Doors) -> None:
    told = Told()
    consumer = doors.consumer(Subscription(JOBS, 1, Inbox().take, on_lost=told))
    consumer.cancel(soon())
    doors.broker.delete_queue("jobs")  # type: ignore[attr-defined]
    assert not doors.has_queue("jobs")
    consumer.stop(soon())
    told.wait_for(0)


def test_a_cancelled_consumer_deletes_its_queue_though_it_did_not_come_back(doors: Doors) -> None:
    consumer = doors.consumer(Subscription(JOBS, 1, Inbox().take, delete_at_stop=True))
    consumer.cancel(soon())
    doors.broker.drop_connections()  # type: ignore[attr-defined]
    consumer.stop(soon())
    assert not doors.has_queue("jobs")


def test_what_another_door_consumes_is_lost_to_it_when_the_owner_deletes_it(doors: Doors) -> None:
    told, inbox = Told(), Inbox(Verdict.ACK)
    owner = doors.consumer(Subscription(JOBS, 1, Inbox(Verdict.ACK).take, delete_at_stop=True))
    doors.consumer(Subscription(JOBS, 1, inbox.take, on_lost=told))
    owner.stop(soon())
    told.wait_for(1)
    doors.send(message("jobs", "after"))
    assert inbox.bodies(1) == ["after"]
