"""Frames of AMQP 0-9-1 as bytes: those of the busy methods are packed and taken apart here, without py-amqp.

Pure functions and one buffer. py-amqp decodes every property of every message on the reading thread and packs through
one shared buffer under a lock; here the reading thread only finds where a message ends, and whoever publishes packs on
its own thread. Layouts: AMQP 0-9-1 specification, 2.3.5 (frames), 4.2.6 (content), amqp0-9-1.xml (methods).
"""

import struct
from calendar import timegm
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from struct import Struct, pack
from typing import Any

from amqp.exceptions import FrameSyntaxError
from amqp.serialization import dumps

from micro_framework.brokers.port import Publication
from micro_framework.brokers.rabbitmq.tables import pack_table, unpack_table
from micro_framework.exceptions import MessageTooLarge, PublishError
from micro_framework.wire.messages import Properties

__all__ = [
    "ACK",
    "CONTENT_BODY",
    "CONTENT_HEADER",
    "DELIVER",
    "DELIVERY",
    "GET_EMPTY",
    "GET_OK",
    "HEARTBEAT_FRAME",
    "METHOD",
    "NACK",
    "RETURN",
    "FrameBuffer",
    "ack_frame",
    "bind_exchange_frame",
    "bind_queue_frame",
    "body_size",
    "declare_exchange_frame",
    "declare_queue_frame",
    "pack_properties",
    "publish_frames",
    "reject_frame",
    "requeue_frame",
    "short_string_at",
    "short_string_behind",
    "unpack_confirm",
    "unpack_deliver",
    "unpack_properties",
    "unpack_tag",
]

METHOD, CONTENT_HEADER, CONTENT_BODY = 1, 2, 3
DELIVERY = 0
"""No type of the protocol's: a ``basic.deliver`` with its content, see `FrameBuffer.next`."""
DELIVER, RETURN = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x32"
GET_OK, GET_EMPTY = b"\x00\x3c\x00\x47", b"\x00\x3c\x00\x48"
ACK, NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
BASIC, PUBLISH = 60, 40
FRAME_END = b"\xce"
FRAME_OVERHEAD = 8
METHOD_AT = FRAME_OVERHEAD - 1
"""Where in its frame the payload begins."""
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
MAX_SHORT_STRING = 255

FRAME_HEAD = Struct(">BHI")
HEADER_FRAME_HEAD = Struct(">B2xI4xQ")
"""Of a content header: type and size of the frame, and the size of the body that it announces."""
BODY_FRAME_HEAD = Struct(">B2xI")
SETTLE_FRAME = Struct(">BHIHHQBB")
SETTLE_SIZE = 13
TAG = Struct(">QB")
BODY_SIZE = Struct(">Q")
CONTENT_HEAD = Struct(">HHQ")
FLAGS = Struct(">H")
PROPERTY_FLAGS_AT = CONTENT_HEAD.size
PROPERTY_LIST_AT = PROPERTY_FLAGS_AT + FLAGS.size
USUAL = 0xF800
"""The flags of content type and encoding, headers, delivery mode and priority."""
CORRELATED, ANSWERED = 0x0400, 0x0200
"""The flags of a correlation id and of ``reply_to``."""
OF_CALLS = CORRELATED | ANSWERED
KNOWN = 1024
"""Routing keys whose frames are kept: those that a service sends events to, or replies."""


