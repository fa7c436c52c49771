"""What the broker port promises to those who look into queues, held against every broker."""

import threading

import pytest

from micro_framework.brokers.port import Browser, Delivery, Verdict
from micro_framework.exceptions import BrokerError
from micro_framework.wire.messages import Properties
from tests.brokers.probes import Doors, message, queue, soon

JOBS = queue("jobs")
MARKS = queue("marks")


def fill(doors: Doors, count: int, to: str = "jobs") -> None:
    doors.declare(queue(to))
    doors.send(*(message(to, str(number)) for number in range(count)))


def take(browser: Browser, count: int, name: str = "jobs") -> list[Delivery]:
    taken = [browser.get(name, soon()) for _ in range(count)]
    found = [delivery for delivery in taken if delivery is not None]
    assert len(found) == count
    return found


def bodies(doors: Doors, count: int, name: str = "jobs") -> list[str]:
    """The next messages of a queue, which are acknowledged."""
    inbox, consumer = doors.consuming(queue(name), prefetch=1)
    found = inbox.bodies(count)
    consumer.stop(soon())
    return found


def test_messages_are_taken_one_by_one_in_order(doors: Doors) -> None:
    fill(doors, 3)
    browser = doors.browser()
    assert [delivery.body for delivery in take(browser, 3)] == [b"0", b"1", b"2"]
    assert browser.get("jobs", soon()) is None


def test_a_message_is_all_there(doors: Doors) -> None:
    doors.declare(JOBS)
    sent = Properties("text/plain", "utf-8", {"a": [1, "x"]}, 2, correlation_id="c", message_id="m")
    doors.send(message("jobs", b"x" * 300_000, properties=sent))
    (delivery,) = take(doors.browser(), 1)
    assert delivery.body == b"x" * 300_000
    assert delivery.properties == sent
    assert (delivery.exchange, delivery.routing_key, delivery.queue) == ("", "jobs", "jobs")
    assert delivery.redelivered is False


def test_waiting_messages_are_counted(doors: Doors) -> None:
    fill(doors, 3)
    browser = doors.browser()
    assert browser.count("jobs", soon()) == 3
    take(browser, 1)
    assert browser.count("jobs", soon()) == 2
    browser.release(soon())
    take(browser, 1)  # what was given back is known by then
    assert browser.count("jobs", soon()) == 2


def test_a_queue_that_is_not_there_counts_none(doors: Doors) -> None:
    browser = doors.browser()
    assert browser.count("jobs", soon()) is None
    doors.declare(JOBS)
    assert browser.count("jobs", soon()) == 0
    assert browser.get("jobs", soon()) is None


def test_nothing_can_be_taken_where_there_is_no_queue_and_the_next_question_is_answered(doors: Doors) -> None:
    browser = doors.browser()
    with pytest.raises(BrokerError, match="no queue 'jobs'"):
        browser.get("jobs", soon())
    fill(doors, 1)
    assert take(browser, 1)[0].body == b"0"


def test_what_was_taken_goes_back_to_its_place(doors: Doors) -> None:
    fill(doors, 5)
    browser = doors.browser()
    taken = take(browser, 3)
    taken[1].settle(Verdict.ACK)
    browser.release(soon())
    assert bodies(doors, 4) == ["0", "2", "3", "4"]


def test_a_verdict_is_kept_when_the_rest_goes_back(doors: Doors) -> None:
    fill(doors, 4)
    browser = doors.browser()
    for delivery, verdict in zip(take(browser, 3), (Verdict.REJECT, Verdict.ACK, Verdict.REQUEUE), strict=True):
        delivery.settle(verdict)
    browser.release(soon())
    browser.release(soon())
    assert [delivery.body for delivery in take(browser, 2)] == [b"2", b"3"]
    assert browser.get("jobs", soon()) is None


def test_a_verdict_after_everything_went_back_comes_too_late(doors: Doors) -> None:
    fill(doors, 2)
    browser = doors.browser()
    first, second = take(browser, 2)
    browser.release(soon())
    first.settle(Verdict.ACK)
    again = take(browser, 2)
    second.settle(Verdict.ACK)
    assert [delivery.body for delivery in again] == [b"0", b"1"]
    browser.release(soon())
    assert bodies(doors, 2) == ["0", "1"]


def test_what_was_given_back_can_be_taken_again(doors: Doors) -> None:
    fill(doors, 2)
    browser = doors.browser()
    for _ in range(3):
        assert [delivery.body for delivery in take(browser, 2)] == [b"0", b"1"]
        browser.release(soon())
    assert take(browser, 1)[0].redelivered is True


def test_what_was_taken_goes_back_when_the_door_is_stopped(doors: Doors) -> None:
    fill(doors, 3)
    browser = doors.browser()
    take(browser, 1)[0].settle(Verdict.ACK)
    take(browser, 1)
    browser.stop(soon())
    assert bodies(doors, 2) == ["1", "2"]


def test_several_queues_are_looked_into_at_once(doors: Doors) -> None:
    fill(doors, 2)
    fill(doors, 1, "marks")
    browser = doors.browser()
    assert [take(browser, 1, name)[0].body for name in ("jobs", "marks", "jobs")] == [b"0", b"0", b"1"]
    browser.release(soon())
    assert [take(browser, 1, name)[0].body for name in ("jobs", "marks", "jobs")] == [b"0", b"0", b"1"]


def test_a_browser_takes_nothing_that_it_did_not_ask_for(doors: Doors) -> None:
    browser = doors.browser()
    doors.declare(JOBS)
    assert browser.get("jobs", soon()) is None
    doors.send(message("jobs", "for the consumer"))
    assert bodies(doors, 1) == ["for the consumer"]


def test_what_a_consumer_has_is_not_there(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS, None, prefetch=1)
    doors.send(message("jobs", "0"), message("jobs", "1"))
    inbox.next()
    browser = doors.browser()
    assert take(browser, 1)[0].body == b"1"
    assert browser.get("jobs", soon()) is None


def test_many_messages_go_back_in_order(doors: Doors) -> None:
    count = 2500
    fill(doors, count)
    browser = doors.browser()
    for delivery in take(browser, count)[::2]:
        delivery.settle(Verdict.ACK)
    browser.release(soon())
    assert bodies(doors, count // 2) == [str(number) for number in range(1, count, 2)]


def test_a_stopped_browser_says_so(doors: Doors) -> None:
    browser = doors.browser()
    browser.stop(soon())
    with pytest.raises(BrokerError):
        browser.count("jobs", soon())
    with pytest.raises(BrokerError):
        browser.get("jobs", soon())


def test_questions_may_come_from_any_thread(doors: Doors) -> None:
    fill(doors, 1)
    browser = doors.browser()
    found: list[Delivery | None] = []
    thread = threading.Thread(target=lambda: found.append(browser.get("jobs", soon())), name="test-asking")
    thread.start()
    thread.join(10)
    assert found[0] is not None
    assert found[0].body == b"0"
