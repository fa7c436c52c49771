import enum
import json
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import kombu.serialization
import pytest

from micro_framework.exceptions import UndecodableMessage
from micro_framework.wire.json_types import FEW_DICTS, LONG_TEXT, dumps, loads
from tests.wire.golden import all_messages, body_of

UTC_PLUS_2 = timezone(timedelta(hours=2))
UTC_MINUS_2_30 = timezone(timedelta(hours=-2, minutes=-30))
NAIVE = datetime(2020, 1, 2)
SOME_UUID = UUID("12345678-1234-5678-1234-567812345678")


class Reducible:
    def __json__(self):
        return {"when": date(2020, 1, 2)}


class ReducibleDatetime(datetime):
    def __json__(self):
        return "reduced"


class OtherDatetime(datetime):
    pass


class OtherBytes(bytes):
    pass


class Color(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


Point = namedtuple("Point", "x y")


def wrapper(name, value):
    return json.dumps({"__type__": name, "__value__": value})


# A value, what kombu 5.7.0 writes for it, and what kombu 5.2.4 writes (each run once over this table).
TYPED = [
    (NAIVE, wrapper("datetime", "2020-01-02T00:00:00"), '"2020-01-02T00:00:00"'),
    (
        NAIVE.replace(hour=3, minute=4, second=5, microsecond=678000),
        wrapper("datetime", "2020-01-02T03:04:05.678000"),
        '"2020-01-02T03:04:05.678000"',
    ),
    (
        datetime(2020, 1, 2, tzinfo=UTC),
        wrapper("datetime", "2020-01-02T00:00:00+00:00"),
        '"2020-01-02T00:00:00Z"',
    ),
    (
        datetime(2020, 1, 2, tzinfo=UTC_PLUS_2),
        wrapper("datetime", "2020-01-02T00:00:00+02:00"),
        '"2020-01-02T00:00:00+02:00"',
    ),
    (
        datetime(2020, 1, 2, tzinfo=UTC_MINUS_2_30),
        wrapper("datetime", "2020-01-02T00:00:00-02:30"),
        '"2020-01-02T00:00:00-02:30"',
    ),
    (OtherDatetime(2020, 1, 2), wrapper("datetime", "2020-01-02T00:00:00"), '"2020-01-02T00:00:00"'),
    (date(2020, 1, 2), wrapper("date", "2020-01-02"), '"2020-01-02T00:00:00"'),
    (date(987, 1, 2), wrapper("date", "0987-01-02"), '"0987-01-02T00:00:00"'),
    (time(1, 2), wrapper("time", "01:02:00"), '"01:02:00"'),
    (time(1, 2, 3, 4), wrapper("time", "01:02:03.000004"), '"01:02:03.000004"'),
    (time(1, 2, tzinfo=UTC), wrapper("time", "01:02:00+00:00"), '"01:02:00+00:00"'),
    (Decimal("1.10"), wrapper("decimal", "1.10"), '"1.10"'),
    (Decimal("1E+2"), wrapper("decimal", "1E+2"), '"1E+2"'),
    (SOME_UUID, wrapper("uuid", {"hex": SOME_UUID.hex}), '"12345678-1234-5678-1234-567812345678"'),
]
BYTES = [
    (b"abc", wrapper("bytes", "abc")),
    (b"", wrapper("bytes", "")),
    ("é".encode(), wrapper("bytes", "é")),
    (b"\x00\xffabc", wrapper("base64", "AP9hYmM=")),
    (OtherBytes(b"x"), wrapper("bytes", "x")),
]
UNTYPED = [
    (None, "null"),
    (True, "true"),
    (1, "1"),
    (10**30, "1" + "0" * 30),
    (1.5, "1.5"),
    (1e100, "1e+100"),
    (float("inf"), "Infinity"),
    ("", '""'),
    ("text", '"text"'),
    ("café", '"caf\\u00e9"'),
    ("\u2028 😀 \ud800", '"\\u2028 \\ud83d\\ude00 \\ud800"'),
    ('quote " backslash \\ line\n', '"quote \\" backslash \\\\ line\\n"'),
    ([], "[]"),
    ((1, 2), "[1, 2]"),
    (Point(1, 2), "[1, 2]"),
    ({"a": 1, "b": [None]}, '{"a": 1, "b": [null]}'),
    (OrderedDict(b=1, a=2), '{"b": 1, "a": 2}'),
    ({1: 1, None: 2, False: 3, 1.5: 4}, '{"1": 1, "null": 2, "false": 3, "1.5": 4}'),
    (Color.RED, '"red"'),
    (Number.ONE, "1"),
    (ReducibleDatetime(2020, 1, 2), '"reduced"'),
]
REFUSED = [
    {1},
    object(),
    1j,
    bytearray(b"x"),
    memoryview(b"x"),
    timedelta(1),
    range(2),
    {b"key": 1},
    {date(2020, 1, 2): 1},
]


@pytest.mark.parametrize(("value", "tagged", "plain"), TYPED)
def test_typed_values_have_two_forms(value, tagged, plain):
    assert dumps(value) == dumps(value, "tagged") == tagged.encode()
    assert dumps(value, "plain") == plain.encode()
    assert loads(tagged.encode()) == value
    assert loads(plain.encode()) == json.loads(plain)


@pytest.mark.parametrize(("value", "tagged"), BYTES)
def test_bytes_have_a_tagged_form_only(value, tagged):
    assert dumps(value) == tagged.encode()
    assert loads(tagged.encode()) == value
    with pytest.raises(TypeError, match=r"JSON_TYPES: plain.*JSON_TYPES: tagged"):
        dumps({"deep": [value]}, "plain")


@pytest.mark.parametrize(("value", "text"), UNTYPED)
@pytest.mark.parametrize("types", ["tagged", "plain"])
def test_everything_else_is_plain_json(types, value, text):
    assert dumps(value, types) == text.encode()


@pytest.mark.parametrize("value", [each[0] for each in (*TYPED, *BYTES, *UNTYPED)] + [Reducible(), [Reducible()]])
def test_kombu_writes_the_same(value):
    content_type, encoding, body = kombu.serialization.dumps(value, "json")
    assert (content_type, encoding) == ("application/json", "utf-8")
    assert dumps(value) == body.encode()


def read_by_kombu(body):
    return kombu.serialization.loads(body, "application/json", "utf-8", accept={"application/json"})


@pytest.mark.parametrize("value", [each[0] for each in (*TYPED, *BYTES)])
def test_kombu_reads_what_we_write_and_we_what_it_writes(value):
    nested = {"key": [value, {"deep": value}], "other": "ü"}
    ours = dumps(nested)
    theirs = kombu.serialization.dumps(nested, "json")[2].encode()
    assert read_by_kombu(ours) == loads(theirs) == nested
    assert type(loads(theirs)["key"][0]) is type(read_by_kombu(ours)["key"][0])


@pytest.mark.parametrize("value", REFUSED)
@pytest.mark.parametrize("types", ["tagged", "plain"])
def test_values_without_a_form_are_refused_as_by_kombu(types, value):
    with pytest.raises(kombu.serialization.EncodeError):
        kombu.serialization.dumps(value, "json")
    with pytest.raises(TypeError):
        dumps(value, types)


def test_the_refusal_names_the_type_and_the_way_out():
    with pytest.raises(TypeError, match=r"cannot encode a datetime\.timedelta as JSON: .*__json__"):
        dumps({"a": timedelta(1)})


def test_containers_within_themselves_are_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match="Circular"):
        dumps(endless)


