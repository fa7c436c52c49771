"""Events from outside a service: our `EventProducer` to Nameko's handlers, Nameko's ``event_dispatcher`` to ours."""

import logging
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import amqp
import pytest

from interop_tests.nameko_process import Nameko, NamekoError, NamekoHandlers
from interop_tests.raw_messages import channel_to
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.exceptions import Unroutable
from micro_framework.standalone import EventProducer
from micro_framework.testing.services import running


class Peers(NamekoHandlers):
    """Nameko's handlers, its client, and the broker between us."""

    def witnessed(self, marker: str) -> dict[str, Any]:
        """What the witness knows of the one event with this payload."""
        self.vhost.wait_until_drained()
        (record,) = [record for record in self.driver.call("witness", "log") if record["payload"] == marker]
        return record


@pytest.fixture(scope="module")
def peers(shared_nameko: Nameko) -> Peers:
    shared_nameko.run("nameko_services:Target", "interop_peers:Witness")
    return Peers(shared_nameko.driver(), shared_nameko.vhost)


# -- ours to Nameko's handlers


def test_namekos_handlers_hear_our_producer(peers: Peers, marker: str) -> None:
    with EventProducer("source", peers.vhost.uri) as dispatch:
        dispatch("evt.pool", marker)
        dispatch("evt.single", marker)
        dispatch("evt.bcast", marker)
    assert peers.heard(marker) == ["bcast", "pool", "pool2", "single", "wild", "wild", "wild"]


def test_many_events_of_many_threads_arrive_once_each(peers: Peers, marker: str) -> None:
    def send(thread: int) -> None:
        dispatch.many(("evt.single", f"{marker} {thread} {number}") for number in range(25))
        dispatch("evt.single", f"{marker} {thread} last")

    with EventProducer("source", peers.vhost.uri) as dispatch, ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    peers.vhost.wait_until_drained()
    got = Counter(payload for handler, payload in peers.driver.log() if handler == "single" and marker in str(payload))
    assert len(got) == 8 * 26
    assert set(got.values()) == {1}


def test_our_context_data_reaches_namekos_handler_and_there_is_no_call_id(peers: Peers, marker: str) -> None:
    context = {"user_id": 7, "nested": {"a": [1, "\u00e9"]}}
    with EventProducer("source", peers.vhost.uri, context_data=context) as dispatch:
        dispatch("seen", marker)
    record = peers.witnessed(marker)
    assert record["context"] == context
    assert [call_id.rsplit(".", 1)[0] for call_id in record["stack"]] == ["witness.on_seen"]


def test_an_event_of_ours_is_namekos_to_the_byte(peers: Peers) -> None:
    payload = {"text": "caf\u00e9", "n": [1, None, 2.5]}
    with channel_to(peers.vhost.uri) as channel:
        queue = channel.queue_declare("", exclusive=True).queue
        channel.queue_bind(queue, "source.events", "compared")
        peers.driver.dispatch("source", "compared", payload)
        with EventProducer("source", peers.vhost.uri) as dispatch:
            dispatch("compared", payload)
        theirs, ours = (parts_of(channel.basic_get(queue, no_ack=True)) for _ in range(2))
    assert ours == theirs


def parts_of(message: amqp.Message) -> tuple[Any, ...]:
    delivered = message.delivery_info
    return message.body, message.properties, delivered["exchange"], delivered["routing_key"]


def test_an_event_that_nobody_hears_is_an_error_where_that_is_asked_for(peers: Peers) -> None:
    with EventProducer("source", peers.vhost.uri, mandatory=True) as dispatch:
        dispatch("evt.single", "heard")
        with pytest.raises(Unroutable):
            dispatch("nobody listens", None)


def test_the_exchange_is_made_where_namekos_dispatcher_finds_none(peers: Peers) -> None:
    fresh = f"fresh-{uuid.uuid4().hex[:8]}"
    with pytest.raises(NamekoError, match="404"):
        peers.driver.dispatch(fresh, "anything", None)
    with EventProducer(fresh, peers.vhost.uri) as dispatch:
        dispatch("anything", None)
    declared = peers.vhost.exchanges()[f"{fresh}.events"]
    source = peers.vhost.exchanges()["source.events"]
    assert (declared.type, declared.durable, declared.auto_delete) == (source.type, source.durable, source.auto_delete)


def test_what_waits_for_a_handler_that_is_down_is_handled_when_it_is_back(nameko: Nameko) -> None:
    peers = Peers(nameko.driver(), nameko.vhost)
    with nameko.run("nameko_services:Target"):
        pass
    with EventProducer("source", nameko.vhost.uri) as dispatch:
        dispatch.many(("evt.single", number) for number in range(20))
    nameko.run("nameko_services:Target")
    nameko.vhost.wait_until_drained()
    assert sorted(payload for handler, payload in peers.driver.log() if handler == "single") == list(range(20))


@pytest.mark.parametrize("who_is_first", ["nameko", "us"])
def test_an_exchange_with_the_flags_of_old_nameko_is_adopted(
    nameko: Nameko, caplog: pytest.LogCaptureFixture, who_is_first: str
) -> None:
    """Old Nameko deletes its exchange with the last queue; ours makes the same one where it is told the flags."""
    peers, old_flags = Peers(nameko.driver(), nameko.vhost), {"AUTO_DELETE_EVENT_EXCHANGES": True}

    def run_nameko() -> None:
        nameko.run("nameko_services:Target", config=old_flags)

    with caplog.at_level(logging.INFO):
        if who_is_first == "nameko":
            run_nameko()
            send_one("to an old one", peers.config)
        else:
            send_one("to an old one", {**peers.config, **old_flags}, run_nameko)
    assert nameko.vhost.exchanges()["source.events"].auto_delete
    assert peers.heard("to an old one") == ["single", "wild"]
    adopted = [record.getMessage() for record in caplog.records if "adopted" in record.getMessage()]
    assert len(adopted) == (1 if who_is_first == "nameko" else 0)


def send_one(payload: str, config: dict[str, Any], before: Callable[[], None] = lambda: None) -> None:
    """Dispatch one event; the client is connected, and its exchange declared, before ``before`` is called."""
    with EventProducer("source", config) as dispatch:
        dispatch("evt.to-nobody", None)
        before()
        dispatch("evt.single", payload)


# -- Nameko's dispatcher to ours


def listening(service: str, listener: EventListener) -> tuple[type, list[Any]]:
    """A service of one handler, and the list of what it gets."""
    received: list[Any] = []

    class Listening:
        name = service

        @listener
        def handle(self, payload: Any) -> None:
            received.append(payload)

    return Listening, received


@pytest.mark.parametrize("payload", [None, "caf\u00e9", 0, [1, [None]], {"\u00e4": {"b": True}}, "x" * 300_000])
def test_our_listener_hears_namekos_dispatcher(peers: Peers, payload: Any) -> None:
    event = f"event-{uuid.uuid4().hex[:8]}"
    service, got = listening("alpha", EventListener("source", event))
    with running(service, config=peers.config):
        peers.driver.dispatch("source", event, payload)
        peers.vhost.wait_until_drained()
    assert got == [payload]


def test_our_listener_declares_the_exchange_that_namekos_dispatcher_needs(peers: Peers) -> None:
    fresh = f"fresh-{uuid.uuid4().hex[:8]}"
    service, got = listening("alpha", EventListener(fresh, "anything"))
    with running(service, config=peers.config):
        peers.driver.dispatch(fresh, "anything", [1])
        peers.vhost.wait_until_drained()
    assert got == [[1]]
