"""JSON Schema (draft 7) of type hints: what a value of that type looks like in a body.

Hints describe, they convert nothing: a target whose parameter is hinted with a dataclass gets the dict that came. So
what is said here is what should be sent; a hint that says nothing about JSON is the schema that takes everything.
"""

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from micro_framework.signatures import callers_parameters
from micro_framework.wire.json_types import JSONTypes

__all__ = ["DEFINITIONS", "Parameter", "Schema", "Schemas", "arguments_schema", "parameters_of", "result_hint"]

Schema = dict[str, Any]

DEFINITIONS = "#/components/schemas/"
"""Where references lead; a name of `Schemas.definitions` follows."""

ANYTHING: Schema = {}

PLAIN: Mapping[type, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    types.NoneType: {"type": "null"},
}

AS_TEXT: Mapping[type, Schema] = {
    datetime: {"type": "string", "description": "ISO 8601"},
    date: {"type": "string", "description": "ISO 8601"},
    time: {"type": "string", "description": "ISO 8601"},
    Decimal: {"type": "string", "description": "a decimal number"},
    UUID: {"type": "string", "format": "uuid"},
}
"""What JSON does not know, as text; with ``JSON_TYPES: tagged`` it stands in an object that names the type."""

LISTS = (list, set, frozenset, collections.abc.Set, collections.abc.Sequence, collections.abc.Iterable)
MAPPINGS = (dict, collections.abc.Mapping)


class Parameter(typing.NamedTuple):
    """One parameter of a target, as its caller sees it.

    Args:
        name: Its name.
        kind: One of the kinds of `inspect.Parameter`.
        required: Whether it has no default.
        hint: Its type hint, `Any` where it has none.
    """

    name: str
    kind: Any
    required: bool
    hint: Any


