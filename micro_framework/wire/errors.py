"""Error objects: how an exception travels in an RPC reply or a WebSocket result, and what it becomes there.

Nothing named on the wire is ever imported: only classes that were registered with `register_exception` come
back as themselves, everything else arrives as `RemoteError`.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from micro_framework.exceptions import (
    BadRequest,
    IncorrectSignature,
    MalformedRequest,
    MethodNotFound,
    RemoteError,
    UnknownService,
    UnserializableValueError,
    WireError,
)

__all__ = [
    "REGISTERED_EXCEPTIONS",
    "ErrorRecord",
    "error_object",
    "exception_path",
    "parse_error",
    "register_exception",
    "safe_for_serialization",
    "to_exception",
]

NO_TEXT = "[__unicode__ failed]"
DEEPEST = 50
LONGEST_UNSIZED = 1000

# What Nameko calls the errors that both sides know; the class names are the same.
NAMEKO_PATHS: Mapping[type[BaseException], str] = {
    known: f"nameko.exceptions.{known.__name__}"
    for known in (
        BadRequest,
        IncorrectSignature,
        MalformedRequest,
        MethodNotFound,
        RemoteError,
        UnknownService,
        UnserializableValueError,
    )
}

REGISTERED_EXCEPTIONS: dict[str, type[Exception]] = {
    NAMEKO_PATHS[known]: known for known in (IncorrectSignature, MalformedRequest, MethodNotFound)
}
"""The classes that come back as themselves, by their path on the wire; at first the three of Nameko."""

ExceptionClass = TypeVar("ExceptionClass", bound=type[Exception])


class ErrorRecord(NamedTuple):
    """An error object as it was received; any of its fields may be missing there.

    ``exc_args`` are texts where they were numbers, None or anything else but text and containers, see
    `safe_for_serialization`. ``value`` is the exception's text.
    """

    exc_type: str | None
    exc_path: str | None
    exc_args: tuple[Any, ...]
    value: Any


def safe_for_serialization(value: Any) -> Any:
    """What is sent for an argument of an exception: text, lists and dicts of text, nothing else.

    Text stays as it is, dicts become dicts with safe keys and values, whatever else can be iterated becomes
    a list of safe values (bytes too: of the decimal digits of each), the rest becomes its ``str()``, or a
    fixed text where that fails.

    Where Nameko would crash or never return, this does not: a container within itself, one nested deeper
    than 50, or one that fails when iterated becomes its ``str()``, a dict's key that is no text becomes its
    ``str()``, and of an iterable without a length only the first 1000 values are sent.

    Source: the observable behaviour of nameko 2.14.1 and 3.0.0rc11 exceptions.py; seen on the wire.
    """
    return safe_within(value, ())


def safe_within(value: Any, outer: tuple[Any, ...]) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, Iterable):
        return text_of(value)
    if len(outer) >= DEEPEST or any(value is container for container in outer):
        return text_of(value)
    inside = (*outer, value)
    try:
        if isinstance(value, dict):
            return {text_of(key): safe_within(each, inside) for key, each in value.items()}
        return [safe_within(each, inside) for each in bounded(value)]
    except Exception:  # noqa: BLE001 - foreign code must not hide the error being reported
        return text_of(value)


def bounded(values: Iterable[Any]) -> Iterable[Any]:
    return values if hasattr(values, "__len__") else islice(values, LONGEST_UNSIZED)


def text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - as in Nameko, a value whose text fails still travels
        return NO_TEXT


def exception_path(kind: type[BaseException]) -> str:
    """The name of an exception class on the wire: its module and name, a nested class without its outer ones.

    The errors that Nameko knows too go by Nameko's names, ``nameko.exceptions.MethodNotFound`` and so on.

    Source: nameko 2.14.1 and 3.0.0rc11 exceptions.py; seen on the wire.
    """
    return NAMEKO_PATHS.get(kind) or f"{kind.__module__}.{kind.__name__}"


def error_object(error: BaseException) -> dict[str, Any]:
    """The error object of an exception, in Nameko's order of keys. No traceback travels.

    Source: nameko 2.14.1 and 3.0.0rc11 exceptions.py; seen on the wire.
    """
    return {
        "exc_type": type(error).__name__,
        "exc_path": exception_path(type(error)),
        "exc_args": [safe_for_serialization(each) for each in error.args],
        "value": safe_for_serialization(error),
    }


def parse_error(found: Any) -> ErrorRecord:
    """Read a received error object.

    Args:
        found: The decoded object; keys may be missing and others may be there.

    Raises:
        WireError: It is no object at all.

    Source: nameko 2.14.1 and 3.0.0rc11 exceptions.py; seen on the wire.
    """
    if not isinstance(found, Mapping):
        raise WireError(f"expected an error object with exc_type and value, got a {type(found).__name__}")
    args = found.get("exc_args")
    path = found.get("exc_path")
    return ErrorRecord(
        exc_type=found.get("exc_type"),
        exc_path=path if isinstance(path, str) else None,
        exc_args=tuple(args) if isinstance(args, (list, tuple)) else (),
        value=found.get("value"),
    )


def register_exception(kind: ExceptionClass) -> ExceptionClass:
    """Let a received error of this class's path come back as this class, made from the received ``exc_args``.

    A decorator for exception classes that two services share. What were numbers or None in the arguments
    are texts when they come back. Not for use while calls are running.

    Source: nameko's ``deserialize_to_instance``, 2.14.1 and 3.0.0rc11 exceptions.py.
    """
    REGISTERED_EXCEPTIONS[exception_path(kind)] = kind
    return kind


def to_exception(error: ErrorRecord, registered: Mapping[str, type[Exception]] = REGISTERED_EXCEPTIONS) -> Exception:
    """The exception for a received error, to be raised by the caller.

    Args:
        error: What `parse_error` read.
        registered: Classes by their path on the wire.

    Returns:
        The registered class made from ``exc_args``; `RemoteError` with ``exc_type`` and ``value`` where
        there is none, or where the class does not take the arguments (Nameko raises the ``TypeError`` of
        the attempt).

    Source: nameko 2.14.1 and 3.0.0rc11 exceptions.py; seen on the wire.
    """
    kind = registered.get(error.exc_path) if error.exc_path else None
    if kind is not None:
        try:
            return kind(*error.exc_args)
        except Exception:  # noqa: BLE001 - the remote error matters more than this one
            pass
    return RemoteError(error.exc_type, error.value)
