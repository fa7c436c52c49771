"""What the broker port promises about doors that consume and publish, and about queues that go, on every broker.

What consumers and publishers promise each for themselves is held against duplex doors too, by `any_broker`.
"""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from micro_framework.brokers.port import Delivery, Duplex, Publisher, Subscription, Verdict
from tests.brokers.probes import SECONDS, Doors, Inbox, Operator, Told, message, queue, soon

pytestmark = pytest.mark.parametrize("any_broker", ["memory", "rabbitmq"], indirect=True)

REQUESTS = queue("requests")
REPLIES = queue("replies")
MINE = queue("mine")


def settled_by_its_confirm(publisher: Publisher, delivery: Delivery) -> None:
    """Reply, and acknowledge the request once the reply is safe; what a server does."""

    def settle(error: BaseException | None) -> None:
        delivery.settle(Verdict.ACK if error is None else Verdict.REQUEUE)

    publisher.publish(message("replies", delivery.body)).add_done_callback(settle)


def serving(doors: Doors, on_message: Callable[[Delivery], None], *, prefetch: int = 10) -> Duplex:
    """A ready door that consumes the requests."""
    doors.declare(REPLIES)
    door = doors.duplex(Subscription(REQUESTS, prefetch, on_message))
    assert door.wait_ready(soon())
    return door


def nothing_is_left(doors: Doors, name: str) -> bool:
    """Whether a queue holds nothing, and nothing of it was out with a consumer that has gone."""
    doors.send(message(name, "last"))
    inbox, _ = doors.consuming(queue(name))
    found = inbox.next()
    return (found.body, found.redelivered) == (b"last", False)


# Both on one door


def test_a_door_consumes_what_it_published_itself(doors: Doors) -> None:
    inbox = Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take))
    assert door.wait_ready(soon())
    for number in range(50):
        door.publish(message("requests", str(number), mandatory=True)).wait(soon())
    assert inbox.bodies(50) == [str(number) for number in range(50)]


def test_a_door_declares_and_delays_too(doors: Doors) -> None:
    inbox = Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take))
    assert door.wait_ready(soon())
    door.declare(queues=[MINE])
    door.publish(message("mine", mandatory=True)).wait(soon())
    door.delay(message("", "later"), queue="requests", delay=20).wait(soon())
    assert inbox.bodies(1) == ["later"]


def test_what_it_consumes_is_there_before_anything_is_published(doors: Doors) -> None:
    """A client's request goes out when its answer can come in; published while it still connects."""
    inbox = Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(MINE, 10, inbox.take))
    sent = [door.publish(message("mine", str(number), mandatory=True)) for number in range(10)]
    for confirmation in sent:
        confirmation.wait(soon())
    assert inbox.bodies(10) == [str(number) for number in range(10)]


def test_a_callback_may_publish_on_its_own_door(doors: Doors) -> None:
    """On the door's thread, where the confirms arrive as well: every reply is sent, every request acknowledged."""
    replies, _ = doors.consuming(REPLIES)
    door = serving(doors, lambda delivery: settled_by_its_confirm(door, delivery), prefetch=7)
    doors.send(*(message("requests", str(number)) for number in range(500)))
    assert replies.bodies(500) == [str(number) for number in range(500)]
    door.stop(soon())
    assert nothing_is_left(doors, "requests")


# Cancel


def test_publishing_goes_on_after_cancel(doors: Doors) -> None:
    inbox = Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take))
    assert door.wait_ready(soon())
    door.cancel(soon())
    door.publish(message("requests", "for somebody else", mandatory=True)).wait(soon())
    other, _ = doors.consuming(REQUESTS)
    assert other.bodies(1) == ["for somebody else"]
    assert inbox.is_empty


def test_a_cancelled_door_is_not_ready_any_more(doors: Doors) -> None:
    door = doors.duplex(Subscription(REQUESTS, 10, Inbox().take))
    assert door.wait_ready(soon())
    door.cancel(soon())
    assert door.ready is False


