import pickle
from dataclasses import asdict, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import kombu.compression
import kombu.serialization
import pytest

from micro_framework.exceptions import IncorrectSignature, MalformedRequest, WireError
from micro_framework.wire.errors import ErrorRecord, error_object
from micro_framework.wire.headers import decode_context, encode_context, grow_stack, new_call_id
from micro_framework.wire.json_types import dumps, loads
from micro_framework.wire.messages import (
    Properties,
    Reply,
    event_properties,
    expiration_text,
    parse_reply,
    parse_request,
    publisher_properties,
    reply_body,
    reply_properties,
    request_body,
    request_properties,
)
from micro_framework.wire.naming import event_exchange, rpc_exchange, rpc_routing_key
from tests.wire.golden import (
    RAW_CLIENT,
    TIMER_MESSAGES,
    VERSIONS,
    all_messages,
    body_of,
    is_reply,
    is_request,
    replies,
    scenarios,
)

RPC = rpc_exchange().name


def message(exchange, routing_key, properties, body, mandatory=False):
    """A message of ours in the form of the golden ones."""
    present = {name: value for name, value in asdict(properties).items() if value is not None}
    headers = present.pop("headers")
    return {
        "exchange": exchange,
        "routing_key": routing_key,
        "mandatory": mandatory,
        "properties": present,
        "headers": headers,
        "body": body,
    }


def golden(captured):
    """A captured message in the same form, its body as bytes."""
    fields = ("exchange", "routing_key", "mandatory", "properties", "headers")
    return {each: captured[each] for each in fields} | {"body": body_of(captured)}


# What the methods of the captured services do, with our functions: each yields the messages it sends, given the
# context headers to send, the captured messages (for the identifiers that are new in every run), and the arguments.


def emit(headers, captured, event_type, data):
    yield message(event_exchange("source").name, event_type, event_properties(headers), dumps(data))


def emit_fast(headers, captured, event_type, data):
    properties = event_properties(headers, delivery_mode=1, priority=5)
    yield message(event_exchange("source").name, event_type, properties, dumps(data))


def emit_typed(headers, captured):
    data = {
        "dt": datetime(2020, 1, 2, 3, 4, 5, 678000),
        "date": date(2020, 1, 2),
        "dec": Decimal("1.10"),
        "uuid": UUID("12345678-1234-5678-1234-567812345678"),
        "tuple": (1, 2),
        "text": "café",
    }
    return emit(headers, captured, "typed", data)


def raw(headers, captured, payload, options=None):
    return published("raw.exchange", headers, payload, {"routing_key": "raw.key", **(options or {})})


def raw_default(headers, captured, payload, options):
    return published("", headers, payload, options)


def published(exchange, context_headers, payload, options):
    routing_key, mandatory = options.pop("routing_key"), options.pop("mandatory", False)
    compression = options.pop("compression", None)
    serializer = options.pop("serializer", "json")
    content_type, encoding, body = kombu.serialization.dumps(payload, serializer)
    if serializer == "json":
        body = dumps(payload)
    if compression:
        body, compressed = kombu.compression.compress(body, compression)
        context_headers = context_headers | {"compression": compressed}
    properties = publisher_properties(context_headers, content_type=content_type, content_encoding=encoding, **options)
    yield message(exchange, routing_key, properties, body, mandatory)


def relay(headers, captured, method, args=(), kwargs=None):
    return called(headers, captured, "target", method, [(args, kwargs or {})])


def call_missing(headers, captured):
    return called(headers, captured, "nosuch", "anything", [((1,), {})])


def fan_out(headers, captured, n):
    return called(headers, captured, "target", "add", [((each,), {"b": 1}) for each in range(n)])


def mutate(headers, captured):
    return called({"nameko.added": "later", **headers}, captured, "target", "context", [((), {})])


def called(headers, captured, service, method, calls):
    for request, (args, kwargs) in zip(captured, calls, strict=True):
        new = request["properties"]
        properties = request_properties(headers, correlation_id=new["correlation_id"], reply_to=new["reply_to"])
        yield message(RPC, rpc_routing_key(service, method), properties, dumps(request_body(args, kwargs)), True)


