"""The broker's side of a run: declare the queues, copy a message a thousand times, count what is left.

The copies are written as raw frames (AMQP 0-9-1, section 4.2.3), because a queue must be filled faster than the fastest
contestant empties it: method and header frame are those of one captured message, only the identity in the body differs.
"""

import json
import re
import struct
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

__all__ = ["DRAMATIQ", "EVENTS", "EVENT_QUEUE", "ORDER_QUEUE", "RPC_QUEUE", "TASKS", "BrokerSide", "Source", "Template"]

EVENT_EXCHANGE, EVENT, EVENT_QUEUE = "source.events", "tick", "evt-source-tick--bench.handle"
ORDER_EXCHANGE, ORDER, ORDER_QUEUE = "control.events", "go", "evt-control-go--source.go"

RPC_QUEUE = "rpc-bench"


@dataclass(frozen=True)
class Source:
    """Where a contestant's messages wait for it.

    Args:
        queue: Its queue, durable.
        exchange, key: What a message is published with to arrive there.
        arguments: The queue's arguments, which must be those of the contestant.
    """

    queue: str
    exchange: str = ""
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


EVENTS = Source(EVENT_QUEUE, EVENT_EXCHANGE, EVENT)
"""Nameko's way; raw clients and FastStream, which bind any queue to any exchange, use it too."""
TASKS = Source("tasks", key="tasks")
DRAMATIQ = Source(
    "tasks", key="tasks", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "tasks.XQ"}
)

METHOD, HEADER, BODY, FRAME_END = 1, 2, 3, b"\xce"
FRAME_OVERHEAD = 8
BASIC_PUBLISH = struct.pack(">HHH", 60, 40, 0)
FILL_SECONDS = 30.0
POLL_SECONDS = 0.02
CHUNK = 1000
"""Pieces that are written at once, two of them for a small message."""

IDENTITY = re.compile(rb'"id": ?"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"')


@dataclass(frozen=True)
class Template:
    """A message that a contestant sent by its own means.

    Args:
        source: Where it was found.
        properties: Its properties as they stand in a header frame.
        body: Its body.
        identity: The payload's ``id``. A contestant may use it elsewhere too, as the name of a task for instance.
    """

    source: Source
    properties: bytes
    body: bytes
    identity: bytes

    @classmethod
    def of(cls, message: amqp.Message, source: Source = EVENTS) -> "Template":
        """What is to be copied of a message."""
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        found = IDENTITY.search(body)
        if found is None:
            raise ValueError(f"the contestant's message has no identity to replace: {body[:100]!r}")
        return cls(source, message._serialize_properties(), body, found.group(1))

    def copies(self, channel: int, identities: list[str], frame_max: int) -> Iterator[bytes]:
        """The frames of one copy for each identity.

        Args:
            channel: The number of an open channel.
            identities: As long as the template's own.
            frame_max: Bytes that a frame may have on the connection.
        """
        names = short_string(self.source.exchange) + short_string(self.source.key)
        publish = frame(METHOD, channel, BASIC_PUBLISH + names + b"\0")
        head, room = struct.pack(">HHQ", 60, 0, len(self.body)), frame_max - FRAME_OVERHEAD
        for identity in map(str.encode, identities):
            properties, body = (part.replace(self.identity, identity) for part in (self.properties, self.body))
            yield publish + frame(HEADER, channel, head + properties)
            for begin in range(0, len(body), room):
                yield frame(BODY, channel, body[begin : begin + room])


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END


def short_string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


class BrokerSide:
    """A connection to one virtual host. Used by one thread.

    Args:
        uri: The virtual host's AMQP URI.
        source: The queue that is filled, or published to.
    """

    def __init__(self, uri: str, source: Source = EVENTS) -> None:
        self.source = source
        parts = urlsplit(uri)
        self.connection = amqp.Connection(
            host=f"{parts.hostname}:{parts.port}",
            userid=parts.username,
            password=parts.password,
            virtual_host=unquote(parts.path[1:]),
        )
        self.connection.connect()
        self.channel = self.connection.channel()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def declare(self) -> None:
        """Declare what the services declare, with the same flags, so that the queues can be filled before they run."""
        for source in (self.source, Source(ORDER_QUEUE, ORDER_EXCHANGE, ORDER)):
            self.channel.queue_declare(source.queue, durable=True, auto_delete=False, arguments=dict(source.arguments))
            if source.exchange:
                self.channel.exchange_declare(source.exchange, "topic", durable=True, auto_delete=False)
                self.channel.queue_bind(source.queue, source.exchange, source.key)

    def order(self, payload: Any, times: int = 1) -> None:
        """Tell the publishing service to begin, once for each caller."""
        for _ in range(times):
            message = amqp.Message(json.dumps(payload), content_type="application/json", content_encoding="utf-8")
            self.channel.basic_publish(message, ORDER_EXCHANGE, ORDER)

    def take_template(self) -> Template:
        """Take the one message in the queue."""
        return Template.of(self.channel.basic_get(self.source.queue, no_ack=True), self.source)

    def fill(self, template: Template, count: int) -> list[str]:
        """Put copies into the queue, and return their identities once the broker has them all."""
        identities = self.publish(template, count)
        self.wait_ready(count)
        return identities

    def publish(self, template: Template, count: int) -> list[str]:
        """Send copies, and return their identities."""
        identities = [str(uuid.uuid4()) for _ in range(count)]
        frames = template.copies(self.channel.channel_id, identities, self.connection.frame_max)
        for chunk in chunks(frames, CHUNK):
            self.connection.sock.sendall(chunk)
        return identities

    def wait_ready(self, count: int) -> None:
        """Wait until so many messages wait in the queue.

        Raises:
            RuntimeError: There were never so many.
        """
        deadline = time.monotonic() + FILL_SECONDS
        while (found := self.ready()) != count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the queue holds {found} messages after {count} were put into it")
            time.sleep(POLL_SECONDS)

    def ready(self) -> int:
        """Messages that wait in the queue."""
        answer = self.channel.queue_declare(self.source.queue, passive=True)
        return int(answer.message_count)


def chunks(frames: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Frames of several messages joined."""
    joined: list[bytes] = []
    for one in frames:
        joined.append(one)
        if len(joined) == size:
            yield b"".join(joined)
            joined.clear()
    yield b"".join(joined)
