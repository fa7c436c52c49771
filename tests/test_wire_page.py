"""`docs/wire.md` says what we send, and what Nameko was seen to send."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from micro_framework.backoff import RetryPolicy, attempt_to_headers, next_attempt
from micro_framework.brokers.rabbitmq.delays import Holding, Way, delay_arguments, delay_queue_name
from micro_framework.calls import FIRST_ATTEMPT
from micro_framework.parking import (
    Failure,
    Place,
    Reason,
    copied_headers,
    crash_headers,
    first_failure_header,
    parked_properties,
)
from micro_framework.wire.errors import error_object
from micro_framework.wire.headers import DEADLINE, decode_context, encode_context, grow_stack, new_call_id
from micro_framework.wire.json_types import JSONTypes, dumps, loads
from micro_framework.wire.messages import (
    Properties,
    event_properties,
    reply_body,
    reply_properties,
    request_body,
    request_properties,
)
from micro_framework.wire.naming import (
    BROADCAST,
    SINGLETON,
    Exchange,
    Queue,
    event_exchange,
    event_queue,
    reply_queue,
    rpc_exchange,
    rpc_queue,
    rpc_routing_key,
)
from tests.wire.golden import NAMEKO, VERSIONS, body_of, replies, scenarios

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "wire.md").read_text()

EXAMPLES: dict[str, str] = dict(
    re.findall(r"^<!-- wire: (.+?) -->\n\n```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)

Row = list[str]


def rows_under(heading: str, columns: int) -> Iterator[Row]:
    """The rows of the tables below a heading, up to the next one; those with that many columns."""
    text = re.split(rf"^##+ {re.escape(heading)}\n", PAGE, flags=re.MULTILINE)[1]
    text = re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]
    for table in re.findall(r"^\|[ |-]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            row = [cell.strip() for cell in line.strip("|").split(" | ")]
            if len(row) == columns:
                yield row


def bare(cell: str) -> str:
    """A cell's text without the backquotes around it."""
    found = re.fullmatch(r"(`+) ?(.*?) ?\1", cell)
    assert found, f"{cell} is no code"
    return found[2]


# ---- messages

ADD_ID, ADD_REPLY = "6f0b8f5e-2c5b-4a52-8f8e-0f6f2d1f3c11", "c2a1f4de-9f6d-4b0b-9f43-0e1a7b5d9a77"
RPC = rpc_exchange()


class Boom(Exception):
    """As the captured service had it."""


Boom.__module__ = "nameko_services"


def message(exchange: Exchange, routing_key: str, properties: Properties, *, mandatory: bool = False) -> dict[str, Any]:
    present = {name: value for name, value in asdict(properties).items() if value is not None}
    headers = present.pop("headers")
    return {
        "exchange": exchange.name,
        "routing_key": routing_key,
        "mandatory": mandatory,
        "properties": present,
        "headers": headers,
    }


def context_of(name: str, service: str, method: str) -> dict[str, Any]:
    """The headers of an example made again from their parts: the context data, and the id of the one call."""
    context, (call_id,) = decode_context(json.loads(EXAMPLES[name])["headers"])
    return encode_context(context, grow_stack((), new_call_id(service, method, call_id.rpartition(".")[2])))


def event() -> dict[str, Any]:
    return message(event_exchange("source"), "evt.pool", event_properties(context_of("event", "source", "emit")))


def request() -> dict[str, Any]:
    headers = context_of("request", "caller", "fan_out")
    properties = request_properties(headers, correlation_id=ADD_ID, reply_to=ADD_REPLY)
    return message(RPC, rpc_routing_key("target", "add"), properties, mandatory=True)


def reply() -> dict[str, Any]:
    return message(RPC, ADD_REPLY, reply_properties(ADD_ID))


# What is ours alone: the event of the page, retried and parked.

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
NO_MONEY = ValueError("no money")
QUEUE = event_queue("source", "evt.pool", service="target", method="on_pool").name
WAY = Way.of(QUEUE)
DELAY_NAME = delay_queue_name(WAY, 10_000, Holding.CLASSIC)