class Schemas:
    """Makes schemas, and keeps those of classes under their names. Not shared between threads.

    Args:
        types: How what JSON does not know is sent (``JSON_TYPES``).
        definitions: Where the schemas of classes go, by name.
        suffix: What their names end with.
    """

    def __init__(
        self, types: JSONTypes = "tagged", definitions: dict[str, Schema] | None = None, suffix: str = ""
    ) -> None:
        self.types = types
        self.suffix = suffix
        self.definitions: dict[str, Schema] = {} if definitions is None else definitions
        self.names: dict[Any, str] = {}

    def of(self, hint: Any) -> Schema:
        """The schema of a type hint; one that nothing is known of takes everything."""
        if hint is None:
            return dict(PLAIN[types.NoneType])
        origin = typing.get_origin(hint)
        if origin is not None:
            return self.of_generic(origin, typing.get_args(hint), hint)
        if isinstance(hint, typing.TypeVar):
            return self.of_variable(hint)
        if isinstance(hint, type):
            return self.of_class(hint)
        if (meant := getattr(hint, "__supertype__", None)) is not None:  # NewType
            return self.of(meant)
        if (meant := getattr(hint, "__value__", None)) is not None:  # type X = ...
            return self.of(meant)
        return dict(ANYTHING)

    def of_generic(self, origin: Any, arguments: tuple[Any, ...], hint: Any) -> Schema:
        """The schema of ``list[int]``, ``int | None`` and their like."""
        if origin in (typing.Union, types.UnionType):
            return self.of_union(arguments)
        if origin is typing.Literal:
            return {"enum": [value.value if isinstance(value, Enum) else value for value in arguments]}
        if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            return self.of(arguments[0])
        if (meant := getattr(origin, "__value__", None)) is not None:
            return self.of(meant)
        if not isinstance(origin, type):
            return dict(ANYTHING)
        if issubclass(origin, tuple):
            return self.of_tuple(arguments, hint)
        if issubclass(origin, MAPPINGS):
            return self.of_mapping(arguments)
        if origin in LISTS or issubclass(origin, collections.abc.Collection):
            return {"type": "array", "items": self.of(arguments[0])} if arguments else {"type": "array"}
        return self.of_class(hint)

    def of_union(self, arguments: tuple[Any, ...]) -> Schema:
        """The schema of what may be of several types."""
        found = [self.of(each) for each in arguments]
        return dict(ANYTHING) if ANYTHING in found else {"anyOf": found}

    def of_tuple(self, arguments: tuple[Any, ...], hint: Any) -> Schema:
        """The schema of a tuple, which goes out as a list."""
        if not arguments:
            return fixed_array([]) if isinstance(hint, types.GenericAlias) else {"type": "array"}
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": self.of(arguments[0])}
        return fixed_array([self.of(each) for each in arguments])

    def of_mapping(self, arguments: tuple[Any, ...]) -> Schema:
        """The schema of a dict, whose keys are texts in JSON."""
        values = self.of(arguments[1]) if len(arguments) == 2 else ANYTHING
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}

    def of_variable(self, variable: Any) -> Schema:
        """The schema of a type variable: what it may stand for."""
        if variable.__constraints__:
            return self.of_union(variable.__constraints__)
        return self.of(variable.__bound__) if variable.__bound__ is not None else dict(ANYTHING)

    def of_class(self, kind: Any) -> Schema:
        """The schema of a class, or of a generic one with its arguments."""
        cls = typing.get_origin(kind) or kind
        if cls in PLAIN:
            return dict(PLAIN[cls])
        if cls in AS_TEXT:
            return self.of_text(cls)
        if issubclass(cls, bytes):
            return self.of_bytes()
        if issubclass(cls, Enum):
            return self.defined(cls, lambda: {"enum": [member.value for member in cls]})
        if typing.is_typeddict(cls):
            return self.defined(cls, lambda: self.of_fields(hints_of(cls), cls.__required_keys__))
        if hasattr(cls, "__dataclass_fields__"):
            return self.defined(cls, lambda: self.of_dataclass(cls))
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self.defined(cls, lambda: self.of_named_tuple(cls))
        return self.of_other_class(cls)

    def of_other_class(self, cls: type) -> Schema:
        """The schema of a class that stands for one of JSON's own types, or for anything."""
        for known, schema in PLAIN.items():
            if issubclass(cls, known):
                return dict(schema)
        if issubclass(cls, MAPPINGS):
            return {"type": "object"}
        if issubclass(cls, (list, tuple, set, frozenset)) or cls in LISTS:
            return {"type": "array"}
        return dict(ANYTHING)

    def of_text(self, kind: type) -> Schema:
        """The schema of what goes out as text, alone or beside the name of its type."""
        if self.types == "plain":
            return dict(AS_TEXT[kind])
        name = kind.__name__.lower()
        hexadecimal = of_object({"hex": {"type": "string", "pattern": "^[0-9a-f]{32}$"}})
        return self.named(f"tagged_{name}", tagged(name, hexadecimal if kind is UUID else AS_TEXT[kind]))

    def of_bytes(self) -> Schema:
        """The schema of bytes, which have no form where types are not tagged."""
        if self.types == "plain":
            return {"not": {}, "description": "bytes cannot be sent with JSON_TYPES: plain"}
        forms = [tagged(name, {"type": "string"}) for name in ("bytes", "base64")]
        return self.named("tagged_bytes", {"anyOf": forms})

    def of_dataclass(self, cls: type) -> Schema:
        """The schema of a dataclass as an object."""
        hints = hints_of(cls)
        fields = [each for each in dataclasses.fields(cls) if each.init]
        nothing = dataclasses.MISSING
        required = {each.name for each in fields if each.default is nothing and each.default_factory is nothing}
        return self.of_fields({each.name: hints.get(each.name, Any) for each in fields}, required)

    def of_named_tuple(self, cls: Any) -> Schema:
        """The schema of a named tuple, which goes out as a list."""
        hints = hints_of(cls)
        return fixed_array([self.of(hints.get(name, Any)) for name in cls._fields])

    def of_fields(self, hints: Mapping[str, Any], required: collections.abc.Collection[str]) -> Schema:
        """The schema of an object with these fields."""
        schema: Schema = {"type": "object", "properties": {name: self.of(hint) for name, hint in hints.items()}}
        wanted = [name for name in hints if name in required]
        return {**schema, "required": wanted} if wanted else schema

    def defined(self, cls: type, make: Callable[[], Schema]) -> Schema:
        """A reference to the schema of a class, made once; a class may hold itself."""
        if cls not in self.names:
            self.names[cls] = name = self.free_name(cls.__name__ + self.suffix)
            self.definitions[name] = {}
            schema = make()
            if doc := own_doc(cls):
                schema["description"] = doc
            self.definitions[name] = schema
        return {"$ref": DEFINITIONS + self.names[cls]}

    def named(self, name: str, schema: Schema) -> Schema:
        """A reference to a schema under a name of our own."""
        self.definitions.setdefault(name, schema)
        return {"$ref": DEFINITIONS + name}

    def free_name(self, wanted: str) -> str:
        """A name that no other class has."""
        name, number = wanted, 1
        while name in self.definitions:
            number += 1
            name = f"{wanted}_{number}"
        return name


