"""The copies that fill a queue are the message they were copied from, but for its identity."""

import json

import amqp
import pytest

from benchmarks.queues import EVENT, EVENT_EXCHANGE, EVENT_QUEUE, TASKS, BrokerSide, Template
from micro_framework.testing.broker_state import VHost

IDENTITY = "12345678-1234-5678-1234-567812345678"
HEADERS = {"nameko.call_id_stack": ["source.go.1"]}


def test_copies_differ_in_their_identity_alone(rabbit: VHost) -> None:
    side = BrokerSide(rabbit.uri)
    side.declare()
    original = amqp.Message(
        json.dumps({"id": IDENTITY, "n": 1}),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        application_headers=HEADERS,
    )
    side.channel.basic_publish(original, EVENT_EXCHANGE, EVENT)
    side.wait_ready(1)
    identities = side.fill(side.take_template(), 3)
    copies = [side.channel.basic_get(EVENT_QUEUE, no_ack=True) for _ in range(3)]
    side.close()
    assert [json.loads(copy.body) for copy in copies] == [{"id": identity, "n": 1} for identity in identities]
    assert len(set(identities)) == 3
    for copy in copies:
        assert copy.properties["application_headers"] == HEADERS
        assert (copy.properties["delivery_mode"], copy.properties["content_type"]) == (2, "application/json")
        assert (copy.delivery_info["exchange"], copy.delivery_info["routing_key"]) == (EVENT_EXCHANGE, EVENT)


def test_an_identity_is_replaced_wherever_it_stands_and_long_bodies_fill_several_frames(rabbit: VHost) -> None:
    side = BrokerSide(rabbit.uri, TASKS)
    side.declare()
    body = json.dumps([[{"id": IDENTITY, "note": "x" * 300_000}], {"again": IDENTITY}])
    side.channel.basic_publish(amqp.Message(body, correlation_id=IDENTITY), TASKS.exchange, TASKS.key)
    side.wait_ready(1)
    (identity,) = side.fill(side.take_template(), 1)
    copy = side.channel.basic_get(TASKS.queue, no_ack=True)
    side.close()
    assert json.loads(copy.body) == json.loads(body.replace(IDENTITY, identity))
    assert copy.properties["correlation_id"] == identity


def test_a_message_without_identity_is_refused() -> None:
    with pytest.raises(ValueError, match="no identity"):
        Template.of(amqp.Message("{}"))
