"""The broker's side of a run: declare the queues, copy a message a thousand times, count what is left.

The copies are written as raw frames (AMQP 0-9-1, section 4.2.3), because a queue must be filled faster than the fastest
contestant empties it: method and header frame are those of one captured message, only the identity in the body differs.
"""

import json
import re
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

__all__ = ["EVENT_QUEUE", "ORDER_QUEUE", "RPC_QUEUE", "BrokerSide", "Template"]

EVENT_EXCHANGE, EVENT, EVENT_QUEUE = "source.events", "tick", "evt-source-tick--bench.handle"
ORDER_EXCHANGE, ORDER, ORDER_QUEUE = "control.events", "go", "evt-control-go--source.go"

RPC_QUEUE = "rpc-bench"

METHOD, HEADER, BODY, FRAME_END = 1, 2, 3, b"\xce"
BASIC_PUBLISH = struct.pack(">HHH", 60, 40, 0)
FILL_SECONDS = 30.0
POLL_SECONDS = 0.02
CHUNK = 500
"""Messages that are written at once."""

IDENTITY = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Template:
    """A message that a contestant sent by its own means.

    Args:
        properties: Its properties as they stand in a header frame.
        before, after: The body around its identity.
    """

    properties: bytes
    before: bytes
    after: bytes

    @classmethod
    def of(cls, message: amqp.Message) -> "Template":
        """What is to be copied of a message."""
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        found = IDENTITY.search(body)
        if found is None or json.loads(body)["id"].encode() != found.group():
            raise ValueError(f"the contestant's message has no identity to replace: {body[:100]!r}")
        return cls(message._serialize_properties(), body[: found.start()], body[found.end() :])

    def copies(self, channel: int, identities: list[str]) -> Iterator[bytes]:
        """The frames of one copy for each identity."""
        names = short_string(EVENT_EXCHANGE) + short_string(EVENT)
        size = len(self.before) + 36 + len(self.after)
        start = frame(METHOD, channel, BASIC_PUBLISH + names + b"\0") + frame(
            HEADER, channel, struct.pack(">HHQ", 60, 0, size) + self.properties
        )
        for identity in identities:
            yield start + frame(BODY, channel, self.before + identity.encode() + self.after)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END


def short_string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


class BrokerSide:
    """A connection to one virtual host. Used by one thread.

    Args:
        uri: The virtual host's AMQP URI.
    """

    def __init__(self, uri: str) -> None:
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
        for exchange, key, queue in (
            (EVENT_EXCHANGE, EVENT, EVENT_QUEUE),
            (ORDER_EXCHANGE, ORDER, ORDER_QUEUE),
        ):
            self.channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
            self.channel.queue_declare(queue, durable=True, auto_delete=False)
            self.channel.queue_bind(queue, exchange, key)

    def order(self, payload: Any, times: int = 1) -> None:
        """Tell the publishing service to begin, once for each caller."""
        for _ in range(times):
            message = amqp.Message(json.dumps(payload), content_type="application/json", content_encoding="utf-8")
            self.channel.basic_publish(message, ORDER_EXCHANGE, ORDER)

    def take_template(self) -> Template:
        """Take the one message in the queue."""
        return Template.of(self.channel.basic_get(EVENT_QUEUE, no_ack=True))

    def fill(self, template: Template, count: int) -> list[str]:
        """Put copies into the queue, and return their identities once the broker has them all."""
        identities = [str(uuid.uuid4()) for _ in range(count)]
        frames = template.copies(self.channel.channel_id, identities)
        for chunk in chunks(frames, CHUNK):
            self.connection.sock.sendall(chunk)
        self.wait_ready(count)
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
        answer = self.channel.queue_declare(EVENT_QUEUE, passive=True)
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