def test_after_cancel_a_lost_connection_comes_back_for_publishing_alone(doors: Doors, operator: Operator) -> None:
    inbox = Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take), events=operator.events)
    assert door.wait_ready(soon())
    door.cancel(soon())
    operator.cut()
    door.publish(message("requests", "for somebody else", mandatory=True)).wait(soon())
    other, _ = doors.consuming(REQUESTS)
    assert other.bodies(1) == ["for somebody else"]
    assert inbox.is_empty


def test_what_was_delivered_is_answered_and_settled_after_cancel(doors: Doors) -> None:
    inbox = Inbox()
    door = serving(doors, inbox.take)
    doors.send(*(message("requests", str(number)) for number in range(3)))
    held = inbox.several(3)
    door.cancel(soon())
    for delivery in held:
        settled_by_its_confirm(door, delivery)
    door.stop(soon())
    replies, _ = doors.consuming(REPLIES)
    assert replies.bodies(3) == ["0", "1", "2"]
    assert nothing_is_left(doors, "requests")


# Stop


def test_what_confirms_settle_is_written_before_the_connection_closes(doors: Doors) -> None:
    """Many requests, answered by several threads, the stop right behind the last reply: none comes again."""
    work: SimpleQueue[Delivery | None] = SimpleQueue()
    door = serving(doors, work.put, prefetch=1000)
    doors.send(*(message("requests", str(number)) for number in range(1000)))

    def answer() -> None:
        while (delivery := work.get(timeout=SECONDS)) is not None:
            settled_by_its_confirm(door, delivery)
            if int(delivery.body) == 999:
                for _ in threads:
                    work.put(None)

    threads = [threading.Thread(target=answer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    door.stop(soon())
    replies, _ = doors.consuming(REPLIES)
    assert sorted(map(int, replies.bodies(1000))) == list(range(1000))
    assert nothing_is_left(doors, "requests")


def test_stop_waits_for_outstanding_confirms(doors: Doors) -> None:
    doors.declare(REPLIES)
    door = doors.duplex(Subscription(REQUESTS, 10, Inbox().take))
    assert door.wait_ready(soon())
    outcomes: list[BaseException | None] = []
    for number in range(500):
        door.publish(message("replies", str(number))).add_done_callback(outcomes.append)
    door.stop(soon())
    assert outcomes == [None] * 500
    replies, _ = doors.consuming(REPLIES)
    assert replies.bodies(500) == [str(number) for number in range(500)]


def test_what_is_delivered_and_unsettled_goes_back_at_stop(doors: Doors) -> None:
    inbox = Inbox()
    door = serving(doors, inbox.take)
    doors.send(*(message("requests", str(number)) for number in range(3)))
    settled_by_its_confirm(door, inbox.several(3)[1])
    door.stop(soon())
    later, _ = doors.consuming(REQUESTS)
    found = [(delivery.body.decode(), delivery.redelivered) for delivery in later.several(2)]
    assert found == [("0", True), ("2", True)]
    doors.send(message("requests", "last"))
    assert later.bodies(1) == ["last"]


# A queue is lost


def test_a_queue_deleted_while_consumed_is_told_declared_again_and_consumed(doors: Doors, operator: Operator) -> None:
    lost, inbox = Told(), Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(MINE, 10, inbox.take, on_lost=lost))
    assert door.wait_ready(soon())
    for times in (1, 2):
        operator.delete_queue("mine")
        lost.wait_for(times)
        doors.send_once_declared(message("mine", "after", mandatory=True))
        assert inbox.bodies(1) == ["after"]
    assert door.ready


def test_a_queue_deleted_while_the_connection_was_away_is_told(doors: Doors, operator: Operator) -> None:
    lost, inbox = Told(), Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(MINE, 10, inbox.take, on_lost=lost), events=operator.events)
    assert door.wait_ready(soon())
    operator.cut(meanwhile=lambda: operator.delete_queue("mine"))
    lost.wait_for(1)
    doors.send_once_declared(message("mine", "after", mandatory=True))
    assert inbox.bodies(1) == ["after"]
    lost.wait_for(1)


def test_a_lost_queue_is_told_though_the_publishing_half_declares_it_too(doors: Doors, operator: Operator) -> None:
    lost = Told()
    door = doors.duplex(Subscription(MINE, 10, Inbox().take, on_lost=lost), events=operator.events)
    assert door.wait_ready(soon())
    door.declare(queues=[MINE])
    operator.cut(meanwhile=lambda: operator.delete_queue("mine"))
    lost.wait_for(1)


