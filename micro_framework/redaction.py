"""How the arguments of a call are shown in a log: shortened, and what is sensitive left out."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["REDACTED", "shown_arguments"]

REDACTED = "********"
"""What stands in a sensitive value's place (Nameko's)."""

LONGEST = 400
STEPS = re.compile(r"\[(-?\d+)\]|\.?([^.\[\]]+)")
BY_POSITION = ("positional_only", "positional_or_keyword")
VARIADIC = ("var_positional", "var_keyword")


def shown_arguments(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    parameters: Sequence[Mapping[str, Any]] = (),
    sensitive: Sequence[str] = (),
) -> str:
    """The arguments of a call as text: ``(7, items=[1, 2])``, at most some 400 characters.

    Where anything is sensitive, an argument that belongs to no parameter is not shown either: the caller may have
    meant the sensitive one.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        parameters: The target's parameters (`micro_framework.signatures.described_parameters`): ``name`` and ``kind``.
        sensitive: What is not shown: names of parameters, or paths into them: ``card.number``, ``items[0].secret``,
            ``kwargs.token`` (Nameko's ``sensitive_arguments``).
    """
    hiding = Hiding(parameters, [steps for steps in map(steps_of, sensitive) if steps])
    positional = [shown(value, hiding.at(number, len(args))) for number, value in enumerate(args)]
    keywords = [f"{name}={shown(value, hiding.named(name))}" for name, value in kwargs.items()]
    text = ", ".join([*positional, *keywords])
    return f"({text if len(text) <= LONGEST else text[: LONGEST - 1] + '…'})"


Step = str | int
Path = tuple[Step, ...]
EVERYTHING: list[Path] = [()]
"""The one path to a whole value."""


class Hiding:
    """What of each argument is hidden.

    Args:
        parameters: The target's parameters.
        paths: The sensitive paths, each beginning with a parameter's name.
    """

    def __init__(self, parameters: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> None:
        self.paths = paths
        self.positions = [str(each["name"]) for each in parameters if each["kind"] in BY_POSITION]
        self.names = {str(each["name"]) for each in parameters if each["kind"] not in VARIADIC}
        variadic = {each["kind"]: str(each["name"]) for each in parameters if each["kind"] in VARIADIC}
        self.rest, self.any_keyword = variadic.get("var_positional"), variadic.get("var_keyword")

    def at(self, number: int, count: int) -> list[Path]:
        """The paths into the positional argument of that number, of so many."""
        if number < len(self.positions):
            return paths_below(self.paths, self.positions[number])
        if self.rest is not None:
            first = len(self.positions)
            return paths_within(paths_below(self.paths, self.rest), number - first, number - count)
        return self.belongs_nowhere()

    def named(self, name: str) -> list[Path]:
        """The paths into a keyword argument."""
        if name in self.names:
            return paths_below(self.paths, name)
        if self.any_keyword is not None:
            return paths_below(self.paths, name) + paths_within(paths_below(self.paths, self.any_keyword), name)
        return self.belongs_nowhere()

    def belongs_nowhere(self) -> list[Path]:
        """The paths into an argument that no parameter takes."""
        return EVERYTHING if self.paths else []


def steps_of(path: str) -> Path:
    """A path's steps: names and indexes."""
    return tuple(int(index) if index else name for index, name in STEPS.findall(path))


def paths_below(paths: Sequence[Path], step: Step) -> list[Path]:
    """What is left of the paths that begin with a step."""
    return [path[1:] for path in paths if path[:1] == (step,)]


def paths_within(paths: Sequence[Path], *steps: Step) -> list[Path]:
    """The paths into a part of a value, by any of the names that the part has."""
    return EVERYTHING if () in paths else [path for step in steps for path in paths_below(paths, step)]


def shown(value: Any, hidden: Sequence[Path]) -> str:
    """One argument as text."""
    return shortened.repr(redacted(value, hidden))


def redacted(value: Any, hidden: Sequence[Path]) -> Any:
    """A copy of a value without what is at the end of the paths; a path that leads nowhere hides nothing."""
    if not hidden:
        return value
    if () in hidden:
        return REDACTED
    if isinstance(value, Mapping):
        return {key: redacted(each, paths_below(hidden, key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        # An index may count from the end.
        return [redacted(each, paths_within(hidden, at, at - len(value))) for at, each in enumerate(value)]
    return value


class Shortened(reprlib.Repr):
    """Representations that stay short however large the value is, and never fail."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 8

    def repr1(self, x: Any, level: int) -> str:
        try:
            return super().repr1(x, level)
        except Exception:  # noqa: BLE001 - whatever the __repr__ of a user's class raises
            return f"<{type(x).__name__}>"


shortened = Shortened()
"""Representations for logs. Thread safe."""
