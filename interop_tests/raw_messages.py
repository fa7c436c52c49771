"""Messages published and taken by bare py-amqp, so that a test can send any header and see any byte."""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import amqp

__all__ = ["RawCaller", "RawReply", "answering", "channel_to", "publish", "take"]

EXCHANGE = "nameko-rpc"
REPLY_SECONDS = 20.0
POLL_SECONDS = 0.05
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}


@contextlib.contextmanager
def channel_to(uri: str) -> Iterator[amqp.Channel]:
    """A channel to a virtual host, closed with its connection after the block."""
    parts = urlsplit(uri)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}",
        userid=parts.username,
        password=parts.password,
        virtual_host=unquote(parts.path[1:]),
        confirm_publish=True,
    )
    connection.connect()
    try:
        yield connection.channel()
    finally:
        connection.close()


def publish(
    uri: str,
    exchange: str,
    routing_key: str,
    payload: Any = None,
    headers: Mapping[str, Any] | None = None,
    body: bytes | None = None,
    times: int = 1,
) -> None:
    """Publish, confirmed and mandatory: a message that no queue gets is an error.

    Args:
        payload: Sent as JSON, unless there is a body.
        headers: The headers, as they are.
        body: The body, as it is.
        times: How often.
    """
    with channel_to(uri) as channel:
        returned: list[str] = []
        channel.events["basic_return"].add(lambda error, *_: returned.append(str(error)))
        for _ in range(times):
            message = amqp.Message(
                json.dumps(payload) if body is None else body,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                application_headers=dict(headers or {}),
            )
            channel.basic_publish_confirm(message, exchange, routing_key, mandatory=True)
        assert not returned, returned


def take(uri: str, queue: str, *, put_back: bool = False) -> amqp.Message:
    """Take the next message of a queue, or look at it."""
    with channel_to(uri) as channel:
        message = channel.basic_get(queue)
        assert message is not None, f"nothing in {queue}"
        if put_back:
            channel.basic_reject(message.delivery_tag, requeue=True)
        else:
            channel.basic_ack(message.delivery_tag)
        return message


@dataclass(frozen=True)
class RawReply:
    """A reply, every part of it: the properties that are there, the headers, the body's bytes."""

    exchange: str
    routing_key: str
    properties: Mapping[str, Any]
    headers: Mapping[str, Any] | None
    body: bytes

    @property
    def decoded(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class RawCaller:
    """Sends RPC requests as they are and takes what is answered. A context manager.

    Args:
        uri: The virtual host.
    """

    def __init__(self, uri: str) -> None:
        self.stack = contextlib.ExitStack()
        self.channel = self.stack.enter_context(channel_to(uri))
        self.key = str(uuid.uuid4())
        self.replies: list[RawReply] = []
        self.channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        queue = self.channel.queue_declare(f"raw-replies-{self.key}", exclusive=True).queue
        self.channel.queue_bind(queue, EXCHANGE, self.key)
        self.channel.basic_consume(queue, no_ack=True, callback=self.note)

    def note(self, message: amqp.Message) -> None:
        properties = dict(message.properties)
        headers = properties.pop("application_headers", None)
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        delivered = message.delivery_info
        self.replies.append(RawReply(delivered["exchange"], delivered["routing_key"], properties, headers, body))

    def send(
        self,
        routing_key: str,
        body: Any,
        headers: Mapping[str, Any] | None = None,
        *,
        to: str = EXCHANGE,
        leave_out: tuple[str, ...] = (),
        **properties: Any,
    ) -> None:
        """Publish a request; what is not bytes is sent as JSON.

        Args:
            headers: The headers, as they are; None for no table at all.
            to: The exchange.
            leave_out: Properties that a request should have, and this one has not.
            properties: Properties with other values.
        """
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        usual = {**JSON, "delivery_mode": 2, "reply_to": self.key, "correlation_id": "the-call"}
        described = {key: value for key, value in {**usual, **properties}.items() if key not in leave_out}
        if headers is not None:
            described["application_headers"] = dict(headers)
        self.channel.basic_publish_confirm(amqp.Message(raw, **described), to, routing_key, mandatory=True)

    def next(self, seconds: float = REPLY_SECONDS) -> RawReply:
        """The next reply."""
        deadline = time.monotonic() + seconds
        while not self.replies:
            left = deadline - time.monotonic()
            assert left > 0, f"no reply within {seconds:g} s"
            with contextlib.suppress(TimeoutError):
                self.channel.connection.drain_events(timeout=left)
        return self.replies.pop(0)

    def ask(self, routing_key: str, body: Any, headers: Mapping[str, Any] | None = None, **options: Any) -> RawReply:
        """Send a request and take its reply; `send` has the options."""
        self.send(routing_key, body, headers, **options)
        return self.next()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stack.close()


@contextlib.contextmanager
def answering(uri: str, service: str, body: bytes, **properties: Any) -> Iterator[list[amqp.Message]]:
    """Be a service inside the block that answers every request with the same bytes; gives the requests it got.

    Args:
        service: Its name.
        body: The answers' body.
        properties: Their properties, where they are to differ from what they should be; None leaves one out.
    """
    requests: list[amqp.Message] = []
    over = threading.Event()
    with channel_to(uri) as channel:

        def answer(request: amqp.Message) -> None:
            requests.append(request)
            usual = {**JSON, "delivery_mode": 2, "correlation_id": request.properties["correlation_id"]}
            described = {key: value for key, value in {**usual, **properties}.items() if value is not None}
            channel.basic_publish(amqp.Message(body, **described), EXCHANGE, request.properties["reply_to"])
            channel.basic_ack(request.delivery_tag)

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    channel.connection.drain_events(timeout=POLL_SECONDS)

        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        queue = channel.queue_declare(f"rpc-{service}", durable=True, auto_delete=False).queue
        channel.queue_bind(queue, EXCHANGE, f"{service}.*")
        channel.basic_consume(queue, callback=answer)
        serving = threading.Thread(target=serve, name=f"raw-service-{service}")
        serving.start()
        try:
            yield requests
        finally:
            over.set()
            serving.join()