def retried_headers() -> dict[str, Any]:
    attempt = next_attempt(RetryPolicy(1, 10_000), FIRST_ATTEMPT, NO_MONEY, now=NOW, due=LATER)
    copied = copied_headers(event()["headers"], "source.events", "evt.pool")
    return {**copied, **first_failure_header(copied, attempt.history[-1]), **attempt_to_headers(attempt)}


def parked_headers() -> dict[str, Any]:
    failure = Failure(
        Reason.FAILED, NO_MONEY, LATER, retries=1, call_id="target.on_pool.4c0a7a52-8b7e-4a83-9c55-7d0c2b8f1e90"
    )
    place = Place(QUEUE, "target", "on_pool", "", QUEUE)
    properties = Properties(**json.loads(EXAMPLES["event"])["properties"], headers=retried_headers())
    identifier = "3f0c9a51-2d4b-4b7e-8a61-5e9f0c1d2b3a"
    parked = parked_properties(properties, place, failure, identifier=identifier, traceback="ValueError: no money\n")
    return dict(parked.headers)


BUILT: Mapping[str, Callable[[], Any]] = {
    "event": event,
    "request": request,
    "reply": reply,
    "retried headers": retried_headers,
    "delay arguments": lambda: delay_arguments(WAY, 10_000, Holding.CLASSIC),
    "quorum delay arguments": lambda: delay_arguments(WAY, 10_000, Holding.QUORUM),
    "parked headers": parked_headers,
}

BODIES: Mapping[str, Any] = {
    "event body": {"n": 1},
    "request body": request_body([0], {"b": 1}),
    "reply body": reply_body(1),
    "error body": reply_body(error=Boom("a", 1, {"k": [1, Decimal("2.5")]}, None)),
}

SEEN = {
    "event": ("event emit evt.pool", "source.events"),
    "request": ("caller fan_out (call_async)", "target.add"),
    "reply": ("caller fan_out (call_async)", "reply"),
    "error": ("rpc raw client: fail(boom)", "reply"),
}
"""The scenario in which Nameko sent an example, and what tells the message from others there."""


def test_every_example_is_checked() -> None:
    assert set(EXAMPLES) == set(BUILT) | set(BODIES)
    assert PAGE.count("<!-- wire: ") == len(EXAMPLES)


@pytest.mark.parametrize("name", BUILT)
def test_an_example_is_what_we_send(name: str) -> None:
    assert json.loads(EXAMPLES[name]) == BUILT[name]()


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_what_we_send_byte_for_byte(name: str) -> None:
    assert EXAMPLES[name].removesuffix("\n").encode() == dumps(BODIES[name])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SEEN)
def test_an_example_was_seen_from_nameko(version: str, name: str) -> None:
    scenario, mark = SEEN[name]
    (captured,) = [found["messages"] for found in scenarios(version) if found["scenario"] == scenario]
    sent = next(each for each in captured if each["sender"] == NAMEKO and is_marked(each, mark))
    assert body_of(sent).decode() == EXAMPLES[f"{name} body"].removesuffix("\n")
    if name in EXAMPLES:
        fields = ("exchange", "routing_key", "mandatory", "properties", "headers")
        shown = json.dumps(json.loads(EXAMPLES[name]), sort_keys=True)
        assert same_but_for_uuids(shown, json.dumps({each: sent[each] for each in fields}, sort_keys=True))


def is_marked(sent: Mapping[str, Any], mark: str) -> bool:
    return (
        sent["routing_key"].startswith("<uuid") if mark == "reply" else mark in (sent["exchange"], sent["routing_key"])
    )