def test_an_exclusive_queue_is_lost_with_its_connection(doors: Doors, operator: Operator) -> None:
    lost, inbox = Told(), Inbox(Verdict.ACK)
    private = queue("private", exclusive=True)
    door = doors.duplex(Subscription(private, 10, inbox.take, on_lost=lost), events=operator.events)
    assert door.wait_ready(soon())
    operator.cut()
    lost.wait_for(1)


def test_the_first_declaration_is_no_loss(doors: Doors) -> None:
    lost, inbox = Told(), Inbox(Verdict.ACK)
    doors.declare(MINE)
    door = doors.duplex(
        Subscription(REQUESTS, 10, Inbox().take, on_lost=lost), Subscription(MINE, 10, inbox.take, on_lost=lost)
    )
    assert door.wait_ready(soon())
    door.stop(soon())
    lost.wait_for(0)


def test_a_plain_reconnect_is_no_loss(doors: Doors, operator: Operator) -> None:
    lost, inbox = Told(), Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(MINE, 10, inbox.take, on_lost=lost), events=operator.events)
    assert door.wait_ready(soon())
    operator.cut()
    door.publish(message("mine", "after", mandatory=True)).wait(soon())
    assert inbox.bodies(1) == ["after"]
    lost.wait_for(0)


def test_only_the_subscription_of_the_lost_queue_is_told(doors: Doors, operator: Operator) -> None:
    mine, requests = Told(), Told()
    door = doors.duplex(
        Subscription(MINE, 10, Inbox().take, on_lost=mine), Subscription(REQUESTS, 10, Inbox().take, on_lost=requests)
    )
    assert door.wait_ready(soon())
    operator.delete_queue("mine")
    mine.wait_for(1)
    operator.delete_queue("requests")
    requests.wait_for(1)
    mine.wait_for(1)


def test_a_consumer_is_told_too(doors: Doors, operator: Operator) -> None:
    lost, inbox = Told(), Inbox(Verdict.ACK)
    consumer = doors.consumer(Subscription(MINE, 10, inbox.take, on_lost=lost))
    assert consumer.wait_ready(soon())
    operator.delete_queue("mine")
    lost.wait_for(1)


def test_publishing_goes_on_while_a_queue_is_lost(doors: Doors, operator: Operator) -> None:
    lost = Told()
    doors.declare(REPLIES)
    door = doors.duplex(Subscription(MINE, 10, Inbox().take, on_lost=lost))
    assert door.wait_ready(soon())
    sent = [door.publish(message("replies", str(number))) for number in range(100)]
    operator.delete_queue("mine")
    sent += [door.publish(message("replies", str(number))) for number in range(100, 200)]
    for confirmation in sent:
        confirmation.wait(soon())
    lost.wait_for(1)
    replies, _ = doors.consuming(REPLIES)
    assert replies.bodies(200) == [str(number) for number in range(200)]


def test_a_callback_for_a_loss_that_raises_does_no_harm(
    doors: Doors, operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    told, inbox = Told(), Inbox(Verdict.ACK)

    def on_lost() -> None:
        told()
        raise ValueError("a defect in the callback")

    door = doors.duplex(Subscription(MINE, 10, inbox.take, on_lost=on_lost))
    assert door.wait_ready(soon())
    operator.delete_queue("mine")
    doors.send_once_declared(message("mine", "after", mandatory=True))
    assert inbox.bodies(1) == ["after"]
    told.wait_for(1)
    assert "must not" in caplog.text


def test_deleting_a_queue_that_is_not_there_does_no_harm(doors: Doors, operator: Operator) -> None:
    lost, inbox = Told(), Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(MINE, 10, inbox.take, on_lost=lost))
    assert door.wait_ready(soon())
    operator.delete_queue("unknown")
    door.publish(message("mine", "still here", mandatory=True)).wait(soon())
    assert inbox.bodies(1) == ["still here"]
    lost.wait_for(0)


# Queues of no use without their consumer