def test_reduced_objects_may_need_a_form_themselves():
    assert dumps(Reducible()) == b'{"when": {"__type__": "date", "__value__": "2020-01-02"}}'
    assert dumps(Reducible(), "plain") == b'{"when": "2020-01-02T00:00:00"}'


@pytest.mark.parametrize("types", ["tagged", "plain"])
def test_lazy_strings_of_django_are_text(types):
    # Django's promises are known by where their base class is defined, so a class of that name stands for them.
    promise = type("Promise", (), {"__module__": "django.utils.functional"})
    lazy = type("__proxy__", (promise,), {"__str__": lambda self: "übersetzt"})
    assert dumps([lazy()], types) == b'["\\u00fcbersetzt"]'


@pytest.mark.parametrize(
    "text",
    [
        '{"__type__": "nope", "__value__": 1}',
        '{"__type__": null, "__value__": 1}',
        '{"__type__": ["bytes"], "__value__": "a"}',
        '{"__type__": "bytes"}',
        '{"__value__": "bytes"}',
        '{"__type__": "bytes", "__value__": "a", "more": 1}',
        '{"__type__": "bytes", "value": "a"}',
        "{}",
    ],
)
def test_what_is_no_known_wrapper_stays_a_dict(text):
    assert loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"__type__": "datetime", "__value__": "2020-01-02T03:04:05Z"}', datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ('{"__type__": "date", "__value__": "2020-01-02T00:00:00"}', date(2020, 1, 2)),
        ('{"__type__": "decimal", "__value__": 1.5}', Decimal("1.5")),
        (r'{"\u005f_type__": "bytes", "__value__": "a"}', b"a"),
        (r'{"__t\u0079pe__": "bytes", "\u005F\u005Fvalue__": "a"}', b"a"),
    ],
)
def test_wrappers_are_read_in_the_spellings_that_kombu_reads(text, value):
    assert loads(text.encode()) == read_by_kombu(text.encode()) == value


