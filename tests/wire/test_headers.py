import json

import pytest

from micro_framework.wire.headers import (
    DEADLINE,
    deadline_from,
    decode_context,
    encode_context,
    grow_stack,
    immediate_parent_call_id,
    new_call_id,
    origin_call_id,
    own_headers,
)
from tests.wire.golden import RAW_CLIENT, VERSIONS, all_messages, body_of, is_reply, is_request, scenarios

# Headers that no context data makes: given by the publishing code, or by the compression of the body.
PUBLISHER_HEADERS = {
    "Publisher expiration=5 priority=3": {"h": "v"},
    "Publisher serializer=raw compression": {"compression": "application/x-gzip"},
}
# 3.x keeps the stack among the context data; data added after it comes after it in the table, which has no order.
STACK_IN_THE_MIDDLE = ["3.0.0rc11: caller mutate ctx data"]


def scenario_of(name):
    return name.partition(": ")[2]


def sent_with_context():
    return [
        (name, each["headers"])
        for name, each in all_messages("nameko")
        if not is_reply(each) and scenario_of(name) not in PUBLISHER_HEADERS
    ]


@pytest.mark.parametrize(("name", "headers"), sent_with_context())
def test_what_nameko_sent_is_parsed_and_built_again(name, headers):
    context, stack = decode_context(headers)
    built = encode_context(context, stack or None)
    assert built == headers
    assert (list(built) != list(headers)) == (name in STACK_IN_THE_MIDDLE)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scenario", PUBLISHER_HEADERS)
def test_headers_of_a_publisher_become_context_data_at_the_receiver(version, scenario):
    message = next(
        message
        for each in scenarios(version)
        if each["scenario"] == scenario
        for message in each["messages"]
        if message["sender"] == "nameko" and not is_reply(message)
    )
    context, stack = decode_context(message["headers"])
    assert context == PUBLISHER_HEADERS[scenario]
    assert encode_context({}, stack) | context == message["headers"]


def received_and_sent_on():
    """A request from the raw client, and what the called service sent on while serving it."""
    return [
        (f"{version}: {scenario['scenario']}", received, sent)
        for version in VERSIONS
        for scenario in VERSIONS[version]["scenarios"]
        for received in scenario["messages"]
        if received["sender"] == RAW_CLIENT and is_request(received)
        for sent in scenario["messages"]
        if sent["sender"] == "nameko" and not is_reply(sent)
    ]


@pytest.mark.parametrize(("name", "received", "sent"), received_and_sent_on())
def test_context_and_stack_travel_on_as_through_nameko(name, received, sent):
    service, method = received["routing_key"].split(".")
    context, incoming = decode_context(received["headers"])
    identifier = sent["headers"]["nameko.call_id_stack"][-1].rpartition(".")[2]
    if method == "mutate":
        context |= {"added": "later", "nothing": None}
    stack = grow_stack(incoming, new_call_id(service, method, identifier))
    added = PUBLISHER_HEADERS.get(scenario_of(name), {})
    assert encode_context(context, stack) | added == sent["headers"]


def contexts_seen_by_a_service():
    """Requests for the method that returns what its worker context holds, with that."""
    found = []
    for version in VERSIONS:
        for scenario in VERSIONS[version]["scenarios"]:
            by_reply = {
                (each["routing_key"], each["properties"].get("correlation_id")): json.loads(body_of(each))["result"]
                for each in scenario["messages"]
                if is_reply(each)
            }
            for each in scenario["messages"]:
                if each["routing_key"] == "target.context":
                    properties = each["properties"]
                    seen = by_reply[properties["reply_to"], properties["correlation_id"]]
                    found.append((f"{version}: {scenario['scenario']}", each["headers"], seen))
    return found


@pytest.mark.parametrize(("name", "headers", "seen"), contexts_seen_by_a_service())
def test_a_service_sees_the_context_it_sees_in_nameko(name, headers, seen):
    context, incoming = decode_context(headers)
    data = {key: value for key, value in seen["data"].items() if key != "call_id_stack"}  # only 3.x keeps it there
    assert context == data
    assert list(grow_stack(incoming, seen["call_id"])) == seen["stack"]
    assert origin_call_id(incoming) == seen["origin"]
    assert immediate_parent_call_id(incoming) == seen["parent"]


