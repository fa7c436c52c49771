"""Properties and bodies of the four kinds of message: event, RPC request, RPC reply, and a Publisher's.

Bodies are built and read as Python values here; which serializer turns them into bytes is the message's
content type's business (`micro_framework.wire.json_types` for JSON).
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from micro_framework.exceptions import IncorrectSignature, MalformedRequest, WireError
from micro_framework.wire.errors import ErrorRecord, error_object, parse_error
from micro_framework.wire.records import record

__all__ = [
    "JSON_CONTENT_TYPE",
    "JSON_ENCODING",
    "PERSISTENT",
    "TRANSIENT",
    "Properties",
    "Reply",
    "Request",
    "event_properties",
    "expiration_text",
    "parse_reply",
    "parse_request",
    "publisher_properties",
    "reply_body",
    "reply_properties",
    "request_body",
    "request_properties",
]

JSON_CONTENT_TYPE = "application/json"
JSON_ENCODING = "utf-8"
TRANSIENT = 1
"""Delivery mode of messages that do not outlive the broker."""
PERSISTENT = 2
"""Delivery mode of messages that are written to disk where the queue is durable; Nameko's default."""


@record(frozen=True, slots=True)
class Properties:
    """The properties of a message, by their AMQP names; None means that the property is absent.

    Args:
        content_type: The MIME type of the body.
        content_encoding: The character set of the body, or ``binary``.
        headers: The headers table, empty where there is none.
        delivery_mode: `TRANSIENT` or `PERSISTENT`.
        priority: 0 to 255; Nameko always sends one.
        correlation_id: What ties a reply to its request.
        reply_to: Where the reply goes; in Nameko's RPC a routing key, no queue name.
        expiration: Milliseconds to live, as text.
        message_id: Any further AMQP property, kept for messages that are published again.
        timestamp: The same; seconds since 1970, or what the client library makes of them.
        type: The same.
        user_id: The same.
        app_id: The same.
        cluster_id: The same.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: Any = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


def event_properties(
    headers: Mapping[str, Any],
    *,
    delivery_mode: int = PERSISTENT,
    priority: int = 0,
    expiration: float | None = None,
    content_type: str = JSON_CONTENT_TYPE,
    content_encoding: str = JSON_ENCODING,
) -> Properties:
    """The properties of an event; its body is the event's data alone, ``null`` for None.

    Args:
        headers: What `encode_context` gives.
        delivery_mode: `PERSISTENT` or `TRANSIENT`.
        priority: 0 to 255.
        expiration: Seconds to live, None for ever.
        content_type: The MIME type of the body.
        content_encoding: The character set of the body, or ``binary``.

    Source: nameko 2.14.1 and 3.0.0rc11 events.py and amqp/publish.py; seen on the wire.
    """
    return Properties(
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        delivery_mode=delivery_mode,
        priority=priority,
        expiration=expiration_text(expiration),
    )


def publisher_properties(
    context_headers: Mapping[str, Any],
    *,
    headers: Mapping[str, Any] | None = None,
    delivery_mode: int = PERSISTENT,
    priority: int = 0,
    expiration: float | None = None,
    content_type: str = JSON_CONTENT_TYPE,
    content_encoding: str = JSON_ENCODING,
) -> Properties:
    """The properties of a message sent by a Publisher.

    Args:
        context_headers: What `encode_context` gives; they win over ``headers``.
        headers: The sender's own headers; those of the one call win over those of the declaration before
            they get here.
        delivery_mode: As for `event_properties`.
        priority: As for `event_properties`.
        expiration: As for `event_properties`.
        content_type: As for `event_properties`.
        content_encoding: As for `event_properties`.

    Source: nameko 2.14.1 and 3.0.0rc11 messaging.py and amqp/publish.py; seen on the wire.
    """
    return event_properties(
        {**headers, **context_headers} if headers else context_headers,
        delivery_mode=delivery_mode,
        priority=priority,
        expiration=expiration,
        content_type=content_type,
        content_encoding=content_encoding,
    )


def request_properties(
    headers: Mapping[str, Any],
    *,
    correlation_id: str,
    reply_to: str,
    content_type: str = JSON_CONTENT_TYPE,
    content_encoding: str = JSON_ENCODING,
) -> Properties:
    """The properties of an RPC request, which is published mandatory.

    Nothing here is optional: a request without correlation id is answered without one, and one without
    ``reply_to`` or content type kills a Nameko service.

    Args:
        headers: What `encode_context` gives.
        correlation_id: A ``uuid4`` with dashes, new for each call.
        reply_to: The binding key of the reply queue; an unbound key where no reply is wanted.
        content_type: The MIME type of the body; the reply will have the same.
        content_encoding: The character set of the body, or ``binary``.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    return Properties(
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        delivery_mode=PERSISTENT,
        priority=0,
        correlation_id=correlation_id,
        reply_to=reply_to,
    )


