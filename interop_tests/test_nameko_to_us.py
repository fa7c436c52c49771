"""What Nameko dispatches and publishes, our listeners get: every handler type, typed values, any queue."""

import datetime as dt
import logging
import uuid
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from kombu import Exchange, Queue

from interop_tests.nameko_process import Nameko, NamekoPeer
from micro_framework.amqp.entrypoints import EventListener, QueueListener
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.services import running

EVENTS = 20


class Source(NamekoPeer):
    """Nameko's service `source`, asked by RPC to dispatch."""

    def emit(self, event: str, *payloads: Any) -> None:
        """Dispatch, and wait until everybody has handled it."""
        for payload in payloads:
            self.driver.call("source", "emit", [event, payload])
        self.vhost.wait_until_drained()


@pytest.fixture(scope="module")
def source(shared_nameko: Nameko) -> Source:
    shared_nameko.run("nameko_services:Source")
    return Source(shared_nameko.driver(), shared_nameko.vhost)


@pytest.fixture
def event() -> str:
    """An event name that no other test uses: the tests of the module share a virtual host."""
    return f"event-{uuid.uuid4().hex[:8]}"


def listening(service: str, listener: EventListener | QueueListener) -> tuple[type, list[Any]]:
    """A service of one handler, and the list of what it gets."""
    received: list[Any] = []

    class Listening:
        name = service

        @listener
        def handle(self, payload: Any) -> None:
            received.append(payload)

    return Listening, received


# -- handler types


def test_each_service_gets_an_event_and_the_instances_of_one_share_them(source: Source, event: str) -> None:
    alpha_one, got_one = listening("alpha", EventListener("source", event))
    alpha_two, got_two = listening("alpha", EventListener("source", event))
    beta, got_beta = listening("beta", EventListener("source", event))
    numbers = list(range(EVENTS))
    with running(alpha_one, beta, config=source.config), running(alpha_two, config=source.config):
        source.emit(event, *numbers)
    assert sorted(got_beta) == numbers
    assert sorted(got_one + got_two) == numbers
    assert got_one
    assert got_two


def test_of_a_singleton_one_instance_of_any_service_gets_an_event(source: Source, event: str) -> None:
    alpha, got_alpha = listening("alpha", EventListener("source", event, handler_type="singleton"))
    beta, got_beta = listening("beta", EventListener("source", event, handler_type="singleton"))
    with running(alpha, config=source.config), running(beta, config=source.config):
        source.emit(event, *range(EVENTS))
        assert f"evt-source-{event}" in source.vhost.queues()
    assert sorted(got_alpha + got_beta) == list(range(EVENTS))
    assert got_alpha
    assert got_beta


def test_of_a_broadcast_every_instance_gets_an_event_while_it_runs(source: Source, event: str) -> None:
    one, got_one = listening("alpha", EventListener("source", event, handler_type="broadcast"))
    two, got_two = listening("alpha", EventListener("source", event, handler_type="broadcast"))
    with running(one, config=source.config):
        with running(two, config=source.config):
            source.emit(event, 1, 2)
        source.vhost.wait_for(lambda vhost: count_of(vhost, event) == 1, what="the other queue to go")
        source.emit(event, 3)
    assert sorted(got_one) == [1, 2, 3]
    assert sorted(got_two) == [1, 2]
    source.vhost.wait_for(lambda vhost: count_of(vhost, event) == 0, what="the queues to go")


def count_of(vhost: VHost, event: str) -> int:
    return sum(event in name for name in vhost.queues())


def test_a_reliable_broadcast_waits_for_its_instance(source: Source, event: str) -> None:
    declared = EventListener(
        "source", event, handler_type="broadcast", reliable_delivery=True, broadcast_identifier="host-1"
    )
    service, got = listening("alpha", declared)
    with running(service, config=source.config):
        source.emit(event, 1)
    source.driver.call("source", "emit", [event, 2])
    assert source.vhost.depth(f"evt-source-{event}--alpha.handle-host-1") == 1
    with running(service, config=source.config):
        source.vhost.wait_until_drained()
    assert got == [1, 2]


def test_events_wait_while_no_instance_runs_unless_unreliable(source: Source, event: str) -> None:
    waiting, got_waiting = listening("alpha", EventListener("source", event))
    passing, got_passing = listening("beta", EventListener("source", event, reliable_delivery=False))
    with running(waiting, passing, config=source.config):
        source.emit(event, 1)
    source.driver.call("source", "emit", [event, 2])
    with running(waiting, passing, config=source.config):
        source.vhost.wait_until_drained()
    assert got_waiting == [1, 2]
    assert got_passing == [1]


def test_a_wildcard_hears_every_event_it_matches(source: Source, event: str) -> None:
    service, got = listening("alpha", EventListener("source", f"{event}.*"))
    with running(service, config=source.config):
        source.emit(f"{event}.created", "created")
        source.emit(f"{event}.deleted", "deleted")
        source.emit(f"{event}.item.deleted", "two words")
        source.emit(event, "none")
    assert sorted(got) == ["created", "deleted"]


