"""JSON as Nameko's peers write and read it.

What becomes of dates, decimals, UUIDs and bytes is decided by the kombu of the sender, not by Nameko. kombu
>= 5.3 wraps them, ``{"__type__": "decimal", "__value__": "1.10"}``, and unwraps them on arrival: mode
``tagged``. kombu < 5.3 writes bare strings, has no form for bytes, and takes a wrapper for an ordinary
dict: mode ``plain`` is for clusters that still have one. `loads` reads both.

Everything else is JSON as Python's `json` writes it by default: ASCII only, separators ``", "`` and ``": "``.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from json import JSONDecoder, JSONEncoder
from typing import Any, Literal, TypeAlias
from uuid import UUID

from micro_framework.exceptions import UndecodableMessage

__all__ = ["JSONTypes", "dumps", "loads"]

JSONTypes: TypeAlias = Literal["tagged", "plain"]
"""The values of the config key ``JSON_TYPES``."""

Forms: TypeAlias = Mapping[type, Callable[[Any], Any]]

TYPE = "__type__"
VALUE = "__value__"

LONG_TEXT, FEW_DICTS = 10_000, 16
"""Characters, and dicts that are looked at in less time than it takes to search that many characters."""


def dumps(value: Any, types: JSONTypes = "tagged") -> bytes:
    """Encode a value as a peer with the given kind of kombu would.

    Besides what JSON knows it takes `datetime`, `date`, `time`, `Decimal`, `UUID`, bytes (``tagged`` only),
    Django's lazy strings, and objects with a ``__json__`` method, which returns what to encode instead.

    Args:
        value: What to encode.
        types: ``tagged`` for kombu >= 5.3, ``plain`` for older ones.

    Raises:
        TypeError: A value or a key of a type that has no form.
        ValueError: A container that contains itself.
        RecursionError: Containers nested too deep.

    Source: the observable output of kombu 5.7.0 (``tagged``) and 5.2.4 (``plain``); kombu 5.7.0 seen on the
    wire.
    """
    return ENCODERS[types](value).encode()


def loads(body: bytes | bytearray | memoryview) -> Any:
    """Decode a JSON body; wrapped values of known types are unwrapped, bare strings stay strings.

    A wrapper of an unknown type stays a dict, where kombu refuses the message.

    Args:
        body: UTF-8 text.

    Raises:
        UndecodableMessage: The body is not JSON, or a wrapper holds what does not belong there.

    Source: the observable behaviour of kombu 5.7.0; seen on the wire.
    """
    try:
        text = str(body, "utf-8")
        scan, decode = WITH_WRAPPERS if may_hold_wrappers(text) else WITHOUT_WRAPPERS
        try:
            value, end = scan(text, 0)  # what `decode` calls at last: C, and enough for nearly all bodies
        except StopIteration:
            end = -1
        # Blanks around the value, or that there is none or more than one, are for `decode` to see.
        return value if end == len(text) else decode(text)
    except (ValueError, RecursionError) as error:
        raise UndecodableMessage(f"expected a JSON body, got one that cannot be decoded: {error}") from error


def may_hold_wrappers(text: str) -> bool:
    """Whether every dict has to be looked at, which takes longer than to decode a body that has no wrappers.

    A wrapper's key shows in the text unless the sender escaped its letters, which are all below \u0080. Where a long
    text has few dicts, to search it would take longer than to look at them.
    """
    if len(text) > LONG_TEXT and has_few_dicts(text):
        return True
    return TYPE in text or ("\\" in text and "\\u00" in text)


def has_few_dicts(text: str) -> bool:
    at = -1
    for _ in range(FEW_DICTS + 1):
        at = text.find("{", at + 1)  # of a single character: at the speed of memory
        if at < 0:
            return True
    return False


def wrapped(name: str, value: Any) -> dict[str, Any]:
    return {TYPE: name, VALUE: value}


def wrapped_bytes(value: bytes) -> dict[str, Any]:
    try:
        return wrapped("bytes", value.decode("utf-8"))
    except UnicodeDecodeError:
        return wrapped("base64", b64encode(value).decode("ascii"))


def plain_datetime(value: datetime) -> str:
    text = value.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def plain_date(value: date) -> str:
    return f"{value.year:04d}-{value.month:02d}-{value.day:02d}T00:00:00"


def refuse_bytes(value: bytes) -> Any:
    raise TypeError(
        "bytes cannot be sent with JSON_TYPES: plain, because kombu before 5.3 has no form for them: "
        "send text (base64, for instance), or use JSON_TYPES: tagged"
    )


# A datetime is a date as well, so it comes first.
TAGGED_FORMS: Forms = {
    datetime: lambda value: wrapped("datetime", datetime.isoformat(value)),
    date: lambda value: wrapped("date", value.isoformat()),
    time: lambda value: wrapped("time", value.isoformat()),
    Decimal: lambda value: wrapped("decimal", str(value)),
    UUID: lambda value: wrapped("uuid", {"hex": value.hex}),
    bytes: wrapped_bytes,
}
PLAIN_FORMS: Forms = {
    datetime: plain_datetime,
    date: plain_date,
    time: lambda value: value.isoformat(),
    Decimal: str,
    UUID: str,
    bytes: refuse_bytes,
}


def encodable(forms: Forms, value: Any) -> Any:
    """What to encode instead of a value that JSON does not know."""
    form = forms.get(type(value))
    if form is not None:
        return form(value)
    reduce = getattr(value, "__json__", None)
    if reduce is not None:
        return reduce()
    if is_lazy_string(value):
        return str(value)
    for known, form in forms.items():
        if isinstance(value, known):
            return form(value)
    raise TypeError(
        f"cannot encode a {type(value).__module__}.{type(value).__qualname__} as JSON: "
        "convert it first, or give its class a __json__ method"
    )


def is_lazy_string(value: Any) -> bool:
    # By name: nothing here should import Django, and where Django is not imported there are no such objects.
    return any(
        base.__name__ == "Promise" and base.__module__ == "django.utils.functional" for base in type(value).__mro__
    )


UNWRAPPERS: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda value: datetime.fromisoformat(value).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda value: UUID(hex=value["hex"]),
    "bytes": str.encode,
    "base64": b64decode,
}


def unwrapped(found: dict[str, Any]) -> Any:
    if len(found) != 2 or TYPE not in found or VALUE not in found:
        return found
    name = found[TYPE]
    unwrap = UNWRAPPERS.get(name) if isinstance(name, str) else None
    if unwrap is None:
        return found
    try:
        return unwrap(found[VALUE])
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"a value of type {name!r} holds what does not belong there: {error}") from error


ENCODERS: Mapping[JSONTypes, Callable[[Any], str]] = {
    "tagged": JSONEncoder(default=partial(encodable, TAGGED_FORMS)).encode,
    "plain": JSONEncoder(default=partial(encodable, PLAIN_FORMS)).encode,
}
WITH_WRAPPERS, WITHOUT_WRAPPERS = (
    (decoder.scan_once, decoder.decode)  # type: ignore[attr-defined]  # the former is not in the stubs
    for decoder in (JSONDecoder(object_hook=unwrapped), JSONDecoder())
)