@pytest.mark.parametrize("dicts", [FEW_DICTS - 2, FEW_DICTS - 1, FEW_DICTS, 10 * FEW_DICTS])
@pytest.mark.parametrize("key", ["__type__", r"__t\u0079pe__", r"\\u0079"])
def test_wrappers_are_found_in_long_texts_however_many_dicts_are_in_them(dicts, key):
    wrapper = f'{{"{key}": "decimal", "__value__": "1.5"}}'
    text = f'["{LONG_TEXT * "x"}", {"{}, " * dicts}{wrapper}]'
    assert loads(text.encode()) == read_by_kombu(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"__type__": "datetime", "__value__": "nope"}',
        '{"__type__": "datetime", "__value__": 5}',
        '{"__type__": "decimal", "__value__": "x"}',
        '{"__type__": "decimal", "__value__": {}}',
        '{"__type__": "uuid", "__value__": {}}',
        '{"__type__": "uuid", "__value__": {"hex": 5}}',
        '{"__type__": "uuid", "__value__": "12345678123456781234567812345678"}',
        '{"__type__": "bytes", "__value__": 5}',
        '{"__type__": "base64", "__value__": "a"}',
        '{"__type__": "bytes", "__value__": {"__type__": "bytes", "__value__": "a"}}',
    ],
)
def test_a_wrapper_that_holds_something_else_cannot_be_decoded(text):
    with pytest.raises(kombu.serialization.DecodeError):
        read_by_kombu(text.encode())
    with pytest.raises(UndecodableMessage, match="holds what does not belong there"):
        loads(text.encode())


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{nope", b'{"a": 1} more', b"\xff", b'"\xe9"', b"\xef\xbb\xbf1", b"[" * 100_000, b"1" * 5000],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_cannot_be_decoded(body):
    with pytest.raises(UndecodableMessage, match=r"expected a JSON body, got one that cannot be decoded: ."):
        loads(body)


@pytest.mark.parametrize("text", [' {"a": 1}', '{"a": 1}\r\n', '\t{ "a" : 1 }\n'])
def test_blanks_around_a_body_are_none_of_it(text):
    assert loads(text.encode()) == {"a": 1}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bodies_may_be_any_kind_of_buffer(kind):
    assert loads(kind('{"ü": "é"}'.encode())) == {"ü": "é"}


def test_utf_8_is_read_though_only_ascii_is_written():
    assert loads('"café 😀"'.encode()) == "café 😀"


NO_JSON = ["Publisher serializer=raw compression", "Publisher content_type text/plain serializer raw"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        each
        for each in all_messages("nameko")
        if not (each[1]["exchange"] == "raw.exchange" and each[0].endswith(tuple(NO_JSON)))
    ],
)
def test_every_body_nameko_sent_is_written_the_same(name, message):
    body = body_of(message)
    assert dumps(loads(body)) == body
