"""One declaration's arguments: which of Nameko's have a place in the native form, and under which name."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from micro_framework.migration.names import DROPPED, Form

__all__ = ["Given", "Plan", "planned"]


@dataclass(frozen=True)
class Given:
    """An argument as it is written.

    Args:
        keyword: Its name; None for a positional one.
        star: ``*``, ``**`` or empty.
        is_none: Whether it is the literal ``None``.
    """

    keyword: str | None = None
    star: str = ""
    is_none: bool = False


@dataclass
class Plan:
    """What becomes of the arguments.

    Args:
        kept: For each argument that stays its place and its keyword, None for a positional one.
        blocked: Why the declaration has no native form; empty if it has.
        notes: What is lost or differs.
    """

    kept: list[tuple[int, str | None]] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def planned(form: Form, given: Sequence[Given]) -> Plan:
    """What becomes of a declaration's arguments in a native form."""
    plan = Plan(notes=[form.note] if form.note else [])
    positional, taken = list(form.parameters), {**form.parameters, **form.keywords}
    for place, each in enumerate(given):
        if each.star:
            plan.blocked.append(f"its arguments are unpacked ({each.star}), so they cannot be read")
            continue
        if each.keyword is None and place >= len(positional):
            plan.blocked.append(f"{form.name} has no place for positional argument {place + 1}")
            continue
        name = each.keyword or positional[place]
        if name in taken:
            keyword = None if each.keyword is None and place < form.positional else taken[name]
            if not (name == "declare" and each.is_none):
                plan.kept.append((place, keyword))
        elif name in DROPPED:
            plan.notes.append(f"{name} is left out: {DROPPED[name]}")
        else:
            plan.blocked.append(f"{form.name} has nothing like {name}=")
    return plan
