"""What is RabbitMQ's own about looking into queues; the rest is in the contract tests."""

import os
import time

import pytest

from micro_framework.brokers.port import Browser, Verdict
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.exceptions import BrokerError
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode, free_port
from micro_framework.wire.messages import Properties
from tests.brokers.probes import Diary, Doors, message, queue, soon

JOBS = queue("jobs")
QUORUM = queue("jobs", arguments={"x-queue-type": "quorum"})


def taken_bodies(browser: Browser, count: int) -> list[bytes]:
    found = [browser.get("jobs", soon()) for _ in range(count)]
    return [delivery.body for delivery in found if delivery is not None]


def test_a_lost_connection_is_told_once_and_nothing_is_taken_twice_unnoticed(doors: Doors, rabbit: VHost) -> None:
    doors.declare(JOBS)
    doors.send(message("jobs", "0"), message("jobs", "1"))
    diary = Diary()
    browser = doors.browser(diary.events)
    taken = browser.get("jobs", soon())
    assert taken is not None
    assert rabbit.close_connections(f"mf-browser-test-2 ({os.getpid()})") == 1
    diary.wait_for("ready", "lost", "ready")
    taken.settle(Verdict.ACK)
    with pytest.raises(BrokerError, match="lost its connection"):
        browser.get("jobs", soon())
    with pytest.raises(BrokerError, match="lost its connection"):
        browser.release(soon())
    assert taken_bodies(browser, 2) == [b"0", b"1"]
    browser.release(soon())


def test_a_quorum_queue_has_taken_in_every_verdict_when_messages_are_released(doors: Doors) -> None:
    """Else `dead-letters replay` would leave behind some of what it has replayed."""
    doors.declare(QUORUM)
    browser, other = doors.browser(), doors.browser()
    for _ in range(8):
        doors.send(*[message("jobs", "x") for _ in range(100)])
        first, *others = [browser.get("jobs", soon(), ahead=100) for _ in range(100)]
        for delivery in (*others, first):
            assert delivery is not None
            delivery.settle(Verdict.ACK)
        browser.release(soon())
        assert other.get("jobs", soon()) is None


def test_a_connection_lost_without_anything_taken_does_no_harm(doors: Doors, rabbit: VHost) -> None:
    doors.declare(JOBS)
    doors.send(message("jobs", "0"))
    diary = Diary()
    browser = doors.browser(diary.events)
    assert taken_bodies(browser, 1) == [b"0"]
    browser.release(soon())
    assert rabbit.close_connections(f"mf-browser-test-2 ({os.getpid()})") == 1
    diary.wait_for("ready", "lost", "ready")
    assert taken_bodies(browser, 1) == [b"0"]
    browser.release(soon())


def test_a_channel_that_the_broker_closes_is_told_and_replaced(doors: Doors) -> None:
    doors.declare(JOBS)
    doors.send(message("jobs", "0"))
    browser = doors.browser()
    assert taken_bodies(browser, 1) == [b"0"]
    with pytest.raises(BrokerError, match="no queue 'other'"):
        browser.get("other", soon())
    with pytest.raises(BrokerError, match="lost its connection"):
        browser.release(soon())
    assert taken_bodies(browser, 1) == [b"0"]


def test_a_quorum_queue_is_looked_into_and_says_how_often_it_took_a_message_back(doors: Doors) -> None:
    doors.declare(QUORUM)
    doors.send(*(message("jobs", number) for number in "012"))
    browser = doors.browser()
    for count in range(3):
        delivery = browser.get("jobs", soon())
        assert delivery is not None
        assert delivery.headers.get("x-delivery-count", 0) == count
        assert [delivery.body, *taken_bodies(browser, 2)] == [b"0", b"1", b"2"]
        browser.release(soon())


def test_without_a_connection_the_question_fails_and_says_why() -> None:
    doors = Doors(RabbitMQBroker(f"amqp://guest:guest@127.0.0.1:{free_port()}"))
    browser = doors.broker.browser("alone")
    with pytest.raises(BrokerError, match="not connected yet"):
        browser.count("jobs", time.monotonic() + 0.05)
    doors.opened.append(browser)
    diary = Diary()
    browser.start(diary.events)
    with pytest.raises(BrokerError, match="browser 'alone'"):
        browser.count("jobs", time.monotonic() + 0.3)
    doors.close()


def test_a_broker_that_does_not_answer_is_waited_for_until_the_deadline(own_node: RabbitMQNode, hurt: VHost) -> None:
    doors = Doors(RabbitMQBroker(hurt.uri))
    doors.declare(JOBS)
    doors.send(message("jobs", "0"))
    diary = Diary()
    browser = doors.browser(diary.events)
    with own_node.paused():
        with pytest.raises(BrokerError):
            browser.get("jobs", time.monotonic() + 0.5)
        diary.wait_for("ready", "lost")  # the doubtful connection was given up
    diary.wait_for("ready", "lost", "ready")
    assert taken_bodies(browser, 1) == [b"0"]
    doors.close()


def test_a_killed_broker_takes_everything_back(own_node: RabbitMQNode, hurt: VHost) -> None:
    doors = Doors(RabbitMQBroker(hurt.uri, heartbeat=1))
    doors.declare(JOBS)
    doors.send(*(message("jobs", str(number), properties=Properties(delivery_mode=2)) for number in range(20)))
    diary = Diary()
    browser = doors.browser(diary.events)
    assert len(taken_bodies(browser, 10)) == 10
    own_node.persist_declarations()
    own_node.kill()
    own_node.start()
    diary.wait_for("ready", "lost", "ready")
    with pytest.raises(BrokerError):
        browser.release(soon())
    assert taken_bodies(browser, 20) == [str(number).encode() for number in range(20)]
    doors.close()


# Several at once


def test_who_asks_again_and_again_gets_every_message_in_order_and_may_give_all_back(
    doors: Doors, rabbit: VHost
) -> None:
    bodies = [str(number) for number in range(200)]
    doors.declare(JOBS)
    doors.send(*(message("jobs", body) for body in bodies))
    browser = doors.browser()
    for _ in range(2):
        found = []
        while (delivery := browser.get("jobs", soon(), 199 - len(found))) is not None:
            found.append(delivery.body.decode())
            if len(found) in (1, 50):
                assert browser.count("jobs", soon()) == 200 - len(found)
        assert found == bodies
        browser.release(soon())
        assert browser.count("jobs", soon()) == 200


def test_no_more_is_taken_than_is_going_to_be_asked_for(doors: Doors) -> None:
    doors.declare(JOBS)
    doors.send(*(message("jobs", str(number)) for number in range(10)))
    first, second = doors.browser(), doors.browser()
    assert taken_bodies(first, 3) == [b"0", b"1", b"2"]
    assert [first.get("jobs", soon(), left).body for left in (2, 1, 0)] == [b"3", b"4", b"5"]  # type: ignore[union-attr]
    assert taken_bodies(second, 1) == [b"6"]


def test_what_is_large_is_asked_for_one_at_a_time(doors: Doors, rabbit: VHost) -> None:
    doors.declare(JOBS)
    doors.send(*(message("jobs", b"x" * 600_000) for _ in range(12)))
    browser = doors.browser()
    for left in reversed(range(12)):
        assert browser.get("jobs", soon(), left) is not None
        taken, seen = rabbit.queue("jobs").unacknowledged, 12 - left
        assert taken - seen <= 1, "more than two at once"
