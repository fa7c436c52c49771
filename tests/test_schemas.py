"""Type hints as JSON Schema: checked with values, by a validator."""

import collections.abc
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, TypeVar
from uuid import UUID

import pytest
from jsonschema import Draft7Validator

from micro_framework.schemas import Schema, Schemas, arguments_schema, parameters_of, result_hint
from micro_framework.wire.json_types import JSONTypes, dumps

T = TypeVar("T")
Number = TypeVar("Number", int, float)
Text = TypeVar("Text", bound=str)
CustomerId = NewType("CustomerId", int)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1


class Refund(TypedDict):
    """Money that goes back."""

    order: int
    note: NotRequired[str]


@dataclass
class Line:
    sku: str
    count: int = 1
    parts: "list[Line]" = field(default_factory=list)
    made: datetime | None = None


@dataclass
class Page(Generic[T]):
    items: list[T]


class Point(NamedTuple):
    x: int
    y: float


class Unknown:
    pass


class Words(str):
    pass


def full(schema: Schema, schemas: Schemas) -> Schema:
    return {**schema, "components": {"schemas": schemas.definitions}}


def accepts(hint: Any, value: Any, types: JSONTypes = "tagged") -> bool:
    schemas = Schemas(types)
    schema = full(schemas.of(hint), schemas)
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema).is_valid(value)


NOW = datetime(2026, 3, 1, 12)


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [1, -1], ["1", 1.5, None, True]),
        (bool, [True], [1, "true"]),
        (float, [1.5, 1], ["1"]),
        (str, [""], [1, None]),
        (None, [None], [0, ""]),
        (type(None), [None], [0]),
        (int | None, [1, None], ["x"]),
        (Optional[str], ["x", None], [1]),  # noqa: UP045 - as older code has it
        (list[int], [[], [1]], [["x"], {}, "x"]),
        (list, [[1, "x"]], [{}]),
        (set[str], [["x"]], [[1]]),
        (Sequence[int], [[1]], ["x", ["x"]]),
        (collections.abc.Iterable[int], [[1]], [["x"]]),
        (tuple[int, str], [[1, "x"]], [[1], ["x", 1], [1, "x", 2]]),
        (tuple[int, ...], [[], [1, 2]], [["x"]]),
        (tuple[()], [[]], [[1]]),
        (tuple, [[1]], [{}]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "x"}, []]),
        (Mapping[str, Any], [{"a": "x"}], [[]]),
        (dict, [{}], [[]]),
        (Literal["a", 2], ["a", 2], ["b"]),
        (Literal[Colour.RED], ["red"], ["blue"]),
        (Colour, ["red", "blue"], ["green"]),
        (Size, [1], [2]),
        (Annotated[int, "positive"], [1], ["x"]),
        (CustomerId, [1], ["x"]),
        (Number, [1, 1.5], ["x"]),
        (Text, ["x"], [1]),
        (Words, ["x"], [1]),
        (Refund, [{"order": 1}, {"order": 1, "note": "x"}], [{}, {"order": "x"}, {"order": 1, "note": 1}]),
        (Line, [{"sku": "x"}, {"sku": "x", "parts": [{"sku": "y"}]}], [{}, {"sku": "x", "parts": [{"sku": 1}]}]),
        (list[Line], [[{"sku": "x"}]], [[{}]]),
        (Page[int], [{"items": [1]}], [{}, []]),
        (Point, [[1, 1.5]], [[1], {"x": 1, "y": 1}]),
    ],
)
def test_a_hint_takes_what_is_of_its_type_and_nothing_else(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not accepts(hint, value)] == []
    assert [value for value in bad if accepts(hint, value)] == []


@pytest.mark.parametrize("hint", [Any, object, T, Unknown, Callable[[int], int], int | Unknown, "unresolved", ...])
def test_what_says_nothing_about_json_takes_everything(hint: Any) -> None:
    assert all(accepts(hint, value) for value in (None, 1, "x", [], {}))


@pytest.mark.parametrize("types", ["tagged", "plain"])
@pytest.mark.parametrize(
    "value", [NOW, date(2026, 3, 1), time(12), Decimal("1.10"), UUID(int=7), (1, 2), Point(1, 2.0), Colour.RED.value]
)
def test_what_is_sent_for_a_value_fits_the_schema_of_its_type(value: Any, types: JSONTypes) -> None:
    sent = json.loads(dumps(value, types))
    assert accepts(type(value), sent, types)


