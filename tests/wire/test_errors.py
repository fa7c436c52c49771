import itertools
import json
import subprocess
import sys
from collections import OrderedDict, UserDict, deque, namedtuple
from decimal import Decimal

import pytest

from micro_framework.exceptions import (
    IncorrectSignature,
    MalformedRequest,
    MethodNotFound,
    RemoteError,
    UnknownService,
    UnserializableValueError,
    WireError,
)
from micro_framework.wire.errors import (
    REGISTERED_EXCEPTIONS,
    ErrorRecord,
    error_object,
    exception_path,
    parse_error,
    register_exception,
    safe_for_serialization,
    to_exception,
)
from tests.wire.golden import VERSIONS, is_reply, replies


class Boom(Exception):
    __module__ = "nameko_services"


class Known(Exception):
    __module__ = "nameko_services"


class BadStr(Exception):
    __module__ = "nameko_services"

    def __str__(self):
        raise ValueError("no str for you")


class UndeliverableMessage(Exception):
    __module__ = "nameko.amqp.publish"


class Unprintable:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class FailsWhenIterated:
    def __iter__(self):
        raise RuntimeError("no values")

    def __str__(self):
        return "fails when iterated"


class IterableError(Exception):
    def __iter__(self):
        return iter([1, 2])


Point = namedtuple("Point", "x y")


class WithRepr:
    def __repr__(self):
        return "<object object at <addr>>"


def type_error(attempt):
    try:
        return attempt()
    except TypeError as error:
        return error


def argument_of(body):
    return body["args"]


# The exceptions behind the errors that were captured.
RAISED = [
    Boom("a", 1, {"k": [1, Decimal("2.5")]}, None),
    Boom("café"),
    Known("x", 2),
    Known("x", "2"),
    KeyError("missing"),
    ValueError(),
    BadStr("hidden"),
    type_error(lambda: 1 + "a"),
    type_error(lambda: argument_of([1])),
    type_error(lambda: argument_of(None)),
    UnserializableValueError(WithRepr()),
    MethodNotFound("nope"),
    MethodNotFound("on_pool"),
    IncorrectSignature("add() got an unexpected keyword argument 'zz'"),
    IncorrectSignature("add() missing 1 required positional argument: 'a'"),
    MalformedRequest("Message missing `args` or `kwargs`"),
    UnknownService("nosuch"),
    RemoteError("Boom", "('a', 1, {'k': [1, Decimal('2.5')]}, None)"),
    RemoteError("UnserializableValueError", "Unserializable value: `<object object at <addr>>`"),
    UndeliverableMessage(),
    # WebSocket results
    Boom("ws"),
    MethodNotFound(),
    MalformedRequest("Invalid JSON data"),
    IncorrectSignature("subscribe() got an unexpected keyword argument 'zz'"),
    IncorrectSignature("inspect.getcallargs() argument after ** must be a mapping, not list"),
]


def errors_in(found):
    """Every error object in a decoded body, also where a service returned one as a result."""
    if isinstance(found, dict):
        if found.keys() == {"exc_type", "exc_path", "exc_args", "value"}:
            yield found
        for each in found.values():
            yield from errors_in(each)


def captured_errors(version):
    bodies = [body for name, body in replies() if name.startswith(version)]
    frames = [json.loads(text) for way, text in VERSIONS[version]["websocket_frames"] if way == "recv"]
    return [error for body in (*bodies, *frames) for error in errors_in(body)]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_error_nameko_sent_is_built_the_same(version):
    ours = {json.dumps(error_object(each)) for each in RAISED}
    captured = {json.dumps(each) for each in captured_errors(version)}
    assert captured == ours


@pytest.mark.parametrize("version", VERSIONS)
def test_every_error_nameko_sent_is_parsed(version):
    for found in captured_errors(version):
        assert parse_error(found) == (
            found["exc_type"],
            found["exc_path"],
            tuple(found["exc_args"]),
            found["value"],
        )


def relayed_errors():
    """What the service ``target`` answered ``caller``, and what ``caller`` says it caught."""
    found = []
    for version in VERSIONS:
        for scenario in VERSIONS[version]["scenarios"]:
            bodies = [json.loads(each["body"]) for each in scenario["messages"] if is_reply(each)]
            caught = [each["result"] for each in bodies if isinstance(each["result"], dict) and "mro" in each["result"]]
            if caught:
                answers = [each["error"] for each in bodies if each["error"]]
                found.append((f"{version}: {scenario['scenario']}", *answers, *caught))
    return found