def tagged(name: str, value: Schema) -> Schema:
    """The object that a value goes out in, with the name of its type."""
    return of_object({"__type__": {"const": name}, "__value__": value})


def of_object(properties: Mapping[str, Schema]) -> Schema:
    """An object that has these properties and no other."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def fixed_array(items: list[Schema]) -> Schema:
    """A list of so many values."""
    size = {"minItems": len(items), "maxItems": len(items)}
    return {"type": "array", "items": items, **size} if items else {"type": "array", **size}


def own_doc(cls: type) -> str | None:
    """A class's docstring; a dataclass without one has a signature made up for it."""
    doc: str = cls.__dict__.get("__doc__") or ""
    made_up = doc.startswith((f"{cls.__name__}(", "An enumeration."))
    return None if made_up or not doc else inspect.cleandoc(doc)


# Functions


def hints_of(owner: Any) -> dict[str, Any]:
    """The type hints of a function or class; those that cannot be found out are left out."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:  # noqa: BLE001 - a name imported for type checkers alone, or whatever a hint runs
        found = getattr(owner, "__annotations__", {})
        return {name: hint for name, hint in found.items() if not isinstance(hint, str)}


def parameters_of(
    function: Callable[..., Any], *, is_method: bool = False, injected: collections.abc.Collection[str] = ()
) -> list[Parameter]:
    """The parameters that a caller may give.

    Args:
        function: The target's function.
        is_method: Whether it gets an instance first, which is left out.
        injected: Keyword arguments that the worker adds, which are left out too.
    """
    hints = hints_of(inspect.unwrap(function))
    return [
        Parameter(
            each.name,
            each.kind,
            each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD),
            hints.get(each.name, Any),
        )
        for each in callers_parameters(function, is_method=is_method, injected=injected)
    ]


def result_hint(function: Callable[..., Any]) -> Any:
    """The type hint of what a function returns, `Any` where it has none."""
    return hints_of(inspect.unwrap(function)).get("return", Any)


def arguments_schema(parameters: Sequence[Parameter], schemas: Schemas) -> tuple[Schema, Schema, list[Schema]]:
    """The schemas of a call's positional arguments, of its keyword arguments, and of both together.

    Args:
        parameters: Of the target.
        schemas: Makes the schemas of their hints.

    Returns:
        A list's, an object's, and what an object with ``args`` and ``kwargs`` must fulfil besides: what is required may
        be in either.
    """
    kind = inspect.Parameter
    by_place = [each for each in parameters if each.kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD)]
    by_name = [each for each in parameters if each.kind in (kind.KEYWORD_ONLY, kind.POSITIONAL_OR_KEYWORD)]
    more = next((schemas.of(each.hint) for each in parameters if each.kind is kind.VAR_POSITIONAL), None)
    others = next((schemas.of(each.hint) for each in parameters if each.kind is kind.VAR_KEYWORD), None)
    args: Schema = {"type": "array"}
    if by_place:
        args["items"] = [schemas.of(each.hint) for each in by_place]
        args["additionalItems"] = False if more is None else more
    else:
        args |= {"maxItems": 0} if more is None else {"items": more}
    kwargs: Schema = {
        "type": "object",
        "properties": {each.name: schemas.of(each.hint) for each in by_name},
        "additionalProperties": False if others is None else others,
    }
    if wanted := [each.name for each in by_name if each.required and each.kind is kind.KEYWORD_ONLY]:
        kwargs["required"] = wanted
    both = [needed(each, place) for place, each in enumerate(by_place) if each.required]
    return args, kwargs, both


def needed(parameter: Parameter, place: int) -> Schema:
    """That a parameter is given, by its place or by its name."""
    placed: Schema = {"properties": {"args": {"minItems": place + 1}}}
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return placed
    return {"anyOf": [placed, {"properties": {"kwargs": {"required": [parameter.name]}}}]}
