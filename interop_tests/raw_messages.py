"""Messages published and taken by bare py-amqp, so that a test can send any header and see any byte."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

__all__ = ["channel_to", "publish", "take"]


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
