"""What our dispatchers and publishers send, Nameko's handlers get: all handler types, context headers, typed values."""

import datetime as dt
import logging
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from kombu import Exchange, Queue

from interop_tests.nameko_process import Nameko, NamekoHandlers
from interop_tests.raw_messages import take
from micro_framework.amqp.dependencies import Dispatch, Producer, Publish, Publisher
from micro_framework.dependencies import CallContext, CallInfo
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.testing.services import running

RAW_EXCHANGE = Exchange("raw.exchange", type="direct", durable=True)
RAW_QUEUE = Queue("raw.queue", exchange=RAW_EXCHANGE, routing_key="raw.key", durable=True)


class Peers(NamekoHandlers):
    """Nameko's handlers, and what they have received."""

    def witnessed(self, handler: str) -> list[dict[str, Any]]:
        """What a handler of `interop_peers` got, oldest first."""
        self.vhost.wait_until_drained()
        log: list[dict[str, Any]] = self.driver.call("witness", "log")
        return [entry for entry in log if entry["handler"] == handler]


@pytest.fixture(scope="module")
def peers(shared_nameko: Nameko) -> Peers:
    shared_nameko.run("nameko_services:Target", "interop_peers:Witness")
    return Peers(shared_nameko.driver(), shared_nameko.vhost)


def once(do: Callable[["Any"], object], config: dict[str, Any]) -> None:
    """Run a service `source` that does one thing with its dependencies when it starts."""

    class Source:
        name = "source"
        dispatch = Producer()
        publish = Publisher(RAW_EXCHANGE, "raw.key", declare=[RAW_QUEUE])
        publish_default = Publisher()
        context = CallContext()

        @TimeEntrypoint(interval=3600, eager=True)
        def begin(self) -> None:
            try:
                done.set_result(do(self))
            except BaseException as error:
                done.set_exception(error)

    done: Future[object] = Future()
    with running(Source, config=config):
        done.result(10)


# -- handler types

HANDLERS = [
    ("evt.pool", ["pool", "pool2", "wild"]),
    ("evt.pool.unreliable", ["pool-unreliable"]),
    ("evt.single", ["single", "wild"]),
    ("evt.bcast", ["bcast", "wild"]),
    ("evt.bcast.stable", ["bcast-stable"]),
    ("evt.requeue", ["requeue", "requeue", "requeue", "wild"]),
    ("evt.fail", ["fail", "wild"]),
    ("evt.nobody-in-particular", ["wild"]),
]


@pytest.mark.parametrize(("event", "handlers"), HANDLERS)
def test_namekos_handlers_of_every_type_hear_our_events(
    peers: Peers, marker: str, event: str, handlers: list[str]
) -> None:
    once(lambda service: service.dispatch(event, marker), peers.config)
    assert peers.heard(marker) == handlers


@pytest.mark.parametrize("payload", [None, "café ☕", 0, [1, [2]], {"ä": {"b": None}}, True])
def test_payloads_of_every_kind_arrive_unchanged(peers: Peers, payload: Any) -> None:
    marked = {"marker": uuid.uuid4().hex, "payload": payload}
    once(lambda service: service.dispatch("evt.single", marked), peers.config)
    assert peers.heard(marked) == ["single", "wild"]


def test_many_events_arrive_once_each(peers: Peers, marker: str) -> None:
    sent = [{"marker": marker, "number": number} for number in range(300)]
    once(lambda service: service.dispatch.many(("seen", payload) for payload in sent), peers.config)
    numbers = [entry["payload"]["number"] for entry in peers.witnessed("seen") if marker in str(entry["payload"])]
    assert Counter(numbers) == Counter(range(300))


# -- context data and call ids


def test_nameko_sees_exactly_our_context_data_and_our_call_id(peers: Peers, marker: str) -> None:
    context = {"user_id": 7, "language": "de", "auth_token": "x", "nested": {"a": [1, None, "é"]}, "flag": True}

    class Sender:
        context: CallInfo
        dispatch: Dispatch

    def send(service: Sender) -> None:
        service.context.data.update(context, dropped=None)
        service.dispatch("seen", marker)

    once(send, peers.config)
    (entry,) = [entry for entry in peers.witnessed("seen") if entry["payload"] == marker]
    assert entry["context"] == context
    assert [call_id.rsplit(".", 1)[0] for call_id in entry["stack"]] == ["source.begin", "witness.on_seen"]


# -- typed values

