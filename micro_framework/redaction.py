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


def shown_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], *, names: Sequence[str] = (), sensitive: Sequence[str] = ()
) -> str:
    """The arguments of a call as text: ``(7, items=[1, 2])``, at most some 400 characters.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        names: The names of the positional parameters, in order.
        sensitive: What is not shown: names of arguments, or paths into them: ``card.number``, ``items[0].secret``
            (Nameko's ``sensitive_arguments``).
    """
    paths = [steps for steps in map(steps_of, sensitive) if steps]
    positional = [shown(value, paths_below(paths, name)) for name, value in zip_names(args, names)]
    keywords = [f"{name}={shown(value, paths_below(paths, name))}" for name, value in kwargs.items()]
    text = ", ".join([*positional, *keywords])
    return f"({text if len(text) <= LONGEST else text[: LONGEST - 1] + '…'})"


Step = str | int
Path = tuple[Step, ...]


def steps_of(path: str) -> Path:
    """A path's steps: names and indexes."""
    return tuple(int(index) if index else name for index, name in STEPS.findall(path))


def paths_below(paths: Sequence[Path], step: Step | None) -> list[Path]:
    """What is left of the paths that begin with a step."""
    return [path[1:] for path in paths if path[0] == step]


def zip_names(args: Sequence[Any], names: Sequence[str]) -> list[tuple[str | None, Any]]:
    """Each positional argument with its parameter's name, None for those of ``*args``."""
    return [(names[at] if at < len(names) else None, value) for at, value in enumerate(args)]


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
        return [
            redacted(each, [*paths_below(hidden, at), *paths_below(hidden, at - len(value))])
            for at, each in enumerate(value)
        ]
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
