"""What is the embedded broker's own about looking into queues; the rest is in the contract tests."""

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import Verdict
from micro_framework.exceptions import BrokerError
from micro_framework.wire.messages import Properties
from tests.brokers.probes import Doors, message, queue, soon

JOBS = queue("jobs")


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker("browsed")


def test_a_lost_connection_is_told_once_and_nothing_is_taken_twice(broker: MemoryBroker) -> None:
    doors = Doors(broker)
    doors.declare(JOBS)
    doors.send(message("jobs", "0"), message("jobs", "1"))
    browser = doors.browser()
    taken = browser.get("jobs", soon())
    assert taken is not None
    broker.drop_connections()
    taken.settle(Verdict.ACK)
    with pytest.raises(BrokerError, match="lost its connection"):
        browser.get("jobs", soon())
    with pytest.raises(BrokerError, match="lost its connection"):
        browser.release(soon())
    again = browser.get("jobs", soon())
    assert again is not None
    assert (again.body, again.redelivered) == (b"0", True)
    browser.release(soon())
    doors.close()


def test_a_lost_connection_without_anything_taken_does_no_harm(broker: MemoryBroker) -> None:
    doors = Doors(broker)
    doors.declare(JOBS)
    browser = doors.browser()
    broker.drop_connections()
    assert browser.get("jobs", soon()) is None
    browser.release(soon())
    doors.close()


def test_what_has_expired_is_not_taken(broker: MemoryBroker) -> None:
    doors = Doors(broker)
    doors.declare(JOBS)
    doors.send(message("jobs", "short", properties=Properties(expiration="0")), message("jobs", "long"))
    taken = doors.browser().get("jobs", soon())
    assert taken is not None
    assert taken.body == b"long"
    doors.close()


def test_a_queue_that_was_made_anew_is_looked_into(broker: MemoryBroker) -> None:
    doors = Doors(broker)
    gone = queue("jobs", auto_delete=True)
    browser = doors.browser()
    for number in "ab":
        inbox, consumer = doors.consuming(gone, None)
        doors.send(message("jobs", number), message("jobs", number))
        inbox.several(2)[0].settle(Verdict.REQUEUE)
        inbox.next()
        consumer.stop(soon())
        assert browser.count("jobs", soon()) is None
    doors.close()