TYPED = {
    "dt": dt.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC),
    "date": dt.date(2020, 1, 2),
    "dec": Decimal("1.10"),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "tuple": (1, 2),
    "text": "café",
}
SAME_IN_BOTH = {"tuple": "[1, 2]", "text": "'café'"}
AS_TAGGED = {
    "dt": "datetime.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)",
    "date": "datetime.date(2020, 1, 2)",
    "dec": "Decimal('1.10')",
    "uuid": "UUID('12345678-1234-5678-1234-567812345678')",
    **SAME_IN_BOTH,
}
AS_PLAIN = {
    "dt": "'2020-01-02T03:04:05.678000Z'",
    "date": "'2020-01-02T00:00:00'",
    "dec": "'1.10'",
    "uuid": "'12345678-1234-5678-1234-567812345678'",
    **SAME_IN_BOTH,
}


@pytest.mark.parametrize(("json_types", "expected"), [("tagged", AS_TAGGED), ("plain", AS_PLAIN)])
def test_typed_values_arrive_in_the_form_that_is_configured(
    peers: Peers, json_types: str, expected: dict[str, str]
) -> None:
    once(lambda service: service.dispatch("typed", TYPED), {**peers.config, "JSON_TYPES": json_types})
    assert peers.witnessed("typed")[-1]["payload"] == expected


# -- queues that Nameko consumes


class Sending:
    """What `once` hands to the functions below."""

    publish: Publish
    publish_default: Publish


def publish_declared(service: Sending, payload: Any) -> None:
    service.publish(payload)


def publish_by_queue_name(service: Sending, payload: Any) -> None:
    service.publish_default(payload, routing_key="raw.queue")


def publish_with_options(service: Sending, payload: Any) -> None:
    service.publish(payload, routing_key="raw.key", priority=3, delivery_mode=1, expiration=60, headers={"x-own": 1})


@pytest.mark.parametrize("how", [publish_declared, publish_by_queue_name, publish_with_options])
def test_what_our_publisher_sends_reaches_namekos_consume(
    peers: Peers, marker: str, how: Callable[[Sending, Any], None]
) -> None:
    payload = {"marker": marker, "text": "café", "list": [1, None]}
    once(lambda service: how(service, payload), peers.config)
    assert peers.heard(repr(payload)) == ["raw"]


def test_nameko_decodes_what_is_not_json_as_it_does_its_own(peers: Peers, marker: str) -> None:
    once(lambda service: service.publish(marker, serializer="raw"), peers.config)
    assert peers.heard(repr(marker)) == ["raw"]


# -- while Nameko is down, and with old exchanges


def test_events_wait_for_a_nameko_service_that_is_down(nameko: Nameko) -> None:
    peers = Peers(nameko.driver(), nameko.vhost)
    with nameko.run("nameko_services:Target"):
        pass
    once(lambda service: service.dispatch.many(("evt.single", n) for n in range(20)), peers.config)
    assert nameko.vhost.depth("evt-source-evt.single") == 20
    body = take(nameko.vhost.uri, "evt-source-evt.single", put_back=True).body
    assert body == "0"
    nameko.run("nameko_services:Target")
    nameko.vhost.wait_until_drained()
    assert sorted(payload for handler, payload in peers.driver.log() if handler == "single") == list(range(20))


def test_an_exchange_declared_by_old_nameko_is_adopted_by_producers(
    nameko: Nameko, caplog: pytest.LogCaptureFixture
) -> None:
    nameko.run("nameko_services:Target", config={"AUTO_DELETE_EVENT_EXCHANGES": True})
    peers = Peers(nameko.driver(), nameko.vhost)
    with caplog.at_level(logging.INFO):
        once(lambda service: service.dispatch("evt.single", "to an old one"), peers.config)
    assert peers.heard("to an old one") == ["single", "wild"]
    adopted = [record.getMessage() for record in caplog.records if "adopted" in record.getMessage()]
    assert len(adopted) == 1
    assert "source.events" in adopted[0]


def test_an_exchange_with_the_old_flags_can_be_declared_by_us_first(
    nameko: Nameko, caplog: pytest.LogCaptureFixture
) -> None:
    peers = Peers(nameko.driver(), nameko.vhost)
    old_flags = {"AUTO_DELETE_EVENT_EXCHANGES": True}
    nameko_is_up, done = Event(), Event()

    class Source:
        name = "source"
        dispatch = Producer()

        @TimeEntrypoint(interval=3600, eager=True)
        def begin(self) -> None:
            if nameko_is_up.wait(30):
                self.dispatch("evt.single", "with old flags")
            done.set()

    with caplog.at_level(logging.INFO), running(Source, config={**peers.config, **old_flags}):
        nameko.run("nameko_services:Target", config=old_flags)
        nameko_is_up.set()
        assert done.wait(30)
    assert peers.heard("with old flags") == ["single", "wild"]
    assert not [record for record in caplog.records if "adopted" in record.getMessage()]