METHODS = {
    "source": (emit, emit_fast, emit_typed, raw, raw_default),
    "caller": (relay, call_missing, fan_out, mutate),
}
METHOD_OF = {rpc_routing_key(service, each.__name__): each for service, found in METHODS.items() for each in found}


def served_requests():
    """Requests of the raw client, each with what the called service sent on while serving it."""
    return [
        pytest.param(request, sent, id=f"{version}: {scenario['scenario']}")
        for version in VERSIONS
        for scenario in VERSIONS[version]["scenarios"]
        for request in scenario["messages"]
        if request["sender"] == RAW_CLIENT and is_request(request)
        for sent in [[each for each in scenario["messages"] if each["sender"] != RAW_CLIENT and not is_reply(each)]]
        if sent
    ]


@pytest.mark.parametrize(("received", "captured"), served_requests())
def test_what_a_service_sends_while_serving_equals_what_nameko_sent(received, captured):
    service, method = received["routing_key"].split(".")
    arguments = parse_request(loads(body_of(received)))
    context, incoming = decode_context(received["headers"])
    identifier = captured[0]["headers"]["nameko.call_id_stack"][-1].rpartition(".")[2]
    headers = encode_context(context, grow_stack(incoming, new_call_id(service, method, identifier)))
    send = METHOD_OF[received["routing_key"]]
    ours = list(send(headers, captured, *arguments.args, **arguments.kwargs))
    assert ours == [golden(each) for each in captured]


def test_every_sending_method_was_captured():
    assert {each.values[0]["routing_key"] for each in served_requests()} == METHOD_OF.keys()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_event_of_a_timer_equals_namekos(version):
    (captured,) = VERSIONS[version][TIMER_MESSAGES]
    headers = encode_context({}, grow_stack((), new_call_id("ticker", "tick", "<uuid-1>")))
    ours = message(event_exchange("ticker").name, "ticked", event_properties(headers), dumps(None))
    assert ours == golden(captured)


@pytest.mark.parametrize("version", VERSIONS)
def test_events_of_a_standalone_dispatcher_equal_namekos(version):
    found = next(each for each in scenarios(version) if each["scenario"] == "standalone event_dispatcher")
    events = [("source", "evt.pool", {"standalone": 1}), ("newsource", "some.evt", {"standalone": 2})]
    ours = [
        message(event_exchange(source).name, event, event_properties(encode_context({})), dumps(data))
        for source, event, data in events
    ]
    assert ours == [golden(each) for each in found["messages"]]


def captured_requests():
    return [pytest.param(each, id=name) for name, each in all_messages("nameko") if is_request(each)]


@pytest.mark.parametrize("captured", captured_requests())
def test_requests_are_parsed_and_built_again(captured):
    request = parse_request(loads(body_of(captured)))
    context, stack = decode_context(captured["headers"])
    properties = request_properties(
        encode_context(context, stack),
        correlation_id=captured["properties"]["correlation_id"],
        reply_to=captured["properties"]["reply_to"],
    )
    body = dumps(request_body(request.args, request.kwargs))
    assert message(RPC, captured["routing_key"], properties, body, True) == golden(captured)


def answered_requests():
    """Every reply with the request it answers, which either side may have sent."""
    found = []
    for version in VERSIONS:
        for scenario in VERSIONS[version]["scenarios"]:
            requests = {answer_key(each): each for each in scenario["messages"] if is_request(each)}
            found += [
                pytest.param(requests[reply_key(each)], each, id=f"{version}: {scenario['scenario']}")
                for each in scenario["messages"]
                if is_reply(each)
            ]
    return found


def answer_key(request):
    return request["properties"]["reply_to"], request["properties"].get("correlation_id")


def reply_key(reply):
    return reply["routing_key"], reply["properties"].get("correlation_id")


class Raised(Exception):
    """Stands for an error that was captured; `tests/wire/test_errors.py` builds the real ones."""