def test_a_queue_is_deleted_at_the_stop_if_asked_for(doors: Doors) -> None:
    lost, inbox = Told(), Inbox()
    door = doors.duplex(
        Subscription(MINE, 10, inbox.take, on_lost=lost, delete_at_stop=True), Subscription(REQUESTS, 10, inbox.take)
    )
    assert door.wait_ready(soon())
    door.publish(message("mine", "unsettled")).wait(soon())
    inbox.next()
    door.stop(soon())
    door.stop(soon())
    assert not doors.has_queue("mine")
    assert doors.has_queue("requests")
    lost.wait_for(0)


def test_a_cancelled_door_deletes_its_queue_too(doors: Doors) -> None:
    door = doors.duplex(Subscription(MINE, 10, Inbox().take, delete_at_stop=True))
    assert door.wait_ready(soon())
    door.cancel(soon())
    assert doors.has_queue("mine")
    door.stop(soon())
    assert not doors.has_queue("mine")


def test_a_consumer_deletes_its_queue_too(doors: Doors) -> None:
    consumer = doors.consumer(Subscription(MINE, 10, Inbox().take, delete_at_stop=True))
    assert consumer.wait_ready(soon())
    consumer.stop(soon())
    assert not doors.has_queue("mine")


def test_a_stop_says_nothing_about_the_queue_it_deletes(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "micro_framework")
    door = doors.duplex(Subscription(MINE, 10, Inbox().take, delete_at_stop=True))
    assert door.wait_ready(soon())
    door.stop(soon())
    assert caplog.records == []


def test_a_queue_that_has_gone_already_is_no_reason_not_to_stop(
    doors: Doors, operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "micro_framework")
    door = doors.duplex(Subscription(MINE, 10, Inbox().take, delete_at_stop=True))
    assert door.wait_ready(soon())
    door.cancel(soon())
    operator.delete_queue("mine")
    door.stop(soon())
    assert caplog.records == []
    assert not doors.has_queue("mine")


def test_what_confirms_settle_is_written_before_a_queue_is_deleted(doors: Doors) -> None:
    """A door with both: requests are acknowledged although the stop has something to delete."""
    inbox = Inbox()
    doors.declare(REPLIES)
    door = doors.duplex(
        Subscription(REQUESTS, 100, inbox.take), Subscription(MINE, 1, Inbox().take, delete_at_stop=True)
    )
    assert door.wait_ready(soon())
    doors.send(*(message("requests", str(number)) for number in range(100)))
    for delivery in inbox.several(100):
        settled_by_its_confirm(door, delivery)
    door.stop(soon())
    assert not doors.has_queue("mine")
    assert nothing_is_left(doors, "requests")


def test_a_refused_queue_is_not_deleted(doors: Doors) -> None:
    """It is somebody else's, with what it holds."""
    doors.declare(MINE)
    doors.send(message("mine", "theirs"))
    door = doors.duplex(Subscription(queue("mine", auto_delete=True), 10, Inbox().take, delete_at_stop=True))
    assert door.wait_ready(soon()) is False
    door.stop(soon())
    inbox, _ = doors.consuming(MINE)
    assert inbox.bodies(1) == ["theirs"]


def test_a_door_that_was_never_started_deletes_nothing(doors: Doors) -> None:
    doors.declare(MINE)
    door = doors.broker.duplex("idle")
    door.subscribe(Subscription(MINE, 10, Inbox().take, delete_at_stop=True))
    door.stop(soon())
    assert doors.has_queue("mine")


def test_who_is_told_of_a_loss_can_count_on_the_queue(doors: Doors, operator: Operator) -> None:
    """Whoever asks again at once gets the answer: it does not come while there is no queue."""
    again: SimpleQueue[BaseException | None] = SimpleQueue()
    inbox = Inbox(Verdict.ACK)
    publisher = doors.common_publisher

    def on_lost() -> None:
        publisher.publish(message("mine", "again", mandatory=True)).add_done_callback(again.put)

    door = doors.duplex(Subscription(MINE, 10, inbox.take, on_lost=on_lost))
    assert door.wait_ready(soon())
    for _ in range(10):
        operator.delete_queue("mine")
        assert again.get(timeout=SECONDS) is None
        assert inbox.bodies(1) == ["again"]