def reply_properties(
    correlation_id: str | None,
    *,
    content_type: str = JSON_CONTENT_TYPE,
    content_encoding: str = JSON_ENCODING,
) -> Properties:
    """The properties of an RPC reply: no context and no ``reply_to``, and it is not published mandatory.

    Args:
        correlation_id: The request's; None where it had none.
        content_type: The request's, whatever the service itself would choose.
        content_encoding: The character set of the body, or ``binary``.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    return Properties(
        content_type=content_type,
        content_encoding=content_encoding,
        delivery_mode=PERSISTENT,
        priority=0,
        correlation_id=correlation_id,
    )


def expiration_text(seconds: float | None) -> str | None:
    """The property that lets a message live for some seconds: whole milliseconds, as text.

    Args:
        seconds: Seconds to live, None for ever. (Nameko's docstring says milliseconds; it is seconds.)

    Raises:
        ValueError: Fewer than 0 seconds; the broker would close the channel.

    Source: nameko 2.14.1 and 3.0.0rc11 amqp/publish.py with kombu; seen on the wire (5 becomes "5000").
    """
    if seconds is None:
        return None
    if not seconds >= 0:
        raise ValueError(f"expected an expiration of 0 seconds or more, got {seconds!r}")
    return str(int(float(seconds) * 1000))


class Request(NamedTuple):
    """The arguments of an RPC call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Reply(NamedTuple):
    """The outcome of an RPC call: ``error`` is None and ``result`` counts, or the other way round."""

    result: Any
    error: ErrorRecord | None


def request_body(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an RPC request.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    return {"args": args, "kwargs": kwargs}


def parse_request(body: Any) -> Request:
    """Read the decoded body of an RPC request; whatever this raises belongs into the reply.

    Args:
        body: A dict with ``args``, anything that can be iterated (a string too, by its characters), and
            ``kwargs``, a dict. Further keys are ignored.

    Raises:
        MalformedRequest: One of the two is missing.
        IncorrectSignature: They cannot be the arguments of any call.
        TypeError: The body is no dict, with the words Python itself finds for it.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py and containers.py; seen on the wire.
    """
    try:
        args, kwargs = body["args"], body["kwargs"]
    except KeyError:
        raise MalformedRequest("Message missing `args` or `kwargs`") from None
    # The words for wrong arguments are those of Python on which Nameko's signature check stumbles.
    try:
        args = (*args,)
    except TypeError:
        raise IncorrectSignature(f"Value after * must be an iterable, not {type(args).__name__}") from None
    if not isinstance(kwargs, (dict, Mapping)):  # a dict by far the most times, and found at once
        unfit = type(kwargs).__name__
        raise IncorrectSignature(f"inspect.getcallargs() argument after ** must be a mapping, not {unfit}")
    return Request(args, dict(kwargs))


def reply_body(result: Any = None, error: BaseException | None = None) -> dict[str, Any]:
    """The body of an RPC reply; both keys are always there.

    Args:
        result: What the target returned; it is not sent beside an error.
        error: What it raised.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    if error is None:
        return {"result": result, "error": None}
    return {"result": None, "error": error_object(error)}


def parse_reply(body: Any) -> Reply:
    """Read the decoded body of an RPC reply.

    Args:
        body: A dict with ``result`` or a non-empty ``error``.

    Raises:
        WireError: It is something else.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    if isinstance(body, Mapping):
        if body.get("error"):
            return Reply(None, parse_error(body["error"]))
        if "result" in body:
            return Reply(body["result"], None)
    raise WireError(f"expected a reply with a result or an error, got {described(body)}")


def described(body: Any) -> str:
    if isinstance(body, Mapping):
        return f"an object with the keys {', '.join(sorted(map(str, body))) or '(none)'}"
    return f"a {type(body).__name__}"
