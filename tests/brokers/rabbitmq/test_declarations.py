"""Adopting exchanges: each told once, in the broker's words."""

import logging

import pytest

from micro_framework.brokers.rabbitmq.declarations import Adoptions, Declarer, difference_in
from micro_framework.brokers.rabbitmq.link import Link
from micro_framework.testing.broker_state import VHost
from tests.brokers.probes import Diary, Doors, exchange, message, queue, soon


def test_the_difference_is_told_in_the_brokers_words() -> None:
    text = (
        "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for exchange 'x' in vhost '/': "
        "received 'false' but current is 'true'"
    )
    assert difference_in(text) == "auto_delete: received 'false' but current is 'true'"
    assert difference_in("else") == "else"


def test_an_adoption_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    adoptions = Adoptions("here")
    for _ in range(3):
        adoptions.tell("events", "durable")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_adopted_exchange_is_not_told_again_after_a_reconnect(
    doors: Doors, rabbit: VHost, caplog: pytest.LogCaptureFixture
) -> None:
    doors.consuming(queue("theirs", (exchange("events", durable=False), "#")))
    caplog.set_level(logging.INFO, "micro_framework")
    diary = Diary()
    publisher = doors.publisher([exchange("events")], events=diary.events)
    diary.wait_for("ready")
    rabbit.close_connections()
    diary.wait_for("ready", "lost", "ready")
    publisher.publish(message("k", to="events")).wait(soon())
    assert len([record for record in caplog.records if "adopted" in record.getMessage()]) == 1


def test_the_default_exchange_is_neither_declared_nor_bound(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs", (exchange("", "direct"), "jobs")))
    doors.send(message("jobs", "x"))
    assert inbox.bodies(1) == ["x"]


# Looking and deleting


def test_a_declarer_tells_and_deletes_what_is_there(doors: Doors, rabbit: VHost) -> None:
    """Looking for a queue that is not there closes its channel; what follows gets another."""
    doors.declare(queue("there"))
    consumer, found = doors.consumer(), []
    assert consumer.wait_ready(soon())
    link: Link = consumer._link  # type: ignore[attr-defined]

    def look_and_delete() -> None:
        assert link.connection is not None
        with Declarer(link.connection, Adoptions("here")) as declarer:
            found.extend([declarer.exists("gone"), declarer.exists("there"), declarer.exists("gone")])
            declarer.delete("gone")
            declarer.delete("there")
            found.append(declarer.exists("there"))

    assert link.call(look_and_delete, soon())
    assert found == [False, True, False, False]
    assert rabbit.queues() == {}
    assert link.ready