@pytest.mark.parametrize(("name", "answer", "caught"), relayed_errors())
def test_a_caller_catches_what_it_catches_in_nameko(name, answer, caught):
    registered = {**REGISTERED_EXCEPTIONS, exception_path(Known): Known}
    error = to_exception(parse_error(answer), registered)
    assert type(error).__name__ == caught["mro"][0].rpartition(".")[2]
    assert str(error) == caught["str"]
    assert {key: repr(value) for key, value in vars(error).items()} == caught["vars"]
    assert error_object(error) == caught["error"]


def test_relayed_errors_were_captured():
    assert len(relayed_errors()) == 10


# As nameko 2.14.1 and 3.0.0rc11 answer, each run once over this table.
@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("text", "text"),
        ("", ""),
        ("\ud800", "\ud800"),
        (1, "1"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        (Decimal("2.5"), "2.5"),
        (int, "<class 'int'>"),
        (ValueError("v", 1), "('v', 1)"),
        (Unprintable(), "[__unicode__ failed]"),
        ([1, "a", None], ["1", "a", "None"]),
        ((1, (2, [3])), ["1", ["2", ["3"]]]),
        ([Unprintable(), 1], ["[__unicode__ failed]", "1"]),
        ({1}, ["1"]),
        (frozenset({1}), ["1"]),
        (deque([1]), ["1"]),
        (range(3), ["0", "1", "2"]),
        (Point(1, 2), ["1", "2"]),
        (b"ab", ["97", "98"]),
        (bytearray(b"ab"), ["97", "98"]),
        (memoryview(b"ab"), ["97", "98"]),
        ({"a": 1, 2: None, None: [3]}, {"a": "1", "2": "None", "None": ["3"]}),
        (OrderedDict(a=1), {"a": "1"}),
        (UserDict(a=1), ["a"]),
        ({}, {}),
        ([], []),
    ],
)
def test_arguments_are_made_safe_leaf_by_leaf(value, safe):
    assert safe_for_serialization(value) == safe


def test_iterators_are_used_up():
    assert safe_for_serialization(iter([1, None])) == ["1", "None"]


def test_an_error_that_can_be_iterated_has_a_list_for_a_value():
    path = f"{IterableError.__module__}.IterableError"
    assert error_object(IterableError(1)) == {
        "exc_type": "IterableError",
        "exc_path": path,
        "exc_args": ["1"],
        "value": ["1", "2"],
    }


def within_itself():
    value = [1]
    value.append(value)
    return value


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def depth_of(value):
    return 1 + depth_of(value[0]) if isinstance(value, list) and value else 0


class TestWhereNamekoWouldCrashOrHang:
    @pytest.mark.parametrize(
        ("value", "safe"),
        [
            ({(1, 2): 3, b"k": 4}, {"(1, 2)": "3", "b'k'": "4"}),
            ({Unprintable(): 1}, {"[__unicode__ failed]": "1"}),
            (within_itself(), ["1", "[1, [...]]"]),
            (FailsWhenIterated(), "fails when iterated"),
            ([FailsWhenIterated()], ["fails when iterated"]),
        ],
    )
    def test_text_stands_in(self, value, safe):
        assert safe_for_serialization(value) == safe

    def test_endless_iterables_are_cut(self):
        assert safe_for_serialization(itertools.count()) == [str(n) for n in range(1000)]

    def test_deep_nesting_is_cut(self):
        assert safe_for_serialization(nested(40)) == nested(40)
        assert depth_of(safe_for_serialization(nested(5000))) == 50

    def test_long_containers_are_not(self):
        assert len(safe_for_serialization(list(range(5000)))) == 5000


class Outer:
    class Inner(Exception):
        pass


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (KeyError, "builtins.KeyError"),
        (SystemExit, "builtins.SystemExit"),
        (Boom, "nameko_services.Boom"),
        (Outer.Inner, f"{Outer.__module__}.Inner"),
        (json.JSONDecodeError, "json.decoder.JSONDecodeError"),
        (MethodNotFound, "nameko.exceptions.MethodNotFound"),
        (IncorrectSignature, "nameko.exceptions.IncorrectSignature"),
        (MalformedRequest, "nameko.exceptions.MalformedRequest"),
        (UnserializableValueError, "nameko.exceptions.UnserializableValueError"),
        (UnknownService, "nameko.exceptions.UnknownService"),
        (RemoteError, "nameko.exceptions.RemoteError"),
        (WireError, "micro_framework.exceptions.WireError"),
        (type("Mine", (MethodNotFound,), {"__module__": "mine"}), "mine.Mine"),
    ],
)
def test_classes_go_by_module_and_name(kind, path):
    assert exception_path(kind) == path


