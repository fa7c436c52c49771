from collections.abc import Iterator

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import DoorEvents, Subscription, Verdict
from micro_framework.exceptions import PublishError
from tests.brokers.probes import Diary, Doors, Inbox, exchange, message, mf_threads, queue, soon

JOBS = queue("jobs")
MINE = queue("mine")


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker("test")


@pytest.fixture
def doors(broker: MemoryBroker) -> Iterator[Doors]:
    doors = Doors(broker)
    yield doors
    doors.close()


def test_one_thread_serves_both_halves(broker: MemoryBroker) -> None:
    door = broker.duplex("orders")
    assert str(door) == "duplex 'orders' of memory://test"
    door.start(DoorEvents())
    assert mf_threads() == ["mf-duplex-orders"]
    door.stop(soon())
    assert mf_threads() == []


def test_both_halves_are_told_ready_and_lost_once(doors: Doors, broker: MemoryBroker) -> None:
    diary = Diary()
    doors.duplex(Subscription(JOBS, 1, Inbox().take), events=diary.events)
    broker.drop_connections()
    diary.wait_for("ready", "lost", "ready")


def test_what_either_half_declares_is_declared_again(doors: Doors, broker: MemoryBroker) -> None:
    inbox = Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(queue("mine", exclusive=True), 1, inbox.take))
    door.declare(queues=[queue("private", exclusive=True)])
    broker.drop_connections()
    door.publish(message("private", mandatory=True)).wait(soon())
    door.publish(message("mine", "again", mandatory=True)).wait(soon())
    assert inbox.bodies(1) == ["again"]


def test_a_refusal_of_either_half_ends_both(doors: Doors) -> None:
    doors.declare(JOBS)
    other = queue("jobs", auto_delete=True)
    consuming, publishing = Diary(), Diary()
    doors.duplex(Subscription(other, 1, Inbox().take), events=consuming.events)
    consuming.wait_for("refused")
    door = doors.duplex(Subscription(MINE, 1, Inbox().take), events=publishing.events)
    door.declare(queues=[other])
    publishing.wait_for("ready", "refused")
    assert door.ready is False
    with pytest.raises(PublishError, match="refused"):
        door.publish(message("jobs"))


def test_an_exchange_that_is_declared_again_for_a_publish_leaves_consuming_alone(
    doors: Doors, broker: MemoryBroker
) -> None:
    """Declaring the consuming half again with it would consume every queue twice."""
    passing, inbox = exchange("passing", auto_delete=True), Inbox()
    door = doors.duplex(Subscription(JOBS, 1, inbox.take))
    door.declare([passing])
    doors.consuming(queue("short-lived", (passing, "#"), exclusive=True))[1].stop(soon())  # takes the exchange along
    door.publish(message("key", to="passing")).wait(soon())
    doors.send(message("jobs", "first"), message("jobs", "second"))
    first = inbox.next()
    with broker._server.lock:
        assert len(broker._server._queues["jobs"].consumptions) == 1
    door.cancel(soon())
    first.settle(Verdict.ACK)
    door.stop(soon())
    other, _ = doors.consuming(JOBS)
    assert other.bodies(1) == ["second"]
    assert inbox.is_empty


def test_a_cancelled_door_stays_connected_through_a_loss(doors: Doors, broker: MemoryBroker) -> None:
    inbox = Inbox(Verdict.ACK)
    door = doors.duplex(Subscription(JOBS, 1, inbox.take))
    door.cancel(soon())
    broker.drop_connections()
    assert door.ready is False
    door.publish(message("jobs", "for another", mandatory=True)).wait(soon())
    other, _ = doors.consuming(JOBS)
    assert other.bodies(1) == ["for another"]
    assert inbox.is_empty


def test_stopped_halves_publish_no_more(doors: Doors) -> None:
    door = doors.duplex(Subscription(JOBS, 1, Inbox().take))
    door.stop(soon())
    with pytest.raises(PublishError, match="duplex 'test-0'.*stopped"):
        door.publish(message("jobs"))
