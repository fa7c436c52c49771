import time

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import DoorEvents, Subscription
from micro_framework.exceptions import BrokerError
from tests.brokers.probes import Diary, Doors, Inbox, mf_threads, queue, soon


def test_a_door_is_opened_once() -> None:
    door = MemoryBroker("test").publisher("p")
    door.start(DoorEvents())
    with pytest.raises(BrokerError, match=r"publisher 'p' of memory://test was started before"):
        door.start(DoorEvents())
    door.stop(soon())
    with pytest.raises(BrokerError, match="take a new one"):
        door.start(DoorEvents())


def test_a_door_that_was_never_started_can_be_stopped_and_waited_for() -> None:
    door = MemoryBroker().consumer("c")
    door.stop(time.monotonic())
    assert door.wait_ready(soon()) is False


@pytest.mark.parametrize("kind", ["consumer", "publisher"])
def test_threads_are_named_after_the_door(kind: str) -> None:
    door = getattr(MemoryBroker(), kind)("orders")
    door.start(DoorEvents())
    assert mf_threads() == [f"mf-{kind}-orders"]
    door.stop(soon())
    assert mf_threads() == []


def test_a_door_stopped_on_its_own_thread_does_not_wait_for_itself() -> None:
    door = MemoryBroker().publisher("p")
    done = Diary()

    def stop_at_once() -> None:
        door.stop(soon())
        done.ready()

    door.start(DoorEvents(on_ready=stop_at_once))
    done.wait_for("ready")
    door.stop(soon())
    assert mf_threads() == []


def test_a_lost_connection_is_told_and_everything_declared_again() -> None:
    broker = MemoryBroker()
    doors = Doors(broker)
    consuming, publishing, inbox = Diary(), Diary(), Inbox()
    mine = queue("mine", exclusive=True, auto_delete=True)
    doors.consumer(Subscription(mine, 1, inbox.take), events=consuming.events)
    publisher = doors.publisher(queues=[queue("private", exclusive=True)], events=publishing.events)
    broker.drop_connections()
    consuming.wait_for("ready", "lost", "ready")
    publishing.wait_for("ready", "lost", "ready")
    assert isinstance(consuming.errors[0], BrokerError)
    assert publisher.ready
    assert doors.consumer(Subscription(mine, 1, inbox.take)).ready is False
    doors.close()
