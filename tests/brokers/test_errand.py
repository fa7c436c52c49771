"""Errands: copies are confirmed before their originals go, and what was only looked at goes back, on every broker."""

import pytest

from micro_framework.brokers.errand import Errand
from micro_framework.brokers.port import Publication
from micro_framework.config import Settings
from micro_framework.exceptions import BrokerError, PublishError
from micro_framework.testing.rabbitmq import free_port
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue
from tests.cli.dead_letters.conftest import broker_uri, outside

__all__ = ["broker_uri", "outside"]  # fixtures

HERE, THERE = Queue("here"), Queue("there")


def body_of(number: int) -> bytes:
    return str(number).encode()


@pytest.fixture
def errand(broker_uri, outside):
    """An open errand; three messages are in the queue `HERE`."""
    outside.doors.declare(HERE)
    outside.doors.declare(THERE)
    outside.doors.send(*(Publication("", HERE.name, body_of(number), Properties()) for number in range(3)))
    with Errand(Settings.from_mapping({"AMQP_URI": broker_uri}), "errand") as errand:
        yield errand


def test_a_copy_takes_the_place_of_its_original_and_the_rest_goes_back(errand, outside):
    outcomes: list[PublishError | None] = []
    for number in range(3):
        original = errand.browser.get(HERE.name, errand.deadline())
        if number == 1:
            copy = Publication("", THERE.name, original.body, original.properties, mandatory=True)
            errand.publish(copy, original, outcomes.append)
    errand.release()
    assert outcomes == [None]
    assert [each.body for each in outside.take_all(HERE)] == [body_of(0), body_of(2)]
    assert [each.body for each in outside.take_all(THERE)] == [body_of(1)]


def test_an_original_whose_copy_reaches_no_queue_goes_back(errand, outside):
    outcomes: list[PublishError | None] = []
    original = errand.browser.get(HERE.name, errand.deadline())
    errand.publish(Publication("", "nowhere", original.body, original.properties, True), original, outcomes.append)
    errand.release()
    assert [type(error).__name__ for error in outcomes] == ["Unroutable"]
    assert [each.body for each in outside.take_all(HERE)] == [body_of(number) for number in range(3)]


def test_where_no_broker_answers_it_says_so_in_time():
    settings = Settings.from_mapping({"AMQP_URI": f"amqp://user:secret@127.0.0.1:{free_port()}/"})
    with pytest.raises(BrokerError, match="no connection to amqp://user@") as failed, Errand(settings, "errand", 0.3):
        raise AssertionError("it opened")
    assert "refused" in str(failed.value).lower()
    assert "secret" not in str(failed.value)
