import inspect

import pytest

from micro_framework.brokers import port
from micro_framework.brokers.port import Broker, DoorEvents, Publication, Subscription, Verdict
from micro_framework.exceptions import BrokerError
from micro_framework.wire.messages import Properties
from tests.brokers.probes import Doors, Inbox, message, queue

PROTOCOLS = {
    "Broker": ["browser", "consumer", "description", "duplex", "durable_after", "locks", "publisher"],
    "Browser": ["blocked", "count", "get", "ready", "release", "start", "stop", "turns", "wait_ready"],
    "Consumer": ["blocked", "cancel", "counts", "ready", "start", "stop", "subscribe", "turns", "wait_ready"],
    "Publisher": [
        "blocked", "declare", "delay", "ensure", "expect_delays", "publish", "ready", "start", "stop", "turns",
        "wait_ready",
    ],
    "Duplex": [
        "blocked", "cancel", "counts", "declare", "delay", "ensure", "expect_delays", "publish", "ready", "start",
        "stop", "subscribe", "turns", "wait_ready",
    ],
    "Locks": ["announce", "blocked", "ready", "start", "stop", "turns", "wait_ready", "want"],
    "Confirmation": ["add_done_callback", "wait", "written"],
    "Delivery": [
        "body", "content_encoding", "content_type", "exchange", "headers", "properties", "queue", "redelivered",
        "routing_key", "settle",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_port_has_these_members_and_no_others(name: str) -> None:
    assert public_members(getattr(port, name)) == PROTOCOLS[name]


def test_a_broker_takes_and_gives_what_the_port_says(any_broker: Broker, doors: Doors) -> None:
    inbox, consumer = doors.consuming(queue("jobs"))
    confirmation = doors.common_publisher.publish(message("jobs"))
    parts = {
        "Broker": any_broker,
        "Browser": doors.browser(),
        "Consumer": consumer,
        "Publisher": doors.common_publisher,
        "Duplex": any_broker.duplex("unused"),
        "Locks": any_broker.locks("test"),
        "Confirmation": confirmation,
        "Delivery": inbox.next(),
    }
    for name, part in parts.items():
        for member in PROTOCOLS[name]:
            promised = inspect.getattr_static(find_protocol(name, member), member)
            if not isinstance(promised, property):
                found = inspect.signature(getattr(type(part), member))
                assert (name, shape(found)) == (name, shape(inspect.signature(promised)))
            else:
                assert hasattr(part, member), f"{type(part).__name__} has no {member}"


def find_protocol(name: str, member: str) -> type:
    return next(base for base in getattr(port, name).__mro__ if member in vars(base))


def public_members(protocol: type) -> list[str]:
    return sorted(
        {
            name
            for base in protocol.__mro__
            if base.__module__ == port.__name__
            for name in vars(base)
            if not name.startswith("_")
        }
    )


def shape(signature: inspect.Signature) -> list[tuple[str, object, object]]:
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def test_a_publication_asks_for_no_more_than_delivery() -> None:
    assert Publication("events", "key", b"", Properties()).mandatory is False


def test_a_subscription_declares_its_exchanges_and_leaves_its_queue_behind() -> None:
    subscription = Subscription(queue("jobs"), 1, Inbox().take)
    assert subscription.declare_exchanges is True
    assert subscription.delete_at_stop is False


def test_events_that_nobody_listens_to_do_nothing() -> None:
    events = DoorEvents()
    events.on_ready()
    events.on_lost(ConnectionResetError())
    events.on_refused(BrokerError("no"))


def test_the_verdicts_are_three() -> None:
    assert [verdict.name for verdict in Verdict] == ["ACK", "REQUEUE", "REJECT"]