def same_but_for_uuids(shown: str, captured: str) -> bool:
    """Whether two texts are equal when each placeholder of the captured one stands for one UUID of the other."""
    pattern, known = "", set()
    for part in re.split(r"(<uuid-\w+>)", captured):
        group = "u" + part[6:-1] if part.startswith("<uuid-") else ""
        if not group:
            pattern += re.escape(part)
        elif group in known:
            pattern += f"(?P={group})"
        else:
            known.add(group)
            pattern += f"(?P<{group}>[0-9a-f-]{{32,36}})"
    return re.fullmatch(pattern, shown) is not None


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        ("a 12345678-1234-1234-1234-123456789abc 12345678-1234-1234-1234-123456789abc", True),
        ("a 12345678-1234-1234-1234-123456789abc 12345678-1234-1234-1234-123456789abd", False),
        ("b 12345678-1234-1234-1234-123456789abc 12345678-1234-1234-1234-123456789abc", False),
    ],
)
def test_the_comparison_finds_a_difference(shown: str, same: bool) -> None:
    assert same_but_for_uuids(shown, "a <uuid-1> <uuid-1>") is same


@pytest.mark.parametrize("name", ["event", "request", "reply"])
def test_the_table_of_properties_agrees_with_the_example(name: str) -> None:
    shown = json.loads(EXAMPLES[name])
    column = ["event", "request", "reply"].index(name) + 1
    rows = {row[0].strip("`*"): row[column] for row in rows_under("Properties", 4)}
    assert {row for row, said in rows.items() if said != "absent"} == {*shown["properties"], "headers", "mandatory"}
    assert (rows["mandatory"] == "yes") is shown["mandatory"]
    assert (rows["headers"] == "empty") is (shown["headers"] == {})
    for key in ("content_encoding", "delivery_mode", "priority"):
        assert rows[key].strip("`") == str(shown["properties"][key])


# ---- declarations

HEX, UUID_4 = "<hex>", "<uuid>"


def handler(event: str, method: str, **options: Any) -> Queue:
    return event_queue("source", event, service="target", method=method, **options)


OURS = [
    handler("evt.pool", "on_pool"),
    handler("evt.pool.unreliable", "on_pool_unreliable", reliable=False),
    handler("evt.single", "on_single", handler_type=SINGLETON),
    handler("evt.bcast", "on_bcast", handler_type=BROADCAST, reliable=False, broadcast_identifier=HEX),
    handler("evt.bcast.stable", "on_bcast_stable", handler_type=BROADCAST, broadcast_identifier="stable-id"),
    handler("evt.*", "on_wildcard"),
    rpc_queue("target", RPC),
    reply_queue("caller", UUID_4, RPC),
]

FLAG = {True: "yes", False: "no"}


def queue_rows() -> list[Row]:
    """The two tables of queues side by side: name, durable, exclusive, auto-delete, arguments, exchange, key."""
    flags, bindings = (list(rows_under("Exchanges and queues", columns)) for columns in (5, 4))
    assert [row[0] for row in flags] == [row[0] for row in bindings]
    return [[bare(flag[0]), *flag[2:], *map(bare, binding[1:])] for flag, binding in zip(flags, bindings, strict=True)]