@pytest.mark.parametrize(("request_", "captured"), answered_requests())
def test_replies_equal_namekos(request_, captured):
    reply = parse_reply(loads(body_of(captured)))
    body = reply_body(reply.result)
    if reply.error:
        body = reply_body(error=Raised()) | {"error": {**reply.error._asdict(), "exc_args": list(reply.error.exc_args)}}
    asked = request_["properties"]
    properties = reply_properties(asked.get("correlation_id"), content_type=asked["content_type"])
    assert message(RPC, asked["reply_to"], properties, dumps(body)) == golden(captured)


def test_no_message_was_left_out():
    """Every captured message is a request, a reply, or sent by a method, the timer or the standalone dispatcher."""
    compared = [body_of(each) for parameters in served_requests() for each in parameters.values[1]]
    compared += [body_of(each) for name, each in all_messages("nameko") if is_request(each) or is_reply(each)]
    compared += [body_of(VERSIONS[version][TIMER_MESSAGES][0]) for version in VERSIONS]
    compared += [dumps({"standalone": n}) for n in (1, 2)]
    assert {body_of(each) for _, each in all_messages("nameko")} == set(compared)


@pytest.mark.parametrize(("name", "body"), replies())
def test_replies_are_parsed(name, body):
    reply = parse_reply(body)
    assert reply.result == body["result"]
    assert (reply.error and reply.error.value) == (body["error"] and body["error"]["value"])


def malformed_requests():
    """Requests of the raw client that no method could serve, each with the error Nameko answered."""
    words = ("missing kwargs", "body is a list", "body is null")
    return [
        pytest.param(scenario["messages"], id=f"{version}: {scenario['scenario']}")
        for version in VERSIONS
        for scenario in VERSIONS[version]["scenarios"]
        if scenario["scenario"].endswith(words)
    ]


@pytest.mark.parametrize("messages", malformed_requests())
def test_a_malformed_request_raises_what_nameko_answered(messages):
    request, reply = messages
    with pytest.raises((MalformedRequest, TypeError)) as raised:
        parse_request(loads(body_of(request)))
    assert dumps(reply_body(error=raised.value)) == body_of(reply)


def test_malformed_requests_were_captured():
    assert len(malformed_requests()) == 6


class TestRequests:
    @pytest.mark.parametrize(
        ("body", "args", "kwargs"),
        [
            ({"args": [], "kwargs": {}}, (), {}),
            ({"args": [1, None], "kwargs": {"b": [2]}}, (1, None), {"b": [2]}),
            ({"args": "ab", "kwargs": {}}, ("a", "b"), {}),
            ({"args": {"k": 1}, "kwargs": {}}, ("k",), {}),
            ({"args": [], "kwargs": {"größe": 1, "not a name": 2}, "more": 1}, (), {"größe": 1, "not a name": 2}),
        ],
    )
    def test_are_parsed(self, body, args, kwargs):
        assert parse_request(body) == (args, kwargs)

    @pytest.mark.parametrize("body", [{}, {"args": []}, {"kwargs": {}}, {"ARGS": [], "kwargs": {}}])
    def test_without_both_keys_are_malformed(self, body):
        with pytest.raises(MalformedRequest, match=r"^Message missing `args` or `kwargs`$"):
            parse_request(body)

    # The texts are those Python 3.11 gives for ``inspect.getcallargs(method, None, *args, **kwargs)``.
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"args": 5, "kwargs": {}}, "Value after * must be an iterable, not int"),
            ({"args": None, "kwargs": {}}, "Value after * must be an iterable, not NoneType"),
            ({"args": [], "kwargs": [1]}, "inspect.getcallargs() argument after ** must be a mapping, not list"),
            ({"args": [], "kwargs": None}, "inspect.getcallargs() argument after ** must be a mapping, not NoneType"),
            ({"args": [], "kwargs": "ab"}, "inspect.getcallargs() argument after ** must be a mapping, not str"),
        ],
    )
    def test_that_no_call_can_take_have_an_incorrect_signature(self, body, text):
        with pytest.raises(IncorrectSignature) as raised:
            parse_request(body)
        assert str(raised.value) == text

    @pytest.mark.parametrize("body", [None, [1], "text", 5, 1.5, True])
    def test_that_are_no_dict_raise_as_python_does(self, body):
        with pytest.raises(TypeError):
            parse_request(body)

    def test_keys_have_their_order(self):
        assert dumps(request_body((1,), {"b": 2})) == b'{"args": [1], "kwargs": {"b": 2}}'


