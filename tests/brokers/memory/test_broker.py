import gc
import weakref

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import DoorEvents
from micro_framework.exceptions import ConfigError
from tests.brokers.probes import Doors, message, mf_threads, queue, soon


def test_one_uri_is_one_broker() -> None:
    one = MemoryBroker.named("memory://shared")
    assert MemoryBroker.named("memory://shared") is one
    assert MemoryBroker.named("memory://shared/") is one
    assert MemoryBroker.named("memory://other") is not one
    assert MemoryBroker.named("memory://") is MemoryBroker.named("memory://")


def test_two_services_with_one_uri_reach_each_other() -> None:
    here, there = Doors(MemoryBroker.named("memory://shared")), Doors(MemoryBroker.named("memory://shared"))
    inbox, _ = here.consuming(queue("jobs"))
    there.send(message("jobs", "hello"))
    assert inbox.next().body == b"hello"
    here.close()
    there.close()


def test_a_broker_that_somebody_holds_keeps_its_messages() -> None:
    broker = MemoryBroker.named("memory://kept")
    first = Doors(MemoryBroker.named("memory://kept"))
    first.declare(queue("jobs"))
    first.send(message("jobs", "kept"))
    first.close()
    del first
    gc.collect()
    second = Doors(MemoryBroker.named("memory://kept"))
    inbox, _ = second.consuming(queue("jobs"))
    assert inbox.next().body == b"kept"
    second.close()
    assert broker is second.broker


def test_a_broker_that_nobody_holds_vanishes() -> None:
    broker = MemoryBroker.named("memory://gone")
    doors = Doors(broker)
    doors.declare(queue("jobs"))
    inbox = doors.consuming(queue("jobs"), None)[0]
    doors.send(message("jobs", "unsettled"))
    doors.delay(message(""), "jobs", 60_000).wait(soon())
    inbox.next()
    doors.close()
    watched = weakref.ref(broker)
    del broker, doors, inbox
    gc.collect()
    assert watched() is None


def test_an_open_door_keeps_its_broker() -> None:
    door = MemoryBroker.named("memory://open").publisher("p")
    door.start(DoorEvents())
    gc.collect()
    assert MemoryBroker.named("memory://open").publisher("q")._broker is door._broker
    door.stop(soon())


@pytest.mark.parametrize(
    "uri", ["memory:", "memory:/x", "memory://a/b", "memory://user:hunter2@x", "amqp://x", "memory://x?y"]
)
def test_another_uri_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"memory:// or memory://name") as refusal:
        MemoryBroker.named(uri)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(("name", "description"), [("", "memory://"), ("orders", "memory://orders")])
def test_the_description_is_the_uri(name: str, description: str) -> None:
    assert MemoryBroker(name).description == description


def test_closing_one_door_leaves_the_delays_of_the_others_running() -> None:
    doors = Doors(MemoryBroker("test"))
    inbox, _ = doors.consuming(queue("jobs"))
    doors.delay(message("", "later"), "jobs", 50).wait(soon())
    doors.common_publisher.stop(soon())
    assert inbox.next().body == b"later"
    doors.close()
    assert mf_threads() == []
