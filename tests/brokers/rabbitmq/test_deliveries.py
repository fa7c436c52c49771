"""A delivery decodes only what is asked of it."""

import pytest

from micro_framework.brokers.port import Verdict
from micro_framework.brokers.rabbitmq.deliveries import RabbitMQDelivery
from micro_framework.brokers.rabbitmq.frames import pack_properties
from micro_framework.wire.messages import Properties


class Settled:
    def __init__(self) -> None:
        self.verdicts: list[tuple[int, Verdict]] = []

    def settle(self, tag: int, verdict: Verdict) -> None:
        self.verdicts.append((tag, verdict))


def delivery(
    properties: Properties, channel: Settled, exchange: bytes = b"events", key: bytes = b"k"
) -> RabbitMQDelivery:
    method = b"...." + bytes((len(exchange),)) + exchange + bytes((len(key),)) + key
    header = bytes((0, 60, 0, 0)) + bytes(8) + pack_properties(properties)
    return RabbitMQDelivery(channel, 7, True, "jobs", method, 4, header, b"body")


def test_everything_is_there() -> None:
    properties = Properties(content_type="application/json", content_encoding="utf-8", headers={"a": 1}, priority=3)
    found = delivery(properties, Settled())
    assert (found.exchange, found.routing_key, found.queue, found.redelivered) == ("events", "k", "jobs", True)
    assert (found.content_type, found.content_encoding, found.headers) == ("application/json", "utf-8", {"a": 1})
    assert found.properties == properties
    assert found.properties is found.properties


def test_names_that_are_no_utf8_can_still_be_had() -> None:
    assert delivery(Properties(), Settled(), key=b"\xff").routing_key == "\udcff"


def test_a_verdict_goes_to_the_channel_it_came_by() -> None:
    channel = Settled()
    delivery(Properties(), channel).settle(Verdict.REJECT)
    assert channel.verdicts == [(7, Verdict.REJECT)]


def test_it_shows_its_identity_and_not_its_contents() -> None:
    assert repr(delivery(Properties(), Settled())) == "<delivery 7 from queue 'jobs', 4 bytes>"


def test_it_takes_no_further_attributes() -> None:
    with pytest.raises(AttributeError):
        delivery(Properties(), Settled()).more = 1  # type: ignore[attr-defined]
