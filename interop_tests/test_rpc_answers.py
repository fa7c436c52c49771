"""The same raw request to Nameko's server and to ours: the two replies do not differ in a byte.

And what kills Nameko's process: ours answers it, or drops it, and goes on.
"""

import contextlib
import json
import logging
import re
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from interop_tests.conftest import NAMEKO_VERSIONS
from interop_tests.nameko_process import Nameko
from interop_tests.raw_messages import RawCaller, RawReply
from interop_tests.services.own_services import Target, Through
from micro_framework.amqp.serving import RPCListener
from micro_framework.testing.broker_state import BrokerAdmin, VHost
from micro_framework.testing.services import running

OK = {"args": [], "kwargs": {}}


class Pair:
    """A caller of Nameko's `target`, and one of ours, each on a virtual host of its own."""

    def __init__(self, theirs: RawCaller, ours: RawCaller) -> None:
        self.theirs = theirs
        self.ours = ours

    def ask(self, *request: Any, **options: Any) -> tuple[RawReply, RawReply]:
        """Send a request to both: Nameko's reply and ours, with the same in it where each has an address of its own."""
        found = [asked.ask(*request, **options) for asked in (self.theirs, self.ours)]
        return like_the_other(found[0], self.theirs), like_the_other(found[1], self.ours)


def like_the_other(reply: RawReply, caller: RawCaller) -> RawReply:
    assert reply.routing_key == caller.key
    body = re.sub(rb"object at 0x[0-9a-f]+", b"object at 0x0", reply.body)
    return RawReply(reply.exchange, "the caller's", reply.properties, reply.headers, body)


@pytest.fixture(scope="module", params=NAMEKO_VERSIONS)
def pair(request: pytest.FixtureRequest, broker: BrokerAdmin) -> Iterator[Pair]:
    their_vhost, our_vhost = (VHost(broker, broker.add_vhost()) for _ in range(2))
    with contextlib.closing(Nameko(request.param, their_vhost)) as nameko:
        nameko.run("nameko_services:Target", "rpc_peers:Through")
        with (
            running(Target, Through, config={"AMQP_URI": our_vhost.uri}),
            RawCaller(their_vhost.uri) as theirs,
            RawCaller(our_vhost.uri) as ours,
        ):
            yield Pair(theirs, ours)
    for vhost in (their_vhost, our_vhost):
        broker.delete_vhost(vhost.name)


# -- answers

REQUESTS = [
    ("target.add", {"args": [1], "kwargs": {}}),
    ("target.add", {"args": [1], "kwargs": {"b": 2.5}}),
    ("target.add", {"args": ["caf", "\u00e9 \u2615"], "kwargs": {}}),
    ("target.add", {"args": [[1], [None, {"k": True}]], "kwargs": {}, "further": "keys"}),
    ("target.echo", {"args": "text", "kwargs": {"\u00e4 b": {"c": []}}}),
    ("target.echo", {"args": {"a": 1, "b": 2}, "kwargs": {}}),
    ("target.echo", {"args": [1e300, -0.0, 12345678901234567890, ""], "kwargs": {"self_": 1}}),
    ("target.nothing", OK),
    ("target.typed", OK),
    ("target.typed_bytes", OK),
]


@pytest.mark.parametrize(("key", "body"), REQUESTS)
def test_a_call_is_answered_as_nameko_answers_it(pair: Pair, key: str, body: Any) -> None:
    theirs, ours = pair.ask(key, body)
    assert ours == theirs
    assert ours.decoded["error"] is None


FAILURES = [
    # No such method, and names that must not be looked up anywhere.
    *((f"target.{name}", OK) for name in ["nope", "__init__", "__class__", "ctx", "on_pool", "name", "", "\u00e9"]),
    # Arguments that do not fit.
    ("target.add", OK),
    ("target.add", {"args": [1, 2, 3], "kwargs": {}}),
    ("target.add", {"args": [1], "kwargs": {"zz": 2}}),
    ("target.add", {"args": [1], "kwargs": {"a": 2}}),
    ("target.add", {"args": [], "kwargs": {"b": 2}}),
    ("target.add", {"args": [1], "kwargs": {"self": 2}}),
    ("target.echo", {"args": [], "kwargs": {"self": 2}}),
    ("target.nothing", {"args": [1], "kwargs": {}}),
    # Nothing that could be arguments.
    *(("target.add", {"args": args, "kwargs": {}}) for args in (None, 1, True)),
    *(("target.add", {"args": [1], "kwargs": kwargs}) for kwargs in (None, 1, "b", [["b", 1]])),
    # No request at all.
    *(("target.add", body) for body in ({}, {"args": []}, {"kwargs": {}}, {"args": None}, [], [1], None, 1, 0.5, True)),
    ("target.add", ""),
    ("target.add", "text"),
    ("target.add", b""),
    # What the method raises.
    *(
        ("target.fail", {"args": [kind], "kwargs": {}})
        for kind in ["boom", "known", "keyerror", "noargs", "badstr", "unicode", "typeerror"]
    ),
    ("target.add", {"args": [1, "a"], "kwargs": {}}),
    ("target.add", {"args": [{}], "kwargs": {}}),
    ("target.unserializable", OK),
]