def test_the_golden_contexts_include_a_stack_that_is_trimmed():
    lengths = {
        (len(decode_context(headers)[1]), len(seen["stack"])) for _, headers, seen in contexts_seen_by_a_service()
    }
    assert (15, 11) in lengths


class TestStandaloneClients:
    def test_call_ids_of_2_14_1(self):
        assert self.stacks("2.14.1") == [[new_call_id("standalone_rpc_proxy", "call", "<uuid-3>")]]

    def test_call_ids_of_3_0_0rc11(self):
        assert self.stacks("3.0.0rc11") == [[new_call_id("standalone_rpc_client", "<uuid-1>", "<uuid-3>")]]

    def stacks(self, version):
        scenario = next(each for each in scenarios(version) if each["scenario"].startswith("standalone: cluster"))
        return [each["headers"]["nameko.call_id_stack"] for each in scenario["messages"] if is_request(each)]


@pytest.mark.parametrize(
    ("context", "headers"),
    [
        ({}, {}),
        ({"user_id": 7}, {"nameko.user_id": 7}),
        ({"user_id": None, "language": "en"}, {"nameko.language": "en"}),
        (
            {"zero": 0, "empty": "", "no": False, "none": []},
            {"nameko.zero": 0, "nameko.empty": "", "nameko.no": False, "nameko.none": []},
        ),
        ({"nested": {"a": [1, None]}}, {"nameko.nested": {"a": [1, None]}}),
        (
            {"a.b": 1, "nameko.x": 2, "größe": "ü", "": 3},
            {"nameko.a.b": 1, "nameko.nameko.x": 2, "nameko.größe": "ü", "nameko.": 3},
        ),
    ],
)
def test_context_is_encoded(context, headers):
    assert encode_context(context) == headers
    decoded = {key: value for key, value in context.items() if value is not None}
    assert decode_context(headers) == (decoded, ())


@pytest.mark.parametrize(
    ("headers", "context"),
    [
        (None, {}),
        ({}, {}),
        ({"x-foreign": 1}, {"x-foreign": 1}),
        ({"Nameko.caps": 1, "namekoXlang": 2, "nameko": 3}, {"Nameko.caps": 1, "namekoXlang": 2, "nameko": 3}),
        ({"nameko.nameko.x": 1}, {"nameko.x": 1}),
        ({"nameko.void": None}, {"void": None}),
        ({"x": 1, "nameko.x": 2}, {"x": 2}),
        ({"nameko.x": 2, "x": 1}, {"x": 1}),
        (
            {"x-death": [{"count": 1}], "x-first-death-queue": "q"},
            {"x-death": [{"count": 1}], "x-first-death-queue": "q"},
        ),
    ],
)
def test_headers_are_decoded(headers, context):
    assert decode_context(headers) == (context, ())


@pytest.mark.parametrize(
    ("header", "stack"),
    [
        (["a.b.1", "c.d.2"], ("a.b.1", "c.d.2")),
        (("a.b.1",), ("a.b.1",)),
        ([], ()),
        ("abc", ("a", "b", "c")),
        ("", ()),
        (None, ()),
        (5, ()),
        ({"a": 1}, ()),
        (b"ab", ()),
        (True, ()),
    ],
)
@pytest.mark.parametrize("name", ["nameko.call_id_stack", "call_id_stack"])
def test_the_stack_is_read_whatever_it_is(name, header, stack):
    assert decode_context({name: header, "nameko.k": 1}) == ({"k": 1}, stack)


@pytest.mark.parametrize("headers", [{}, {"nameko.call_id_stack": None}, {"nameko.call_id_stack": []}])
def test_a_call_without_parents_has_a_stack_of_one(headers):
    _, incoming = decode_context(headers)
    assert grow_stack(incoming, "s.m.1") == ("s.m.1",)
    assert origin_call_id(incoming) is None
    assert immediate_parent_call_id(incoming) is None