class FrameBuffer:
    """Bytes as they come in, complete frames as they go out; a frame that has half arrived waits here."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self.empty = True
        """Whether there is nothing left, not even a part of a frame."""

    def feed(self, chunk: bytes) -> None:
        """Add what was received."""
        rest = self._data[self._at :]
        self._data = rest + chunk if rest else chunk
        self._at = 0
        self.empty = False

    @property
    def has_frame(self) -> bool:
        """Whether `next` has a frame."""
        at, end = self._at, len(self._data)
        return end - at >= FRAME_OVERHEAD and end - at >= FRAME_OVERHEAD + FRAME_HEAD.unpack_from(self._data, at)[2]

    @property
    def at_command(self) -> bool:
        """Whether the next of what has come is a method other than ``basic.deliver``; ask where it is not `empty`."""
        data, at = self._data, self._at
        return data[at] == METHOD and not DELIVER.startswith(data[at + METHOD_AT : at + METHOD_AT + len(DELIVER)])

    def next(self, *, commands: bool = True) -> tuple[int, int, Any] | None:
        """The next complete frame as (type, channel, payload), None if there is none yet.

        A ``basic.deliver`` whose content has come as a whole, in one body frame, is returned together with that: its
        type is `DELIVERY`, its payload those of the three frames. The payload of any other body frame is a view: there
        are more of that body to come, with which it will be put together.

        Args:
            commands: False: None also where it is `at_command`.

        Raises:
            ValueError: The bytes are no frame.
        """
        data, at = self._data, self._at
        if len(data) - at < FRAME_OVERHEAD:
            return None
        kind, channel, size = FRAME_HEAD.unpack_from(data, at)
        start = at + METHOD_AT
        end = start + size
        if kind == METHOD:
            if data.startswith(DELIVER, start):
                if (whole := self._take_delivery(start, end)) is not None:
                    return DELIVERY, channel, whole
            elif not commands:
                return None
        if len(data) <= end:
            return None
        if data[end] != 0xCE:
            raise ValueError(f"expected the end of a frame (0xce), got {data[end]:#04x}")
        self._at = end + 1
        self.empty = self._at == len(data)
        return kind, channel, memoryview(data)[start:end] if kind == CONTENT_BODY else data[start:end]

    def _take_delivery(self, start: int, end: int) -> tuple[bytes, bytes, bytes] | None:
        """A method with the content that follows it, taken if that has come as a whole.

        Args:
            start, end: Where the method's payload is.
        """
        data = self._data
        header_at = end + FRAME_OVERHEAD
        try:
            kind, size, content_size = HEADER_FRAME_HEAD.unpack_from(data, end + 1)
            header_end = header_at + size
            body_at = header_end + FRAME_OVERHEAD
            body_kind, body_size = BODY_FRAME_HEAD.unpack_from(data, header_end + 1)
            body_end = body_at + body_size
            ended = data[end] == data[header_end] == data[body_end] == 0xCE
        except (IndexError, struct.error):
            return None  # not all of it has come
        if not (ended and kind == CONTENT_HEADER and body_kind == CONTENT_BODY and body_size == content_size):
            return None
        self._at = body_end + 1
        self.empty = body_end + 1 == len(data)
        return data[start:end], data[header_at:header_end], data[body_at:body_end]


def ack_frame(channel: int, tag: int, multiple: bool) -> bytes:
    """``basic.ack``."""
    return SETTLE_FRAME.pack(METHOD, channel, SETTLE_SIZE, BASIC, 80, tag, multiple, 0xCE)


def reject_frame(channel: int, tag: int) -> bytes:
    """``basic.reject`` without requeue."""
    return SETTLE_FRAME.pack(METHOD, channel, SETTLE_SIZE, BASIC, 90, tag, 0, 0xCE)


def requeue_frame(channel: int, tag: int) -> bytes:
    """``basic.nack`` of one message, with requeue."""
    return SETTLE_FRAME.pack(METHOD, channel, SETTLE_SIZE, BASIC, 120, tag, 0b10, 0xCE)


def unpack_confirm(payload: bytes) -> tuple[int, bool]:
    """Tag and ``multiple`` of a ``basic.ack`` or ``basic.nack``."""
    tag, bits = TAG.unpack_from(payload, 4)
    return tag, bool(bits & 1)


def unpack_tag(payload: bytes, at: int) -> tuple[int, bool]:
    """Delivery tag and ``redelivered`` of a ``basic.get-ok``."""
    tag, bits = TAG.unpack_from(payload, at)
    return tag, bool(bits & 1)


def unpack_deliver(payload: bytes) -> tuple[bytes, int, bool, int]:
    """Consumer tag, delivery tag and ``redelivered`` of a ``basic.deliver``, and where its exchange's name begins."""
    end = 5 + payload[4]
    tag, bits = TAG.unpack_from(payload, end)
    return payload[5:end], tag, bool(bits & 1), end + TAG.size