def test_the_keys_of_an_error_object_have_their_order():
    assert list(error_object(ValueError())) == ["exc_type", "exc_path", "exc_args", "value"]


class TestParsing:
    @pytest.mark.parametrize(
        ("found", "record"),
        [
            ({}, ErrorRecord(None, None, (), None)),
            ({"exc_type": "T", "value": "v"}, ErrorRecord("T", None, (), "v")),
            ({"exc_type": "T", "exc_path": ["x"], "exc_args": "ab"}, ErrorRecord("T", None, (), None)),
            ({"exc_path": "a.B", "exc_args": [1], "more": 2}, ErrorRecord(None, "a.B", (1,), None)),
        ],
    )
    def test_missing_and_odd_fields_are_tolerated(self, found, record):
        assert parse_error(found) == record

    @pytest.mark.parametrize("found", [None, "Boom", ["Boom"], 5])
    def test_what_is_no_object_is_refused(self, found):
        with pytest.raises(WireError, match=f"expected an error object .* got a {type(found).__name__}"):
            parse_error(found)


class NeedsTwo(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


class TestMappingBack:
    def test_nameko_registers_three_classes(self) -> None:
        found = {path: known for path, known in REGISTERED_EXCEPTIONS.items() if path.startswith("nameko.")}
        wanted = (IncorrectSignature, MalformedRequest, MethodNotFound)
        assert found.keys() == {f"nameko.exceptions.{known.__name__}" for known in wanted}
        # nameko_compat, if anything has imported it, has subclasses of them there.
        assert all(issubclass(found[f"nameko.exceptions.{known.__name__}"], known) for known in wanted)

    def test_a_registered_class_comes_back_with_texts_for_arguments(self):
        error = to_exception(parse_error(error_object(Known("x", 2))), {"nameko_services.Known": Known})
        assert (type(error), error.args) == (Known, ("x", "2"))

    @pytest.mark.parametrize(
        ("record", "text"),
        [
            (ErrorRecord("Boom", "nameko_services.Boom", ("a",), "a"), "Boom a"),
            (ErrorRecord("KeyError", "builtins.KeyError", ("missing",), "'missing'"), "KeyError 'missing'"),
            (ErrorRecord("UnknownService", "nameko.exceptions.UnknownService", ("s",), "v"), "UnknownService v"),
            (ErrorRecord(None, None, (), None), "None None"),
        ],
    )
    def test_any_other_is_a_remote_error(self, record, text):
        error = to_exception(record)
        assert type(error) is RemoteError
        assert (str(error), error.args, error.exc_type, error.value) == (text, (text,), record.exc_type, record.value)

    def test_a_class_that_does_not_take_the_arguments_is_a_remote_error(self):
        error = to_exception(ErrorRecord("NeedsTwo", "a.NeedsTwo", ("one",), "text"), {"a.NeedsTwo": NeedsTwo})
        assert (type(error), str(error)) == (RemoteError, "NeedsTwo text")

    def test_registering_is_a_decorator(self):
        class Mine(Exception):
            pass

        path = f"{Mine.__module__}.Mine"
        try:
            assert register_exception(Mine) is Mine
            assert REGISTERED_EXCEPTIONS[path] is Mine
            assert isinstance(to_exception(ErrorRecord("Mine", path, (), "")), Mine)
        finally:
            REGISTERED_EXCEPTIONS.pop(path, None)

    def test_nothing_named_on_the_wire_is_imported(self):
        code = (
            "import sys; from micro_framework.wire.errors import parse_error, to_exception;"
            "error = to_exception(parse_error({'exc_type': 'Error', 'exc_path': 'sqlite3.Error', 'exc_args': ['x']}));"
            "sys.exit(f'{type(error).__name__} {\"sqlite3\" in sys.modules}')"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
        assert ended.stderr.strip() == "RemoteError False"