# As nameko 2.14.1 and 3.0.0rc11 answer for parent_calls_tracked 0, 1, 3 and the default.
@pytest.mark.parametrize(
    ("incoming", "tracked", "stack"),
    [
        ("abcde", 0, "!"),
        ("abcde", 1, "e!"),
        ("abcde", 3, "cde!"),
        ("abc", 3, "abc!"),
        ("ab", 3, "ab!"),
        ("", 3, "!"),
        ("abcde", 10, "abcde!"),
        ("abcdefghijklmno", 10, "fghijklmno!"),
    ],
)
def test_the_stack_keeps_the_last_parents(incoming, tracked, stack):
    assert grow_stack(tuple(incoming), "!", tracked) == tuple(stack)
    assert grow_stack(list(incoming), "!", tracked) == tuple(stack)


def test_ten_parents_are_tracked_by_default():
    assert grow_stack([str(n) for n in range(15)], "own") == (*(str(n) for n in range(5, 15)), "own")


def test_the_stack_sent_is_a_list_and_comes_last():
    headers = encode_context({"call_id_stack": ["from the context"], "k": 1}, ("a", "b"))
    assert headers == {"nameko.call_id_stack": ["a", "b"], "nameko.k": 1}
    assert list(encode_context({"k": 1}, ("a",))) == ["nameko.k", "nameko.call_id_stack"]


def test_no_stack_is_sent_where_there_is_none():
    assert encode_context({"k": 1}) == {"nameko.k": 1}


class TestOwnHeaders:
    RECEIVED = {"mf-attempt": 2, "nameko.mf-attempt": 1, "x-mf-y": 3, "MF-z": 4, "mf": 5, "nameko.k": 6, "mf-": 7}

    def test_are_read_under_their_exact_name_only(self):
        assert own_headers(self.RECEIVED) == {"mf-attempt": 2, "mf-": 7}
        assert own_headers({"nameko.mf-attempt": 1}) == {}
        assert own_headers({}) == {}
        assert own_headers(None) == {}

    def test_never_become_context_data(self):
        context, _ = decode_context(self.RECEIVED)
        assert context == {"x-mf-y": 3, "MF-z": 4, "mf": 5, "k": 6}

    def test_never_travel_on(self):
        context, _ = decode_context(self.RECEIVED)
        assert not any("mf-attempt" in name for name in encode_context(context))
        assert encode_context({"mf-attempt": 1, "k": 2}) == {"nameko.k": 2}

    def test_end_at_us_when_nameko_sent_them_on(self):
        """Nameko takes a foreign header as context data, and sends it on with its prefix, again and again."""
        sent_on_by_nameko = {"nameko.mf-attempt": 1, "nameko.call_id_stack": ["s.m.1"]}
        assert decode_context(sent_on_by_nameko) == ({}, ("s.m.1",))


def test_decoding_leaves_the_headers_as_they_are():
    headers = {"nameko.call_id_stack": ["a"], "mf-x": 1, "nameko.k": 2}
    decode_context(headers)
    assert headers == {"nameko.call_id_stack": ["a"], "mf-x": 1, "nameko.k": 2}


@pytest.mark.parametrize(
    ("headers", "deadline"),
    [
        ({"mf-deadline": 1_700_000_000_123}, 1_700_000_000.123),
        ({"mf-deadline": 0}, 0.0),
        ({"mf-deadline": -1}, -0.001),
        ({}, None),
        ({"nameko.mf-deadline": 1_700_000_000_123}, None),
        ({"mf-deadline": None}, None),
        ({"mf-deadline": True}, None),
        ({"mf-deadline": "1700000000123"}, None),
        ({"mf-deadline": 1.5}, None),
        ({"mf-deadline": [1]}, None),
    ],
)
def test_the_deadline_is_whole_milliseconds_or_not_there(headers, deadline):
    assert deadline_from(headers) == deadline


def test_a_deadline_is_ours_alone_and_never_travels_on():
    context, _ = decode_context({DEADLINE: 1, f"nameko.{DEADLINE}": 1, "k": 2})
    assert context == {"k": 2}