def body_size(header: bytes) -> int:
    """The size of the body that a content header announces."""
    size: int = BODY_SIZE.unpack_from(header, 4)[0]
    return size


def short_string_at(payload: bytes, at: int) -> tuple[bytes, int]:
    """The short string at an offset, and the offset behind it."""
    end = at + 1 + payload[at]
    return payload[at + 1 : end], end


def short_string_behind(payload: bytes, at: int) -> bytes:
    """The short string that follows the one at an offset."""
    at += 1 + payload[at]
    return payload[at + 1 : at + 1 + payload[at]]


def publish_frames(channel: int, publication: Publication, frame_max: int) -> bytes:
    """``basic.publish`` with its header and body.

    Args:
        channel: The channel's number.
        publication: What to publish.
        frame_max: The largest frame the connection takes, in bytes.

    Raises:
        MessageTooLarge: The header does not fit a frame; the broker would close the connection (501).
        PublishError: A property is nothing that AMQP can carry.
    """
    body = publication.body
    header = CONTENT_HEAD.pack(BASIC, 0, len(body)) + pack_repeated(publication.properties)
    most = frame_max - FRAME_OVERHEAD
    if len(header) > most:
        raise header_too_large(header, publication, most)
    address = channel, publication.exchange, publication.routing_key, publication.mandatory
    head = looked_up(publish_method_frame, *address)
    head += FRAME_HEAD.pack(CONTENT_HEADER, channel, len(header)) + header + FRAME_END
    if 0 < len(body) <= most:  # as nearly all are
        return head + FRAME_HEAD.pack(CONTENT_BODY, channel, len(body)) + body + FRAME_END
    return head + b"".join(frame(CONTENT_BODY, channel, body[at : at + most]) for at in range(0, len(body), most))