@pytest.mark.parametrize("kind", [datetime, date, time, Decimal, UUID])
def test_types_are_tagged_or_not(kind: type) -> None:
    assert not accepts(kind, "x", "tagged")
    assert not accepts(kind, {"__type__": "other", "__value__": "x"}, "tagged")
    assert not accepts(kind, {"__type__": kind.__name__.lower(), "__value__": "x"}, "plain")


@pytest.mark.parametrize("value", [b"abc", b"\x00\xff"])
def test_bytes_are_sent_tagged_or_not_at_all(value: bytes) -> None:
    assert accepts(bytes, json.loads(dumps(value)))
    assert not accepts(bytes, "abc", "plain")


def test_a_class_is_described_once_by_its_docstring() -> None:
    schemas = Schemas()
    assert schemas.of(list[Refund])["items"] == schemas.of(Refund) == {"$ref": "#/components/schemas/Refund"}
    schemas.of(Line)
    schemas.of(Colour)
    assert {name: schema.get("description") for name, schema in schemas.definitions.items()} == {
        "Refund": "Money that goes back.",
        "Line": None,
        "Colour": None,
        "tagged_datetime": None,
    }


def test_two_classes_of_one_name_are_two() -> None:
    other = TypedDict("Refund", {"amount": float})  # noqa: UP013 - a class of that name again
    schemas = Schemas()
    assert schemas.of(Refund) != schemas.of(other)
    assert set(schemas.definitions["Refund_2"]["properties"]) == {"amount"}


# ---- functions


def target(self: Any, a: int, /, b: str, c: float = 1.0, *, d: bool, e: int = 0, given: object = None) -> list[int]:
    return []


def variadic(self: Any, *args: int, **kwargs: str) -> None: ...


def untyped(self, a, b=1): ...  # type: ignore[no-untyped-def]


def with_an_unknown_name(self: Any, a: "Nowhere", b: int) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821


@functools.wraps(target)
def wrapped(*args: Any, **kwargs: Any) -> Any: ...


def fits(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    schemas = Schemas()
    parameters = parameters_of(function, is_method=True, injected=["given"])
    first, second, both = arguments_schema(parameters, schemas)
    schema: Schema = {"type": "object", "properties": {"args": first, "kwargs": second}}
    if both:
        schema["allOf"] = both
    Draft7Validator.check_schema(schema)
    return Draft7Validator(full(schema, schemas)).is_valid({"args": list(args), "kwargs": kwargs})


@pytest.mark.parametrize("function", [target, wrapped])
def test_arguments_are_required_in_their_place_or_by_their_name(function: Callable[..., Any]) -> None:
    assert fits(function, 1, "b", d=True)
    assert fits(function, 1, b="b", d=True, e=2)
    assert fits(function, 1, "b", 2.5, d=True)
    assert not fits(function, "b", d=True)
    assert not fits(function, 1, d=True)
    assert not fits(function, 1, "b")
    assert not fits(function, a=1, b="b", d=True)
    assert not fits(function, 1, "b", 2.5, True)
    assert not fits(function, 1, "b", d=True, other=1)
    assert not fits(function, 1, "b", d=True, given=1)
    assert not fits(function, 1, 2, d=True)


def test_variadic_arguments_have_the_type_of_each() -> None:
    assert fits(variadic)
    assert fits(variadic, 1, 2, x="y")
    assert not fits(variadic, "x")
    assert not fits(variadic, x=1)


def test_without_hints_only_the_number_counts() -> None:
    assert fits(untyped, object.__name__, 1)
    assert fits(untyped, a=None)
    assert not fits(untyped)
    assert not fits(untyped, 1, 2, 3)


def test_a_hint_that_cannot_be_found_out_takes_everything() -> None:
    assert fits(with_an_unknown_name, [], 1)
    assert not fits(with_an_unknown_name, [], "x")
    assert Schemas().of(result_hint(with_an_unknown_name)) == {}


def test_what_is_returned_is_described_too() -> None:
    assert result_hint(target) == list[int]
    assert result_hint(wrapped) == list[int]
    assert result_hint(variadic) is type(None)
    assert result_hint(untyped) is Any


def test_a_function_that_does_not_tell_takes_anything() -> None:
    assert parameters_of(dict.fromkeys.__class__) == []
