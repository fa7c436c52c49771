"""What the broker port promises about doors themselves: start, readiness, stop, threads, and who may know what."""

import threading
import time

import pytest

from micro_framework.brokers.port import Broker, Subscription, Verdict
from tests.brokers.probes import SECONDS, Diary, Doors, Inbox, message, mf_threads, queue, soon

JOBS = queue("jobs")


def test_a_door_tells_when_it_is_ready(doors: Doors) -> None:
    consumers, publishers = Diary(), Diary()
    consumer = doors.consumer(Subscription(JOBS, 1, Inbox().take), events=consumers.events)
    publisher = doors.publisher(queues=[JOBS], events=publishers.events)
    consumers.wait_for("ready")
    publishers.wait_for("ready")
    assert (consumer.ready, publisher.ready) == (True, True)


def test_events_and_messages_come_on_the_doors_own_thread(doors: Doors) -> None:
    seen: list[str] = []
    done = threading.Event()

    def on_message(_delivery: object) -> None:
        seen.append(threading.current_thread().name)
        done.set()

    consumer = doors.consumer(Subscription(JOBS, 1, on_message))
    assert consumer.wait_ready(soon())
    doors.send(message("jobs"))
    assert done.wait(SECONDS)
    assert seen[0].startswith("mf-")
    assert "test-0" in seen[0]


def test_a_door_is_not_ready_before_its_start(doors: Doors) -> None:
    consumer = doors.broker.consumer("idle")
    consumer.subscribe(Subscription(JOBS, 1, Inbox().take))
    assert consumer.ready is False
    began = time.monotonic()
    assert consumer.wait_ready(began + 0.02) is False
    assert 0.02 <= time.monotonic() - began < SECONDS
    consumer.stop(soon())


def test_a_stopped_door_is_not_ready_and_may_be_stopped_again(doors: Doors) -> None:
    for door in (doors.consumer(Subscription(JOBS, 1, Inbox().take)), doors.publisher()):
        assert door.wait_ready(soon())
        door.stop(soon())
        assert door.ready is False
        door.stop(soon())
        door.stop(time.monotonic() - 1)


def test_stop_keeps_its_deadline_when_a_callback_hangs(doors: Doors) -> None:
    entered, leave = threading.Event(), threading.Event()

    def on_message(_delivery: object) -> None:
        entered.set()
        leave.wait(SECONDS)

    consumer = doors.consumer(Subscription(JOBS, 1, on_message))
    assert consumer.wait_ready(soon())
    doors.send(message("jobs"))
    assert entered.wait(SECONDS)
    began = time.monotonic()
    consumer.stop(began + 0.1)
    assert time.monotonic() - began < SECONDS / 2
    leave.set()
    consumer.stop(soon())


def test_no_thread_is_left_after_stop(doors: Doors) -> None:
    inbox, consumer = doors.consuming(JOBS)
    doors.delay(message(""), "jobs", 60_000).wait(soon())
    doors.send(message("jobs"))
    inbox.next()
    assert mf_threads()
    consumer.stop(soon())
    doors.close()
    assert mf_threads() == []


def test_a_callback_that_raises_does_not_silence_the_door(doors: Doors) -> None:
    inbox = Inbox(Verdict.ACK)

    def on_message(delivery: object) -> None:
        inbox.take(delivery)  # type: ignore[arg-type]
        if inbox.deliveries.qsize() == 1:
            raise ValueError("a defect in the callback")

    consumer = doors.consumer(Subscription(JOBS, 1, on_message))
    assert consumer.wait_ready(soon())
    doors.send(message("jobs", "first"), message("jobs", "second"))
    assert inbox.bodies(2) == ["first", "second"]


def test_doors_of_one_broker_share_its_queues(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    for number in range(2):
        publisher = doors.publisher()
        assert publisher.wait_ready(soon())
        publisher.publish(message("jobs", str(number))).wait(soon())
    assert sorted(inbox.bodies(2)) == ["0", "1"]


def test_a_callback_may_publish_through_another_door(doors: Doors) -> None:
    """It must not wait there; the answer comes on the publisher's side."""
    answers = Inbox(Verdict.ACK)
    publisher = doors.common_publisher

    def on_message(delivery: object) -> None:
        publisher.publish(message("answers", "pong"))

    consumer = doors.consumer(Subscription(JOBS, 1, on_message), Subscription(queue("answers"), 1, answers.take))
    assert consumer.wait_ready(soon())
    doors.send(message("jobs", "ping"))
    assert answers.next().body == b"pong"


@pytest.mark.parametrize("secret", ["guest:", "password"])
def test_the_description_shows_no_password(any_broker: Broker, secret: str) -> None:
    assert any_broker.description
    assert secret not in any_broker.description