@lru_cache(maxsize=KNOWN)
def publish_method_frame(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """``basic.publish`` itself; most publishers use few routing keys."""
    method = (
        pack(">HHH", BASIC, PUBLISH, 0)
        + short_string(exchange, "exchange")
        + short_string(routing_key, "routing key")
        + (b"\x01" if mandatory else b"\x00")
    )
    return frame(METHOD, channel, method)


def looked_up(cached: Callable[..., bytes], *arguments: object) -> bytes:
    """What a cached function gives; of arguments that cannot be in a cache it says itself what is wrong with them."""
    try:
        return cached(*arguments)
    except TypeError:
        packed: bytes = cached.__wrapped__(*arguments)  # type: ignore[attr-defined]
        return packed


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return FRAME_HEAD.pack(kind, channel, len(payload)) + payload + FRAME_END


def header_too_large(header: bytes, publication: Publication, most: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"the headers of the message for exchange {publication.exchange!r}, "
        f"routing key {publication.routing_key!r}, take {len(header)} bytes; expected at most {most}, "
        "what a frame of this connection takes; send less in the headers "
        "(or raise frame_max in TRANSPORT_OPTIONS and on the broker)"
    )


def declare_queue_frame(
    channel: int, name: str, *, passive: bool = False, durable: bool = False, arguments: Mapping[str, Any] | None = None
) -> bytes:
    """``queue.declare`` that asks for no answer; a refusal still closes the channel."""
    values = (0, name, passive, durable, False, False, True, dict(arguments or {}))
    return frame(METHOD, channel, pack(">HH", 50, 10) + dumps("BsbbbbbF", values))


def declare_exchange_frame(
    channel: int,
    name: str,
    kind: str,
    *,
    passive: bool = False,
    durable: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> bytes:
    """``exchange.declare`` that asks for no answer; a refusal still closes the channel, or the connection."""
    values = (0, name, kind, passive, durable, False, False, True, dict(arguments or {}))
    return frame(METHOD, channel, pack(">HH", 40, 10) + dumps("BssbbbbbF", values))


def bind_queue_frame(channel: int, queue: str, exchange: str, routing_key: str) -> bytes:
    """``queue.bind`` that asks for no answer; a refusal still closes the channel."""
    return frame(METHOD, channel, pack(">HH", 50, 20) + dumps("BsssbF", (0, queue, exchange, routing_key, True, {})))


def bind_exchange_frame(channel: int, destination: str, source: str, routing_key: str) -> bytes:
    """``exchange.bind`` (RabbitMQ's) that asks for no answer; a refusal still closes the channel."""
    return frame(
        METHOD, channel, pack(">HH", 40, 30) + dumps("BsssbF", (0, destination, source, routing_key, True, {}))
    )


def pack_properties(properties: Properties) -> bytes:
    """The property flags and the property list of a content header.

    A header table is always sent, empty if need be: so does kombu, and with it Nameko.

    Raises:
        PublishError: A property is nothing that AMQP can carry.
    """
    values = VALUES(properties)
    if values[len(USUAL_ONES) :] == NO_OTHERS and None not in values[:USUALLY_ALL]:
        try:
            return pack_usual(*values[: len(USUAL_ONES)])
        except TypeError:  # from a cache that does not take the value: below it is said what is wrong with it
            pass
    flags, parts = 0, []
    for (flag, name, packed, _), value in zip(PROPERTIES, values, strict=True):
        if value is not None:
            flags |= flag
            parts.append(packed(value, name))
    return FLAGS.pack(flags) + b"".join(parts)


def pack_usual(
    content_type: str,
    content_encoding: str,
    headers: Mapping[str, Any],
    delivery_mode: int,
    priority: int,
    correlation_id: str | None,
    reply_to: str | None,
) -> bytes:
    """As `pack_properties`, for what Nameko's events, requests and replies have, and so do this framework's.

    What is the same in many messages is packed once.
    """
    flags = USUAL
    packed = known_short_string(content_type, "content_type") + known_short_string(content_encoding, "content_encoding")
    packed += packed_table(headers, "headers")
    packed += known_octet(delivery_mode, "delivery_mode") + known_octet(priority, "priority")
    if correlation_id is not None:
        flags |= CORRELATED
        packed += short_string(correlation_id, "correlation_id")
    if reply_to is not None:
        flags |= ANSWERED
        packed += known_short_string(reply_to, "reply_to")
    return FLAGS.pack(flags) + packed


class Repeated:
    """A function that keeps its last result, for an argument that is the same object many times in a row. Thread safe.

    Args:
        function: Takes one argument, which nobody changes afterwards.
    """

    def __init__(self, function: Callable[[Any], bytes]) -> None:
        self.function = function
        self.last: tuple[object, bytes] = (self, b"")

    def __call__(self, argument: object) -> bytes:
        known, result = self.last  # read and written in one piece: other threads do the same
        if known is not argument:
            result = self.function(argument)
            self.last = argument, result
        return result


pack_repeated = Repeated(pack_properties)
"""Events that are dispatched together have the same properties."""


def short_string(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise PublishError(f"{name.replace('_', ' ')} must be text, not {type(value).__name__} {value!r:.80}")
    raw = value.encode("utf-8", "surrogatepass")  # as py-amqp reads it: what came as such bytes goes back as them
    if len(raw) > MAX_SHORT_STRING:
        raise PublishError(f"{name.replace('_', ' ')} takes at most 255 bytes, not {len(raw)}: {value!r:.80}")
    return bytes((len(raw),)) + raw


def packed_table(value: Mapping[str, Any], name: str) -> bytes:
    try:
        return pack_table(value)
    except (FrameSyntaxError, struct.error, TypeError, ValueError, AttributeError) as error:
        raise PublishError(f"the {name} cannot travel in an AMQP table: {error}; send text instead") from error


def octet(value: object, name: str) -> bytes:
    if not isinstance(value, int) or not 0 <= value <= 255:
        raise PublishError(f"{name.replace('_', ' ')} must be a number from 0 to 255, not {value!r:.80}")
    return bytes((value,))


def packed_expiration(value: object, name: str) -> bytes:
    # The broker would close the channel (406), and every message on it would be in doubt.
    if not (isinstance(value, str) and value.isascii() and value.isdecimal()):
        raise PublishError(f"{name} must be a number of milliseconds as text, like '60000'; it is {value!r:.80}")
    return short_string(value, name)


def packed_time(value: object, name: str) -> bytes:
    if isinstance(value, datetime):
        value = timegm(value.utctimetuple())
    if not isinstance(value, int | float) or not 0 <= value < 2**64:
        raise PublishError(f"{name} must be a datetime or seconds since 1970, not {value!r:.80}")
    return BODY_SIZE.pack(int(value))


def short_string_in(header: bytes, at: int) -> tuple[str, int]:
    raw, end = short_string_at(header, at)
    return raw.decode("utf-8", "surrogatepass"), end


def octet_in(header: bytes, at: int) -> tuple[int, int]:
    return header[at], at + 1


def time_in(header: bytes, at: int) -> tuple[int, int]:
    return BODY_SIZE.unpack_from(header, at)[0], at + BODY_SIZE.size


known_short_string = lru_cache(maxsize=256)(short_string)
known_octet = lru_cache(maxsize=512, typed=True)(octet)

PROPERTIES = (
    (0x8000, "content_type", short_string, short_string_in),
    (0x4000, "content_encoding", short_string, short_string_in),
    (0x2000, "headers", packed_table, unpack_table),
    (0x1000, "delivery_mode", octet, octet_in),
    (0x0800, "priority", octet, octet_in),
    (0x0400, "correlation_id", short_string, short_string_in),
    (0x0200, "reply_to", short_string, short_string_in),
    (0x0100, "expiration", packed_expiration, short_string_in),
    (0x0080, "message_id", short_string, short_string_in),
    (0x0040, "timestamp", packed_time, time_in),
    (0x0020, "type", short_string, short_string_in),
    (0x0010, "user_id", short_string, short_string_in),
    (0x0008, "app_id", short_string, short_string_in),
    (0x0004, "cluster_id", short_string, short_string_in),
)
"""Flag, name, how to pack and how to unpack, in the order of the property list."""
VALUES = attrgetter(*(name for _, name, _, _ in PROPERTIES))
USUAL_ONES = [name for flag, name, _, _ in PROPERTIES if flag & (USUAL | OF_CALLS)]
USUALLY_ALL = len([name for flag, name, _, _ in PROPERTIES if flag & USUAL])
NO_OTHERS = (None,) * (len(PROPERTIES) - len(USUAL_ONES))


@lru_cache(maxsize=256)
def unpackers_for(flags: int) -> Sequence[tuple[str, Callable[[bytes, int], tuple[Any, int]]]]:
    """The properties that are there, in order. Publishers use few combinations; whoever tries all fills no memory."""
    return [(name, unpacked) for flag, name, _, unpacked in PROPERTIES if flags & flag]


def unpack_properties(header: bytes) -> Properties:
    """The properties in the payload of a content header.

    Raises:
        Exception: It is none, or a name or text in it is no UTF-8.
    """
    (flags,) = FLAGS.unpack_from(header, PROPERTY_FLAGS_AT)
    if flags & ~OF_CALLS == USUAL:
        return unpack_usual(header, flags)
    found = {}
    at = PROPERTY_LIST_AT
    for name, unpacked in unpackers_for(flags):
        found[name], at = unpacked(header, at)
    return Properties(**found)


def unpack_usual(header: bytes, flags: int) -> Properties:
    """As `unpack_properties`, for what Nameko's events, requests and replies have, and so do this framework's."""
    at, end = PROPERTY_LIST_AT + 1, PROPERTY_LIST_AT + 1 + header[PROPERTY_LIST_AT]
    content_type = known_text(header[at:end])
    at, end = end + 1, end + 1 + header[end]
    content_encoding = known_text(header[at:end])
    headers, at = unpack_table(header, end)
    delivery_mode, priority, end = header[at], header[at + 1], at + 2
    correlation_id = reply_to = None
    if flags & CORRELATED:
        at, end = end + 1, end + 1 + header[end]
        correlation_id = header[at:end].decode("utf-8", "surrogatepass")
    if flags & ANSWERED:
        at, end = end + 1, end + 1 + header[end]
        reply_to = known_text(header[at:end])
    return Properties(content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to)


@lru_cache(maxsize=256)
def known_text(raw: bytes) -> str:
    """A text that is the same in many messages."""
    return raw.decode("utf-8", "surrogatepass")