def test_the_queues_are_those_that_we_declare() -> None:
    assert queue_rows() == [
        [
            queue.name,
            FLAG[queue.durable],
            FLAG[queue.exclusive],
            FLAG[queue.auto_delete],
            json.dumps(dict(queue.arguments)),
            queue.bindings[0].exchange.name,
            queue.bindings[0].routing_key,
        ]
        for queue in OURS
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_queues_are_those_that_nameko_declared(version: str) -> None:
    declared = {found["queue"]: found for found in declarations(version, "queue.declare")}
    bound = {found["queue"]: found for found in declarations(version, "queue.bind")}
    for name, durable, exclusive, auto_delete, arguments, exchange, key in queue_rows():
        seen = name.replace(HEX, "<uuid-hex>").replace(UUID_4, "<uuid-1>")
        queue, binding = declared[seen], bound[seen]
        assert [durable, exclusive, auto_delete] == [
            FLAG[queue[each]] for each in ("durable", "exclusive", "auto_delete")
        ]
        assert json.loads(arguments) == queue["arguments"]
        assert [exchange, key.replace(UUID_4, "<uuid-1>")] == [binding["exchange"], binding["routing_key"]]
        assert binding["arguments"] == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_exchanges_are_those_that_nameko_declared_and_we_do(version: str) -> None:
    declared = {found["exchange"]: found for found in declarations(version, "exchange.declare")}
    ours = {found.name: found for found in (event_exchange("source"), RPC)}
    rows = list(rows_under("Exchanges and queues", 6))
    assert [bare(row[0]) for row in rows] == list(ours)
    for name, _, kind, durable, auto_delete, arguments in rows:
        found, own = declared[bare(name)], ours[bare(name)]
        assert kind == found["type"] == own.type
        assert durable == FLAG[found["durable"]] == FLAG[own.durable]
        assert auto_delete == FLAG[found["auto_delete"]] == FLAG[own.auto_delete]
        assert json.loads(bare(arguments)) == found["arguments"] == own.arguments


def declarations(version: str, method: str) -> list[dict[str, Any]]:
    return [found["args"] for found in VERSIONS[version]["declarations_at_start"] if found["method"] == method]


# ---- stacks, errors, values


def test_stacks_grow_as_the_page_says() -> None:
    rows = list(rows_under("The call id stack", 3))
    assert len(rows) == 3
    for came, call_id, sent in rows:
        assert list(grow_stack(json.loads(bare(came)), bare(call_id))) == json.loads(bare(sent))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_errors_are_those_that_nameko_sent(version: str) -> None:
    seen = [found["error"] for name, found in replies() if name.startswith(version) and found.get("error")]
    rows = list(rows_under("Errors", 4))
    assert len(rows) == 4
    for _, path, arguments, value in rows:
        kind = bare(path).rpartition(".")[2]
        said = {"exc_type": kind, "exc_path": bare(path), "exc_args": json.loads(bare(arguments)), "value": bare(value)}
        assert said in seen


def test_the_keys_of_an_error_are_ours() -> None:
    assert [bare(row[0]) for row in rows_under("Errors", 2)] == list(error_object(ValueError()))


def values() -> Iterator[tuple[str, Any, str, JSONTypes]]:
    names = {"datetime": datetime, "date": date, "time": time, "Decimal": Decimal, "UUID": UUID}
    for written, tagged, plain in rows_under("Values that JSON does not know", 3):
        value = eval(bare(written), names)  # noqa: S307 -- the project's own page
        yield bare(written), value, tagged, "tagged"
        yield bare(written), value, plain, "plain"


@pytest.mark.parametrize(("written", "value", "cell", "types"), list(values()))
def test_values_are_sent_as_the_page_says(written: str, value: Any, cell: str, types: JSONTypes) -> None:
    if cell == "cannot be sent":
        with pytest.raises(TypeError):
            dumps(value, types)
    else:
        assert dumps(value, types).decode() == bare(cell)
        if types == "tagged" and not isinstance(value, tuple):
            assert loads(bare(cell).encode()) == value


# ---- headers of our own


def test_the_table_has_every_header_of_ours_and_no_other() -> None:
    said = [bare(row[0]) for row in rows_under("Headers of our own", 3)]
    failed = next_attempt(RetryPolicy(1, 1), FIRST_ATTEMPT, NO_MONEY, now=NOW, due=LATER).history[-1]
    everything = Failure(Reason.FAILED, NO_MONEY, NOW, call_id="a.b.c", callback_error=NO_MONEY)
    properties = parked_properties(
        Properties(expiration="5000"), Place("q", "s", "m", "", "q"), everything, identifier="i", traceback="t"
    )
    sent = {DEADLINE, *retried_headers(), *crash_headers({}, 1, failed), *properties.headers}
    assert sorted(said) == sorted(name for name in sent if name.startswith("mf-"))


def test_the_delay_queues_name_is_ours() -> None:
    assert f"`{DELAY_NAME}`" in PAGE
    assert delay_queue_name(Way("rpc-target", "nameko-rpc", "target.add"), 10_000, Holding.CLASSIC).startswith(
        "target.add@nameko-rpc"
    )