@pytest.mark.parametrize(("key", "body"), FAILURES)
def test_a_call_that_fails_is_answered_as_nameko_answers_it(pair: Pair, key: str, body: Any) -> None:
    theirs, ours = pair.ask(key, body)
    assert ours == theirs
    assert ours.decoded["error"] is not None


PASSED_ON = [
    ("target", "add", [1, 2]),
    ("target", "nope", []),
    ("target", "add", []),
    ("target", "fail", ["boom"]),
    ("target", "fail", ["known"]),
    ("target", "fail", ["keyerror"]),
    ("target", "fail", ["noargs"]),
    ("target", "fail", ["badstr"]),
    ("target", "unserializable", []),
    ("nosuch", "anything", [1]),
]


@pytest.mark.parametrize("args", PASSED_ON)
def test_what_a_call_further_on_raises_is_answered_as_nameko_answers_it(pair: Pair, args: Any) -> None:
    theirs, ours = pair.ask("through.pass_on", {"args": args, "kwargs": {}})
    assert ours == theirs


PROPERTIES = [
    {"leave_out": ("correlation_id",)},
    {"leave_out": ("delivery_mode",)},
    {"leave_out": ("content_encoding",)},
    {"correlation_id": "\u00e9" * 100},
    {"correlation_id": ""},
    {"priority": 7, "expiration": "60000", "type": "a", "message_id": "b", "app_id": "c", "timestamp": 1},
    {"delivery_mode": 1},
    {"headers": {}},
    {"headers": {"nameko.user_id": 7, "x-foreign": [1, None], "mf-deadline": "soon", "nameko.mf-deadline": 1}},
    {"headers": {"nameko.call_id_stack": []}},
    {"headers": {"nameko.call_id_stack": "text"}},
]


@pytest.mark.parametrize("properties", PROPERTIES)
def test_the_properties_of_a_request_make_the_same_difference(pair: Pair, properties: dict[str, Any]) -> None:
    theirs, ours = pair.ask("target.add", {"args": [1], "kwargs": {}}, **properties)
    assert ours == theirs
    assert ours.decoded == {"result": 2, "error": None}


def test_a_request_that_came_past_the_exchange_is_answered_alike(pair: Pair) -> None:
    theirs, ours = pair.ask("rpc-target", OK, to="")
    assert ours == theirs


def test_a_compressed_request_is_answered_alike(pair: Pair) -> None:
    body = json.dumps({"args": ["x" * 5000], "kwargs": {"b": "y"}}).encode()
    theirs, ours = pair.ask("target.add", zlib.compress(body), {"compression": "application/x-gzip"})
    assert ours == theirs
    assert len(ours.decoded["result"]) == 5001


def test_ten_megabytes_are_answered_alike(pair: Pair) -> None:
    theirs, ours = pair.ask("target.add", {"args": ["x" * 10_000_000, "\u00e9"], "kwargs": {}})
    assert ours == theirs
    assert len(ours.decoded["result"]) == 10_000_001


# -- what kills Nameko

KILLING = {
    "no reply_to": {"leave_out": ("reply_to",)},
    "no content_type": {"leave_out": ("content_type",)},
    "a void call id stack": {"headers": {"nameko.call_id_stack": None}},
    "no reply_to for no method": {"key": "target.nope", "leave_out": ("reply_to",)},
}


@pytest.mark.parametrize("request_", KILLING.values(), ids=KILLING)
def test_what_kills_nameko_is_taken_off_its_queue_by_us(nameko: Nameko, request_: dict[str, Any]) -> None:
    """Nameko ends, and the request stays in its queue, where it would kill the next one too; ours serves it."""
    vhost = nameko.vhost
    options = dict(request_)
    key = options.pop("key", "target.add")
    theirs = nameko.run("nameko_services:Target")
    with RawCaller(vhost.uri) as caller:
        caller.send(key, {"args": [1], "kwargs": {}}, **options)
        assert theirs.process is not None
        assert theirs.process.wait(20) == 1
        vhost.wait_for(lambda _: vhost.queue("rpc-target").ready == 1, what="the request to be back in its queue")
        with running(Target, config={"AMQP_URI": vhost.uri}):
            vhost.wait_until_drained("rpc-target")
            if "reply_to" not in options.get("leave_out", ()):
                caller.next()
            assert caller.ask("target.add", {"args": [2], "kwargs": {}}).decoded == {"result": 3, "error": None}


# -- what nobody can answer as it should be: each is dealt with once, and the service goes on


class NoRepr:
    def __repr__(self) -> str:
        raise ValueError("no repr for you")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class Odd:
    """Ours: returns what cannot be sent, and raises what nobody expects."""

    name = "odd"
    results = {
        "without a repr": NoRepr,
        "more digits than Python writes": lambda: 10**5000,
        "nested too deep": lambda: nested(100_000),
    }
    errors = {
        "an argument without a text": lambda: ValueError(NoRepr()),
        "an exit": lambda: SystemExit(3),
        "an interrupt": KeyboardInterrupt,
    }

    @RPCListener()
    def give(self, what: str) -> Any:
        return self.results[what]()

    @RPCListener()
    def fail(self, what: str) -> Any:
        raise self.errors[what]()


