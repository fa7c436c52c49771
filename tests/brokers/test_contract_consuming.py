"""What the broker port promises about consuming, held against every broker."""

import threading

from micro_framework.brokers.port import Subscription, Verdict
from tests.brokers.probes import SECONDS, Doors, Inbox, message, queue, soon

JOBS = queue("jobs")
MARKS = queue("marks")


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def send_numbers(doors: Doors, count: int, to: str = "jobs") -> None:
    doors.send(*(message(to, number) for number in numbers(count)))


# What is delivered


def test_a_message_arrives_with_where_it_was_sent(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.send(message("jobs", "hello"))
    delivery = inbox.next()
    assert delivery.body == b"hello"
    assert (delivery.exchange, delivery.routing_key, delivery.queue) == ("", "jobs", "jobs")
    assert delivery.redelivered is False


def test_what_waited_in_the_queue_arrives_too(doors: Doors) -> None:
    doors.declare(JOBS)
    send_numbers(doors, 3)
    inbox, _ = doors.consuming(JOBS)
    assert inbox.bodies(3) == numbers(3)


def test_messages_arrive_in_the_order_they_were_sent(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS, prefetch=7)
    send_numbers(doors, 200)
    assert inbox.bodies(200) == numbers(200)


def test_one_door_serves_several_queues(doors: Doors) -> None:
    jobs, marks = Inbox(Verdict.ACK), Inbox(Verdict.ACK)
    consumer = doors.consumer(Subscription(JOBS, 1, jobs.take), Subscription(MARKS, 1, marks.take))
    assert consumer.wait_ready(soon())
    doors.send(message("jobs", "a"), message("marks", "b"), message("jobs", "c"))
    assert jobs.bodies(2) == ["a", "c"]
    assert marks.bodies(1) == ["b"]


# Prefetch


def test_no_more_than_the_prefetch_is_unsettled(doors: Doors) -> None:
    jobs, marks = Inbox(), Inbox(Verdict.ACK)
    consumer = doors.consumer(Subscription(JOBS, 2, jobs.take), Subscription(MARKS, 1, marks.take))
    assert consumer.wait_ready(soon())
    send_numbers(doors, 5)
    held = jobs.several(2)
    doors.send(message("marks"))
    marks.next()  # came by the same connection after anything more for jobs would have
    assert jobs.is_empty
    held[0].settle(Verdict.ACK)
    assert jobs.next().body == b"2"
    doors.send(message("marks"))
    marks.next()
    assert jobs.is_empty


def test_every_verdict_makes_room_for_the_next_message(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS, None, prefetch=1)
    send_numbers(doors, 3)
    inbox.next().settle(Verdict.REJECT)
    inbox.next().settle(Verdict.REQUEUE)
    again = inbox.next()
    assert (again.body, again.redelivered) == (b"1", True)
    again.settle(Verdict.ACK)
    assert inbox.next().body == b"2"


# Verdicts


def test_what_was_acknowledged_or_rejected_does_not_come_back(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    send_numbers(doors, 2)
    first, second = inbox.several(2)
    first.settle(Verdict.ACK)
    second.settle(Verdict.REJECT)
    consumer.stop(soon())
    doors.send(message("jobs", "last"))
    later, _ = doors.consuming(JOBS)
    assert later.next().body == b"last"


def test_a_requeued_message_is_delivered_again_and_says_so(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS, None)
    doors.send(message("jobs", "again"))
    first = inbox.next()
    first.settle(Verdict.REQUEUE)
    second = inbox.next()
    assert (second.body, second.redelivered) == (b"again", True)
    assert first.redelivered is False


def test_requeued_messages_go_back_to_the_head_in_their_order(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None, prefetch=3)
    send_numbers(doors, 5)
    held = inbox.several(3)
    consumer.cancel(soon())
    for number in (2, 0, 1):
        held[number].settle(Verdict.REQUEUE)
    consumer.stop(soon())
    later, _ = doors.consuming(JOBS, prefetch=1)
    assert [(found.body.decode(), found.redelivered) for found in later.several(5)] == [
        ("0", True), ("1", True), ("2", True), ("3", False), ("4", False),
    ]  # fmt: skip


def test_the_first_verdict_wins(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    doors.send(message("jobs", "once"))
    delivery = inbox.next()
    delivery.settle(Verdict.ACK)
    delivery.settle(Verdict.REQUEUE)
    delivery.settle(Verdict.REJECT)
    consumer.stop(soon())
    doors.send(message("jobs", "last"))
    later, _ = doors.consuming(JOBS)
    assert later.next().body == b"last"


def test_an_old_delivery_cannot_settle_the_message_delivered_again(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    doors.send(message("jobs", "again"))
    old = inbox.next()
    old.settle(Verdict.REQUEUE)
    inbox.next()
    old.settle(Verdict.ACK)
    consumer.stop(soon())
    later, _ = doors.consuming(JOBS)
    assert later.next().body == b"again"


def test_any_thread_may_settle(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None, prefetch=4)
    send_numbers(doors, 100)

    def settle_some() -> None:
        for _ in range(25):
            inbox.next().settle(Verdict.ACK)

    threads = [threading.Thread(target=settle_some, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert inbox.is_empty
    consumer.stop(soon())
    doors.send(message("jobs", "last"))
    later, _ = doors.consuming(JOBS)
    assert later.next().body == b"last"


def test_settling_after_the_door_was_stopped_does_nothing(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    doors.send(message("jobs", "back"))
    delivery = inbox.next()
    consumer.stop(soon())
    delivery.settle(Verdict.ACK)
    later, _ = doors.consuming(JOBS)
    assert later.next().body == b"back"


# When a consumer goes


def test_unsettled_deliveries_come_back_in_order_when_the_consumer_stops(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None, prefetch=3)
    send_numbers(doors, 5)
    inbox.several(3)[1].settle(Verdict.ACK)
    inbox.next()  # the fourth, so that the acknowledgement has been taken
    consumer.stop(soon())
    later, _ = doors.consuming(JOBS, prefetch=1)
    found = later.several(4)
    assert [delivery.body.decode() for delivery in found] == ["0", "2", "3", "4"]
    assert [delivery.redelivered for delivery in found] == [True, True, True, False]


def test_another_consumer_takes_over_what_the_first_left(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    send_numbers(doors, 3)
    inbox.several(3)
    other, _ = doors.consuming(JOBS)
    consumer.stop(soon())
    assert other.bodies(3) == numbers(3)


def test_what_was_delivered_before_cancel_can_be_settled_after_it(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    send_numbers(doors, 3)
    acknowledged, requeued, rejected = inbox.several(3)
    consumer.cancel(soon())
    acknowledged.settle(Verdict.ACK)
    requeued.settle(Verdict.REQUEUE)
    rejected.settle(Verdict.REJECT)
    consumer.stop(soon())
    doors.send(message("jobs", "last"))
    later, _ = doors.consuming(JOBS)
    assert later.bodies(2) == ["1", "last"]


def test_nothing_is_delivered_after_cancel(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS)
    consumer.cancel(soon())
    consumer.cancel(soon())
    doors.send(message("jobs", "for somebody else"))
    other, _ = doors.consuming(JOBS)
    assert other.next().body == b"for somebody else"
    assert inbox.is_empty


def test_a_cancelled_consumer_keeps_what_is_unsettled_until_it_stops(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    doors.send(message("jobs", "held"))
    inbox.next()
    consumer.cancel(soon())
    other, _ = doors.consuming(JOBS)
    doors.send(message("jobs", "new"))
    assert other.next().body == b"new"
    consumer.stop(soon())
    back = other.next()
    assert (back.body, back.redelivered) == (b"held", True)


def test_cancel_waits_for_the_callback_that_is_running(doors: Doors) -> None:
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    def on_message(_delivery: object) -> None:
        entered.set()
        leave.wait(SECONDS)
        left.set()

    consumer = doors.consumer(Subscription(JOBS, 1, on_message))
    assert consumer.wait_ready(soon())
    doors.send(message("jobs"))
    assert entered.wait(SECONDS)
    threading.Timer(0.05, leave.set).start()
    consumer.cancel(soon())
    assert left.is_set()


# Several consumers


def test_two_consumers_share_a_queue(doors: Doors) -> None:
    one, _ = doors.consuming(JOBS, None, prefetch=10)
    two, _ = doors.consuming(JOBS, None, prefetch=10)
    send_numbers(doors, 20)
    assert sorted(one.bodies(10) + two.bodies(10), key=int) == numbers(20)


def test_a_consumer_without_room_is_passed_over(doors: Doors) -> None:
    busy, _ = doors.consuming(JOBS, None, prefetch=1)
    send_numbers(doors, 1)
    busy.next()
    free, _ = doors.consuming(JOBS, prefetch=1)
    send_numbers(doors, 10)
    assert free.bodies(10) == numbers(10)
    assert busy.is_empty


def test_an_ordinary_queue_does_not_count_what_comes_back(doors: Doors) -> None:
    _, consumer = doors.consuming(queue("jobs"))
    assert consumer.counts("jobs", soon()) is False