# -- payloads


def test_typed_values_arrive_as_what_they_were(source: Source) -> None:
    service, got = listening("alpha", EventListener("source", "typed"))
    with running(service, config=source.config):
        source.driver.call("source", "emit_typed")
        source.vhost.wait_until_drained()
    assert got == [
        {
            "dt": dt.datetime(2020, 1, 2, 3, 4, 5, 678000),  # noqa: DTZ001 -- Nameko sent it without a time zone
            "date": dt.date(2020, 1, 2),
            "dec": Decimal("1.10"),
            "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
            "tuple": [1, 2],
            "text": "café",
        }
    ]


PLAIN_TYPED = {"dt": "2020-01-02T03:04:05.678000", "dec": "1.10", "text": "café ☕", "nothing": None, "n": [1, 2.5]}


@pytest.mark.parametrize("payload", [PLAIN_TYPED, None, "café", 0, [], {}, True, "x" * 300_000])
def test_plain_payloads_arrive_unchanged(source: Source, event: str, payload: Any) -> None:
    service, got = listening("alpha", EventListener("source", event))
    with running(service, config=source.config):
        source.emit(event, payload)
    assert got == [payload]


def test_transient_events_without_confirms_arrive(source: Source, event: str) -> None:
    service, got = listening("alpha", EventListener("source", event))
    with running(service, config=source.config):
        source.driver.call("source", "emit_fast", [event, 1])
        source.vhost.wait_for(lambda _: got, what="the event")
        source.vhost.wait_until_drained()
    assert got == [1]


# -- queues that `Publisher` fills

RAW_EXCHANGE = Exchange("raw.exchange", type="direct", durable=True)
RAW_QUEUE = Queue("raw.queue", exchange=RAW_EXCHANGE, routing_key="raw.key", durable=True)

PUBLISHED = [
    ({"a": [1, None]}, {}, {"a": [1, None]}),
    ("text", {}, "text"),
    ("as it is", {"serializer": "raw"}, "as it is"),
    ({"much": "x" * 5000}, {"compression": "gzip"}, {"much": "x" * 5000}),
    (1, {"priority": 3, "delivery_mode": 1, "expiration": 60}, 1),
]


@pytest.mark.parametrize(("payload", "options", "expected"), PUBLISHED)
def test_what_namekos_publisher_sends_reaches_our_queue_listener(
    source: Source, payload: Any, options: dict[str, Any], expected: Any
) -> None:
    service, got = listening("alpha", QueueListener(RAW_QUEUE))
    with running(service, config=source.config):
        source.driver.call("source", "raw", [payload, options])
        source.vhost.wait_until_drained()
    assert got == [expected]


def test_a_queue_is_reached_by_its_name_through_the_default_exchange(source: Source) -> None:
    service, got = listening("alpha", QueueListener("plain.queue"))
    with running(service, config=source.config):
        source.driver.call("source", "raw_default", [{"n": 1}, {"routing_key": "plain.queue"}])
        source.vhost.wait_until_drained()
    assert got == [{"n": 1}]


# -- many, and old exchanges


def test_hundreds_of_events_arrive_once_each(source: Source, event: str) -> None:
    service, got = listening("alpha", EventListener("source", event))
    with running(service, config=source.config):
        source.emit(event, *range(150))
    assert Counter(got) == Counter(range(150))


def adoptions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "adopted" in record.getMessage()]


def test_an_exchange_declared_by_old_nameko_is_adopted_by_listeners(
    nameko: Nameko, caplog: pytest.LogCaptureFixture
) -> None:
    nameko.run("nameko_services:Source", config={"AUTO_DELETE_EVENT_EXCHANGES": True})
    source = Source(nameko.driver(), nameko.vhost)
    one, got_one = listening("alpha", EventListener("source", "one"))
    two, got_two = listening("beta", EventListener("source", "two"))
    with caplog.at_level(logging.INFO), running(one, two, config=source.config):
        source.emit("one", 1)
        source.emit("two", 2)
    assert (got_one, got_two) == ([1], [2])
    assert nameko.vhost.exchanges()["source.events"].auto_delete
    assert len(adoptions(caplog)) == 1
    assert "source.events" in adoptions(caplog)[0]


def test_we_declare_the_old_flags_if_told_so(nameko: Nameko, caplog: pytest.LogCaptureFixture) -> None:
    service, got = listening("alpha", EventListener("source", "one"))
    old_flags = {"AUTO_DELETE_EVENT_EXCHANGES": True}
    with running(service, config={"AMQP_URI": nameko.vhost.uri, **old_flags}):
        nameko.vhost.wait_for_consumers(*nameko.vhost.queues())  # or Nameko's would seem to be there with ours
        nameko.run("nameko_services:Source", config=old_flags)
        Source(nameko.driver(), nameko.vhost).emit("one", 1)
    assert got == [1]
    assert adoptions(caplog) == []