@pytest.fixture(scope="module")
def odd(broker: BrokerAdmin) -> Iterator[VHost]:
    vhost = VHost(broker, broker.add_vhost())
    with running(Odd, Target, config={"AMQP_URI": vhost.uri}):
        yield vhost
    broker.delete_vhost(vhost.name)


def still_serves(vhost: VHost, caller: RawCaller) -> bool:
    """Whether nothing is left in the queues, nothing more was answered, and a good call gets its answer."""
    vhost.wait_until_drained("rpc-target", "rpc-odd")
    assert caller.replies == []
    reply = caller.ask("target.add", {"args": [1], "kwargs": {}})
    return bool(reply.decoded == {"result": 2, "error": None})


@pytest.mark.parametrize("what", Odd.results)
def test_a_result_that_cannot_even_be_shown_is_answered_as_unserializable(odd: VHost, what: str) -> None:
    with RawCaller(odd.uri) as caller:
        error = caller.ask("odd.give", {"args": [what], "kwargs": {}}).decoded["error"]
        assert error["exc_path"] == "nameko.exceptions.UnserializableValueError"
        assert error["value"].startswith("Unserializable value: `")
        assert still_serves(odd, caller)


@pytest.mark.parametrize("what", Odd.errors)
def test_whatever_is_raised_goes_to_the_caller_and_no_further(odd: VHost, what: str) -> None:
    with RawCaller(odd.uri) as caller:
        error = caller.ask("odd.fail", {"args": [what], "kwargs": {}}).decoded["error"]
        assert error["exc_type"] in ("ValueError", "SystemExit", "KeyboardInterrupt")
        assert still_serves(odd, caller)


ADD = {"args": [1], "kwargs": {}}
MALFORMED = {
    "no JSON": (b"{nope", {}),
    "no text": (b"\xff\xfe", {}),
    "nested too deep": (b"[" * 100_000 + b"]" * 100_000, {}),
    "more digits than Python reads": (b'{"args": [%s], "kwargs": {}}' % (b"9" * 5000), {}),
    "a wrapper with nothing in it": (b'{"args": [{"__type__": "decimal", "__value__": "x"}], "kwargs": {}}', {}),
    "a content type that is not accepted": (ADD, {"content_type": "application/x-python-serialize"}),
    "a content type that nobody knows": (ADD, {"content_type": "text/weird"}),
    "not compressed": (ADD, {"headers": {"compression": "application/x-gzip"}}),
    "a compression that nobody knows": (ADD, {"headers": {"compression": "application/x-weird"}}),
}


@pytest.mark.parametrize(("body", "options"), MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_be_decoded_is_answered_as_malformed(odd: VHost, body: Any, options: dict[str, Any]) -> None:
    """Nameko drops it, and its caller waits for ever."""
    with RawCaller(odd.uri) as caller:
        reply = caller.ask("target.add", body, **options)
        assert reply.decoded["error"]["exc_path"] == "nameko.exceptions.MalformedRequest"
        assert reply.properties["content_type"] == "application/json"
        assert still_serves(odd, caller)


UNANSWERABLE = {
    "a reply_to that is no text": {"reply_to": b"\xff\xfe"},
    "a reply_to with a lone surrogate": {"reply_to": b"\xed\xa0\x80"},
    "a correlation id that is no text": {"correlation_id": b"\xff\xfe"},
    "a content type that is no text": {"content_type": b"\xff\xfe"},
    "a reply_to that leads nowhere": {"reply_to": "nowhere"},
    "a caller that has given up": {"headers": {"mf-deadline": int(time.time() * 1000) - 60_000}},
    "no reply_to, and no JSON": {"leave_out": ("reply_to",), "content_encoding": "weird"},
}


@pytest.mark.parametrize("options", UNANSWERABLE.values(), ids=UNANSWERABLE)
def test_what_cannot_be_answered_is_dropped(odd: VHost, options: dict[str, Any]) -> None:
    with RawCaller(odd.uri) as caller:
        caller.send("target.add", ADD, **options)
        assert still_serves(odd, caller)


def test_a_request_with_unreadable_properties_is_named_in_the_log(odd: VHost, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), RawCaller(odd.uri) as caller:
        caller.send("target.add", ADD, reply_to=b"\xff\xfe")
        assert still_serves(odd, caller)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "properties cannot be read" in record.getMessage()


def test_a_method_name_with_a_dot_reaches_nobody(odd: VHost) -> None:
    with RawCaller(odd.uri) as caller:
        caller.channel.events["basic_return"].add(lambda error, *_: returned.append(str(error)))
        returned: list[str] = []
        caller.send("target.add.more", ADD)
        assert "NO_ROUTE" in returned[0]
        assert still_serves(odd, caller)
