"""Frames as bytes: what we pack py-amqp reads, and what py-amqp packs we read."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import Message
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import loads

from micro_framework.brokers.port import Publication
from micro_framework.brokers.rabbitmq.frames import (
    CONTENT_BODY,
    CONTENT_HEADER,
    DELIVER,
    DELIVERY,
    FRAME_HEAD,
    METHOD,
    FrameBuffer,
    ack_frame,
    declare_queue_frame,
    pack_properties,
    publish_frames,
    reject_frame,
    requeue_frame,
    unpack_confirm,
    unpack_properties,
)
from micro_framework.exceptions import MessageTooLarge, PublishError
from micro_framework.wire.messages import Properties

FULL = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"nameko.call_id_stack": ["a.b.1", "c.d.2"], "n": None, "big": 2**40, "deep": {"x": [1.5, True]}},
    delivery_mode=2,
    priority=7,
    correlation_id="c",
    reply_to="r",
    expiration="5000",
    message_id="m",
    timestamp=1_700_000_000,
    type="t",
    user_id="guest",
    app_id="app",
    cluster_id="cl",
)


def frames_in(raw: bytes) -> list[tuple[int, int, bytes]]:
    buffer = FrameBuffer()
    buffer.feed(raw)
    return list(iter(buffer.next, None))


def as_py_amqp_writes(publication: Publication, frame_max: int) -> bytes:
    written: list[bytes] = []
    connection = SimpleNamespace(frame_max=frame_max, bytes_sent=0)
    transport = SimpleNamespace(write=lambda data: written.append(bytes(data)))
    properties = {field.name: getattr(publication.properties, field.name) for field in fields(Properties)}
    properties["application_headers"] = properties.pop("headers")
    from amqp.serialization import dumps

    args = dumps("Bssbb", (0, publication.exchange, publication.routing_key, publication.mandatory, False))
    frame_writer(connection, transport)(1, 3, (60, 40), args, Message(publication.body, **properties))
    return b"".join(written)


@pytest.mark.parametrize("mandatory", [False, True])
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 10_000], ids=["empty", "small", "several frames"])
def test_a_publish_is_byte_for_byte_what_py_amqp_writes(body: bytes, mandatory: bool) -> None:
    properties = Properties(**{f.name: getattr(FULL, f.name) for f in fields(Properties) if f.name != "timestamp"})
    publication = Publication("events", "key", body, properties, mandatory)
    ours = publish_frames(3, publication, 4096)
    if body:
        assert ours == as_py_amqp_writes(publication, 4096)
    else:
        assert [kind for kind, _, _ in frames_in(ours)] == [1, 2]


def test_a_frame_is_never_larger_than_the_connection_takes() -> None:
    raw = publish_frames(1, Publication("", "q", b"x" * 100_000, Properties()), 4096)
    found = frames_in(raw)
    assert max(len(payload) + 8 for _, _, payload in found) == 4096
    assert b"".join(payload for kind, _, payload in found if kind == 3) == b"x" * 100_000


def test_properties_survive_packing_and_unpacking() -> None:
    header = b"\x00\x3c\x00\x00" + bytes(8) + pack_properties(FULL)
    assert unpack_properties(header) == FULL


@pytest.mark.parametrize("left_out", [None, *sorted({field.name for field in fields(Properties)} - {"headers"})])
def test_properties_are_read_as_py_amqp_reads_them(left_out: str | None) -> None:
    properties = replace(FULL, **{left_out: None}) if left_out else FULL
    header = b"\x00\x3c\x00\x00" + bytes(8) + pack_properties(properties)
    theirs = Message()
    theirs.inbound_header(header)
    found = theirs.properties
    assert unpack_properties(header) == Properties(headers=found.pop("application_headers"), **found) == properties


@pytest.mark.parametrize("cut", range(12, 40))
def test_properties_that_end_too_early_are_refused(cut: int) -> None:
    header = b"\x00\x3c\x00\x00" + bytes(8) + pack_properties(FULL)
    with pytest.raises(Exception):  # noqa: B017 -- whatever it is, the message is refused
        unpack_properties(header[:cut])


def test_a_lone_surrogate_goes_back_as_it_came() -> None:
    theirs = Message(b"", correlation_id="\ud800", application_headers={})
    header = b"\x00<\x00\x00" + b"\x00" * 8 + theirs._serialize_properties()
    assert pack_properties(unpack_properties(header)) == header[12:]


def test_a_datetime_goes_as_its_seconds() -> None:
    when = datetime(2024, 2, 29, 12, 30, 45, tzinfo=UTC)
    header = b"\x00\x3c\x00\x00" + bytes(8) + pack_properties(Properties(timestamp=when))
    assert unpack_properties(header).timestamp == int(when.timestamp())


def test_py_amqp_reads_our_publish() -> None:
    read: list[Any] = []
    handler = frame_handler(SimpleNamespace(bytes_recv=0), lambda *found: read.append(found))
    # The method is sent as a delivery: only those have contents that come in.
    for kind, channel, payload in frames_in(publish_frames(1, Publication("e", "k", b"body", FULL), 4096)):
        handler((kind, channel, b"\x00\x3c\x00\x3c" + payload[4:] if kind == 1 else payload))
    message = read[0][3]
    assert message.body == b"body"
    assert message.properties["application_headers"] == FULL.headers


@pytest.mark.parametrize("cut", [1, 2, 5, 7, 8, 13, 64])
def test_frames_may_arrive_in_any_pieces(cut: int) -> None:
    raw = publish_frames(1, Publication("e", "k", b"body" * 20, FULL), 4096) + ack_frame(1, 5, True)
    buffer, found = FrameBuffer(), []
    for at in range(0, len(raw), cut):
        buffer.feed(raw[at : at + cut])
        while (frame := buffer.next()) is not None:
            found.append(frame)
    assert found == frames_in(raw)
    assert len(found) == 4


def raw_frame(kind: int, payload: bytes) -> bytes:
    return FRAME_HEAD.pack(kind, 7, len(payload)) + payload + b"\xce"


def delivery(body: bytes, *parts: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Method and header of a delivery, and all of its frames, the body in so many parts."""
    method, header = DELIVER + b"whatever", b"\0\x3c\0\0" + len(body).to_bytes(8) + b"\0\0"
    bodies = [raw_frame(CONTENT_BODY, part) for part in parts]
    return method, header, [raw_frame(METHOD, method), raw_frame(CONTENT_HEADER, header), *bodies]


