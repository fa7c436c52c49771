"""Checks of what declarations are given, for code that nobody may have type checked."""

from collections.abc import Sequence
from typing import Any

from micro_framework.calls import Call
from micro_framework.entrypoints import RouteHandle
from micro_framework.redaction import shown_arguments

__all__ = ["called_with", "kind_problems", "listed"]


def kind_problems(declaration: object, expected: str, kinds: Any, **values: object) -> list[str]:
    """A problem for each value of another kind than expected.

    Args:
        declaration: What it was given to, for the text.
        expected: What it should be, in words.
        kinds: The types it may have, as ``isinstance`` takes them.
        values: The values by the names of their arguments.
    """
    wrong = {name: value for name, value in values.items() if not isinstance(value, kinds)}
    return [f"{declaration}: {name} must be {expected}, not {value!r}" for name, value in wrong.items()]


def called_with(call: Call, route: RouteHandle, sensitive: Sequence[str]) -> str:
    """What the log says of a failed call beside its id: its arguments, shortened and without the sensitive ones."""
    parameters = route.describe()["parameters"]
    return f", called with {shown_arguments(call.args, call.kwargs, parameters=parameters, sensitive=sensitive)}"


def listed(given: Any) -> tuple[Any, ...]:
    """What one argument gives, alone or in a list; nothing is refused here."""
    return tuple(given) if isinstance(given, list | tuple | set | frozenset) else (given,)
