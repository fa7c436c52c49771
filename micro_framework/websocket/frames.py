"""Requests and replies as they travel: JSON text, one object a message.

A request is ``{"command": "create", "command_args": [7], "command_kwargs": {"items": [1]}, "id": 1}``; arguments may be
left out, and so may ``id``. A reply is ``{"data": ..., "exception": null, "id": 1}``, or ``data`` null and
``exception`` an error object as in Nameko's replies; it has an ``id`` where the request had one. Datetimes and their
like go out as plain text, for browsers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from micro_framework.calls import Outcome
from micro_framework.exceptions import MalformedRequest, WireError
from micro_framework.wire.errors import error_object, parse_error, to_exception
from micro_framework.wire.json_types import dumps, loads

__all__ = ["NO_ID", "Frame", "WebSocketRequest", "parse_reply", "parse_request", "reply_text", "request_text"]

Frame = str | bytes
"""A WebSocket message: text or binary."""

NO_ID = object()
"""The ``id`` of a request that has none: null is one."""

IDS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class WebSocketRequest:
    """One request. ``id`` is `NO_ID` where it has none."""

    command: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    id: Any = NO_ID


def parse_request(frame: Frame) -> WebSocketRequest:
    """Read a request.

    Raises:
        MalformedRequest: It is none; the text says what is wrong.
    """
    found = json_object(frame)
    command, args = found.get("command"), found.get("command_args")
    kwargs = found.get("command_kwargs")
    if not isinstance(command, str):
        raise MalformedRequest("a request needs `command`, the name of a target")
    if not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
        raise MalformedRequest("`command_args` is a list and `command_kwargs` an object")
    return WebSocketRequest(command, tuple(args or ()), kwargs or {}, id_of(found))


def json_object(frame: Frame) -> dict[str, Any]:
    """The object in a frame.

    Raises:
        MalformedRequest: There is none.
    """
    if isinstance(frame, bytes):
        raise MalformedRequest("a request is text, not binary")
    try:
        found = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"a request is JSON: {error}") from error
    if not isinstance(found, dict):
        raise MalformedRequest(f"a request is a JSON object, not a {type(found).__name__}")
    return found


def id_of(found: Mapping[str, Any]) -> Any:
    """The id of a request or reply, `NO_ID` where it has none.

    Raises:
        MalformedRequest: It is a list or an object.
    """
    identity = found.get("id", NO_ID)
    if identity is not NO_ID and not isinstance(identity, IDS):
        raise MalformedRequest("`id` is a text or a number")
    return identity


def reply_text(outcome: Outcome, identity: Any = NO_ID) -> str:
    """A reply.

    Args:
        outcome: How the call ended.
        identity: The request's id.

    Raises:
        TypeError, ValueError: The result cannot be sent.
    """
    body: dict[str, Any] = {"data": None, "exception": None}
    if outcome.error is None:
        body["data"] = outcome.result
    else:
        body["exception"] = error_object(outcome.error)
    if identity is not NO_ID:
        body["id"] = identity
    return dumps(body, "plain").decode()


def request_text(request: WebSocketRequest) -> str:
    """A request.

    Raises:
        TypeError, ValueError: The arguments cannot be sent.
    """
    body = {
        "command": request.command,
        "command_args": request.args,
        "command_kwargs": request.kwargs,
        **({} if request.id is NO_ID else {"id": request.id}),
    }
    return dumps(body, "plain").decode()


def parse_reply(frame: Frame) -> tuple[Any, Outcome]:
    """Read a reply: the id of its request (`NO_ID` where it has none), and how the call ended.

    Raises:
        WireError: It is no reply.
    """
    try:
        found = loads(frame if isinstance(frame, bytes) else frame.encode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"expected a reply, got {frame[:60]!r}: {error}") from error
    if not isinstance(found, dict) or not ("data" in found or found.get("exception")):
        raise WireError(f"expected a reply with data or exception, got {frame[:60]!r}")
    identity = found.get("id", NO_ID)
    if found.get("exception"):
        return identity, Outcome(error=to_exception(parse_error(found["exception"])))
    return identity, Outcome(found["data"])
