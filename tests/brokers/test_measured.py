"""Doors that count, on the embedded broker."""

import time

import pytest

from micro_framework.brokers.measured import counted_events, counted_publishes
from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import DoorEvents, Publication
from micro_framework.exceptions import Unroutable
from micro_framework.metrics.snapshots import CONFIRMED, CONNECTIONS_UP, LOSSES, PUBLISHED, RECONNECTS, UNROUTABLE
from micro_framework.metrics.tallies import Tallies
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue

SECONDS = 20.0


def test_publishes_are_counted_with_what_became_of_them():
    broker, tallies = MemoryBroker(), Tallies()
    door = counted_publishes(broker.publisher("test"), tallies)
    door.declare((), (Queue("here"),))
    door.start(DoorEvents())
    assert door.wait_ready(time.monotonic() + SECONDS)
    deadline = time.monotonic() + SECONDS
    door.publish(Publication("", "here", b"", Properties(), mandatory=True)).wait(deadline)
    with pytest.raises(Unroutable):
        door.publish(Publication("", "nowhere", b"", Properties(), mandatory=True)).wait(deadline)
    door.delay(Publication("", "", b"", Properties()), queue="here", delay=1).wait(deadline)
    door.stop(deadline)
    rows = tallies.snapshot().publishing
    published = rows[("publish",)]
    assert (published[PUBLISHED], published[CONFIRMED], published[UNROUTABLE]) == (2, 1, 1)
    assert rows[("delay",)][:2] == [1, 1]


def test_connections_that_come_back_are_counted():
    broker, tallies, heard = MemoryBroker(), Tallies(), []
    door = broker.publisher("test")
    events = DoorEvents(lambda: heard.append("ready"), lambda error: heard.append("lost"))
    door.start(counted_events(events, "publisher", door, tallies))
    assert door.wait_ready(time.monotonic() + SECONDS)
    broker.drop_connections()
    assert door.wait_ready(time.monotonic() + SECONDS)
    assert tallies.snapshot().connections[("publisher",)][CONNECTIONS_UP] == 1
    assert door.turns
    assert not door.blocked
    door.stop(time.monotonic() + SECONDS)  # after that everything has been told
    row = tallies.snapshot().connections[("publisher",)]
    assert (row[RECONNECTS], row[LOSSES], row[CONNECTIONS_UP]) == (1, 1, 0)
    assert heard == ["ready", "lost", "ready"]
