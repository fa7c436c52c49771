import logging

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import DoorEvents
from micro_framework.exceptions import BrokerRefused, PublishError
from micro_framework.wire.messages import Properties
from tests.brokers.probes import Diary, exchange, message, mf_threads, queue, soon


@pytest.mark.parametrize("way", ["publish", "delay"])
def test_headers_that_cannot_travel_are_the_answer_not_a_crash(way: str) -> None:
    publisher = MemoryBroker().publisher("p")
    publisher.start(DoorEvents())
    bad = message("jobs", properties=Properties(headers={"h": object()}))
    answer = publisher.publish(bad) if way == "publish" else publisher.delay(bad, queue="jobs", delay=1)
    with pytest.raises(PublishError, match="header 'h'"):
        answer.wait(soon())
    publisher.stop(soon())


def test_without_a_confirm_no_error_is_told() -> None:
    publisher = MemoryBroker().publisher("p")
    publisher.start(DoorEvents())
    publisher.publish(message("nobody", to="missing", mandatory=True), confirm=False).wait(soon())
    publisher.stop(soon())


def test_a_refused_publisher_says_why_it_cannot_publish() -> None:
    publisher, diary = MemoryBroker("test").publisher("p"), Diary()
    publisher.declare([exchange("h", "headers")])
    publisher.start(diary.events)
    diary.wait_for("refused")
    with pytest.raises(PublishError, match=r"publisher 'p' of memory://test cannot publish: the broker refused"):
        publisher.publish(message("jobs"))
    publisher.stop(soon())


def test_a_refusal_after_the_start_gives_the_door_up() -> None:
    publisher, diary = MemoryBroker().publisher("p"), Diary()
    publisher.declare(queues=[queue("jobs")])
    publisher.start(diary.events)
    publisher.declare(queues=[queue("jobs", auto_delete=True)])
    diary.wait_for("ready", "refused")
    assert isinstance(diary.errors[0], BrokerRefused)
    assert publisher.ready is False
    publisher.stop(soon())
    assert mf_threads() == []


def test_the_line_about_an_adopted_exchange_names_the_flags(caplog: pytest.LogCaptureFixture) -> None:
    publisher = MemoryBroker().publisher("p")
    publisher.declare([exchange("e"), exchange("e", "fanout", auto_delete=True)])
    with caplog.at_level(logging.INFO):
        publisher.start(DoorEvents())
    publisher.stop(soon())
    start, _, flags = caplog.messages[0].partition(": ")
    assert start == "exchange 'e' exists with other flags and is adopted as it is"
    assert flags == "type is 'topic', here 'fanout', auto_delete is False, here True"
    assert len(caplog.messages) == 1
