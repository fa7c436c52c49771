import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from micro_framework.calls import Outcome
from micro_framework.exceptions import MalformedRequest, MethodNotFound, RemoteError, WireError
from micro_framework.websocket.frames import (
    NO_ID,
    WebSocketRequest,
    parse_reply,
    parse_request,
    reply_text,
    request_text,
)


@pytest.mark.parametrize(
    ("sent", "request_read"),
    [
        ({"command": "add"}, WebSocketRequest("add", (), {})),
        ({"command": "add", "command_args": [1, [2]]}, WebSocketRequest("add", (1, [2]), {})),
        ({"command": "add", "command_kwargs": {"a": 1}, "id": 7}, WebSocketRequest("add", (), {"a": 1}, 7)),
        ({"command": "add", "command_args": None, "command_kwargs": None}, WebSocketRequest("add", (), {})),
        ({"command": "add", "id": None}, WebSocketRequest("add", (), {}, None)),
        ({"command": "add", "id": "x", "more": 1}, WebSocketRequest("add", (), {}, "x")),
    ],
)
def test_requests_are_read(sent: dict[str, Any], request_read: WebSocketRequest) -> None:
    assert parse_request(json.dumps(sent)) == request_read


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"{}", "text, not binary"),
        ("", "is JSON"),
        ("{", "is JSON"),
        ("[" * 100_000, "is JSON"),
        ("[]", "a JSON object, not a list"),
        ("null", "not a NoneType"),
        ("{}", "needs `command`"),
        ('{"command": 1}', "needs `command`"),
        ('{"command": "a", "command_args": {"a": 1}}', "`command_args` is a list"),
        ('{"command": "a", "command_kwargs": [1]}', "`command_kwargs` an object"),
        ('{"command": "a", "id": [1]}', "`id` is a text or a number"),
        ('{"command": "a", "id": {}}', "`id` is a text or a number"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(frame: str | bytes, why: str) -> None:
    with pytest.raises(MalformedRequest, match=why):
        parse_request(frame)


def test_a_request_survives_the_way() -> None:
    request = WebSocketRequest("add", (1, "é"), {"b": [2]}, "id-1")
    assert parse_request(request_text(request)) == request
    assert "id" not in json.loads(request_text(WebSocketRequest("add", (), {})))


NOPE = {
    "exc_type": "MethodNotFound",
    "exc_path": "nameko.exceptions.MethodNotFound",
    "exc_args": ["nope"],
    "value": "nope",
}


@pytest.mark.parametrize(
    ("outcome", "identity", "body"),
    [
        (Outcome(5), NO_ID, {"data": 5, "exception": None}),
        (Outcome(None), 7, {"data": None, "exception": None, "id": 7}),
        (Outcome("é"), None, {"data": "é", "exception": None, "id": None}),
        (Outcome(dt.datetime(2020, 1, 2, 3, 4, 5)), NO_ID, {"data": "2020-01-02T03:04:05", "exception": None}),
        (Outcome(Decimal("1.10")), NO_ID, {"data": "1.10", "exception": None}),
        (Outcome(error=MethodNotFound("nope")), "x", {"data": None, "exception": NOPE, "id": "x"}),
    ],
)
def test_replies(outcome: Outcome, identity: Any, body: dict[str, Any]) -> None:
    assert json.loads(reply_text(outcome, identity)) == body


def test_a_result_that_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        reply_text(Outcome(object()))


def test_replies_are_read() -> None:
    assert parse_reply('{"data": 5, "exception": null, "id": "a"}') == ("a", Outcome(5))
    identity, outcome = parse_reply(reply_text(Outcome(error=KeyError("k")), "b"))
    assert identity == "b"
    assert isinstance(outcome.error, RemoteError)
    assert (outcome.error.exc_type, outcome.error.value) == ("KeyError", "'k'")
    identity, outcome = parse_reply(reply_text(Outcome(error=MethodNotFound("nope"))))
    assert identity is NO_ID
    assert isinstance(outcome.error, MethodNotFound)


@pytest.mark.parametrize("frame", ["{", "[]", "{}", b"\xff", '{"exception": 1}'])
def test_what_is_no_reply_is_refused(frame: str | bytes) -> None:
    with pytest.raises(WireError):
        parse_reply(frame)
