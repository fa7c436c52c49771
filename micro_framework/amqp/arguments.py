"""Checks of what declarations are given, for code that nobody may have type checked."""

from typing import Any

__all__ = ["kind_problems"]


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
