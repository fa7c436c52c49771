"""Locks at the embedded broker: what only it promises."""

from uuid import uuid4

from micro_framework.brokers.memory import MemoryBroker
from tests.brokers.probes import Doors, soon

NAME = "mf-timer.orders.tick"


def test_who_waits_longest_is_next() -> None:
    doors = Doors(MemoryBroker.named(f"memory://{uuid4().hex}"))
    try:
        first, second, third = (doors.contender(NAME) for _ in range(3))
        assert [each.next_news() for each in (first, second, third)] == [
            "joined, holds",
            "joined, waits",
            "joined, waits",
        ]
        first.door.stop(soon())
        assert second.next_news() == "holds"
        second.door.stop(soon())
        assert third.next_news() == "holds"
    finally:
        doors.close()


def test_a_dropped_connection_loses_the_lock_and_joins_again() -> None:
    broker = MemoryBroker.named(f"memory://{uuid4().hex}")
    doors = Doors(broker)
    try:
        contender = doors.contender(NAME)
        assert contender.next_news() == "joined, holds"
        broker.drop_connections()
        assert contender.next_news() == "joined, holds"
        assert contender.announce("still me")
    finally:
        doors.close()