class TestReplies:
    def test_keys_are_always_both_there_in_order(self):
        assert dumps(reply_body(1)) == b'{"result": 1, "error": null}'
        assert dumps(reply_body()) == b'{"result": null, "error": null}'
        assert list(reply_body(error=ValueError("v"))) == ["result", "error"]

    def test_no_result_is_sent_beside_an_error(self):
        assert reply_body("result", ValueError("v")) == {"result": None, "error": error_object(ValueError("v"))}

    @pytest.mark.parametrize(
        ("body", "reply"),
        [
            ({"result": 1, "error": None}, Reply(1, None)),
            ({"result": None}, Reply(None, None)),
            ({"result": 1, "error": {}}, Reply(1, None)),
            ({"error": {"exc_type": "T"}}, Reply(None, ErrorRecord("T", None, (), None))),
            ({"result": 1, "error": {"exc_type": "T"}}, Reply(None, ErrorRecord("T", None, (), None))),
        ],
    )
    def test_are_parsed(self, body, reply):
        assert parse_reply(body) == reply

    @pytest.mark.parametrize(
        ("body", "got"),
        [
            (None, "got a NoneType"),
            ([1], "got a list"),
            ("text", "got a str"),
            ({}, r"got an object with the keys \(none\)"),
            ({"b": 1, "a": 2}, "got an object with the keys a, b"),
            ({"error": "text"}, "error object .* got a str"),
        ],
    )
    def test_that_are_something_else_are_refused(self, body, got):
        with pytest.raises(WireError, match=got):
            parse_reply(body)


class TestProperties:
    def test_an_event_has_exactly_namekos(self):
        assert event_properties({"h": 1}) == Properties(
            content_type="application/json",
            content_encoding="utf-8",
            headers={"h": 1},
            delivery_mode=2,
            priority=0,
        )

    def test_of_another_serializer(self):
        pickled = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
        assert replace(event_properties({}), **pickled) == event_properties({}, **pickled)
        assert replace(reply_properties("c"), **pickled) == reply_properties("c", **pickled)
        addressed = {"correlation_id": "c", "reply_to": "r"}
        assert replace(request_properties({}, **addressed), **pickled) == request_properties({}, **addressed, **pickled)

    def test_a_reply_has_no_context_and_takes_the_missing_correlation_id(self):
        properties = reply_properties(None)
        assert (properties.headers, properties.reply_to, properties.correlation_id) == ({}, None, None)

    def test_context_headers_win_over_a_publishers_own(self):
        properties = publisher_properties({"nameko.k": "context"}, headers={"nameko.k": "own", "h": 1})
        assert properties.headers == {"nameko.k": "context", "h": 1}
        assert list(properties.headers) == ["nameko.k", "h"]

    def test_are_plain_data(self):
        properties = event_properties({"h": [1]}, expiration=5)
        assert pickle.loads(pickle.dumps(properties)) == properties

    def test_do_not_share_their_default_headers(self):
        assert Properties().headers is not Properties().headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (5, "5000"), (0, "0"), (0.5, "500"), (1.0004, "1000"), (True, "1000"), (86400 * 365, "31536000000")],
)
def test_expirations_are_given_in_seconds(seconds, text):
    assert expiration_text(seconds) == text
    assert event_properties({}, expiration=seconds).expiration == text
    assert publisher_properties({}, expiration=seconds).expiration == text


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
def test_expirations_in_the_past_are_refused(seconds):
    with pytest.raises(ValueError, match="expected an expiration of 0 seconds or more, got"):
        expiration_text(seconds)