def test_a_delivery_that_has_come_whole_is_one_frame() -> None:
    method, header, frames = delivery(b"body", b"body")
    whole = (DELIVERY, 7, (method, header, b"body"))
    ack = raw_frame(METHOD, b"\0\x3c\0\x50" + bytes(9))
    assert frames_in(b"".join([*frames, *frames, ack])) == [whole, whole, *frames_in(ack)]


def test_a_delivery_that_comes_in_pieces_is_as_many_frames() -> None:
    method, header, frames = delivery(b"body", b"body")
    pieces = [(METHOD, 7, method), (CONTENT_HEADER, 7, header), (CONTENT_BODY, 7, b"body")]
    raw = b"".join(frames)
    for cut in range(len(frames[0]), len(raw)):
        buffer = FrameBuffer()
        buffer.feed(raw[:cut])
        found = list(iter(buffer.next, None))
        buffer.feed(raw[cut:])
        assert found + list(iter(buffer.next, None)) == pieces


@pytest.mark.parametrize(("body", "parts"), [(b"body", [b"bo", b"dy"]), (b"", [])], ids=["two", "none"])
def test_only_a_body_in_one_frame_makes_it_one(body: bytes, parts: list[bytes]) -> None:
    *_, frames = delivery(body, *parts)
    kinds = [METHOD, CONTENT_HEADER, *[CONTENT_BODY] * len(parts)]
    assert [kind for kind, _, _ in frames_in(b"".join(frames) + frames[0])] == [*kinds, METHOD]


def test_bytes_behind_a_delivery_that_are_no_frame_are_refused() -> None:
    *_, frames = delivery(b"body", b"body")
    buffer = FrameBuffer()
    buffer.feed(b"".join(frames)[:-1] + b"?")
    assert [kind for kind, _, _ in (buffer.next() or (), buffer.next() or ())] == [METHOD, CONTENT_HEADER]
    with pytest.raises(ValueError, match="0xce"):
        buffer.next()


def test_bytes_that_are_no_frame_are_refused() -> None:
    buffer = FrameBuffer()
    buffer.feed(b"\x01\x00\x01\x00\x00\x00\x01xy")
    with pytest.raises(ValueError, match="0xce"):
        buffer.next()


@pytest.mark.parametrize(
    ("frame", "method", "bits"),
    [
        (ack_frame(7, 2**40, False), 80, [False, False]),
        (ack_frame(7, 2**40, True), 80, [True, False]),
        (reject_frame(7, 2**40), 90, [False, False]),
        (requeue_frame(7, 2**40), 120, [False, True]),
    ],
    ids=["ack", "ack multiple", "reject", "nack one with requeue"],
)
def test_settling_frames(frame: bytes, method: int, bits: list[bool]) -> None:
    [(kind, channel, payload)] = frames_in(frame)
    assert (kind, channel, payload[:4]) == (1, 7, bytes((0, 60, 0, method)))
    assert loads("Lbb", payload, 4)[0] == [2**40, *bits]
    assert unpack_confirm(payload) == (2**40, bits[0])


def test_a_queue_is_declared_without_an_answer() -> None:
    [(_, channel, payload)] = frames_in(declare_queue_frame(2, "q", durable=True, arguments={"x-expires": 60_000}))
    assert (channel, payload[:4]) == (2, b"\x00\x32\x00\x0a")
    assert loads("BsbbbbbF", payload, 4)[0] == [0, "q", False, True, False, False, True, {"x-expires": 60_000}]


def test_headers_larger_than_a_frame_are_refused_before_they_kill_the_connection() -> None:
    large = Publication("e", "k", b"", Properties(headers={"traceback": "x" * 140_000}))
    with pytest.raises(MessageTooLarge, match="at most 131064") as caught:
        publish_frames(1, large, 131_072)
    assert "140" in str(caught.value)


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        (Properties(headers={"x": object()}), "headers cannot travel"),
        (Properties(headers={"x": 2**70}), "headers cannot travel"),
        (Properties(correlation_id="x" * 256), "correlation id takes at most 255"),
        (Properties(correlation_id=5), "correlation id must be text"),  # type: ignore[arg-type]
        (Properties(expiration="soon"), "'60000'; it is 'soon'"),
        (Properties(expiration=500), "'60000'; it is 500"),  # type: ignore[arg-type]
        (Properties(priority=256), "priority must be a number from 0 to 255"),
        (Properties(timestamp="now"), "timestamp must be"),
    ],
)
def test_what_amqp_cannot_carry_is_refused(properties: Properties, words: str) -> None:
    with pytest.raises(PublishError, match=words):
        publish_frames(1, Publication("e", "k", b"", properties), 131_072)


def test_a_routing_key_has_its_limit_too() -> None:
    with pytest.raises(PublishError, match="routing key takes at most 255 bytes, not 256"):
        publish_frames(1, Publication("e", "k" * 256, b"", Properties()), 131_072)
