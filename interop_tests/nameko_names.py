"""The public names of both Nameko versions, read in their sources, and which of them ``nameko_compat`` has.

``python -m interop_tests.nameko_names`` writes the table of docs/nameko-compat.md anew.
"""

import ast
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from interop_tests.nameko_process import ROOT, nameko_python
from nameko_compat.absent import ABSENT, absent_module

__all__ = ["PAGE", "VERSIONS", "Names", "is_there", "public_names", "reason", "table", "with_table"]

VERSIONS = ("2.14.1", "3.0.0rc11")
PAGE = ROOT / "docs" / "nameko-compat.md"
BEGIN, END = "<!-- names: begin -->\n", "<!-- names: end -->\n"

Names = dict[str, dict[str, set[str]]]
"""Versions by name, by module below ``nameko``; a name is that of a function, class, method or constant."""


def public_names() -> Names:
    """What the modules of both versions define, without what begins with an underscore or is imported."""
    found: Names = {}
    for version in VERSIONS:
        (package,) = nameko_python(version).parent.parent.glob("lib/python3*/site-packages/nameko")
        for path in sorted(package.rglob("*.py")):
            for name in sorted(set(defined_in(ast.parse(path.read_text()).body))):
                module = module_name(path.relative_to(package))
                found.setdefault(module, {}).setdefault(name, set()).add(version)
    return found


def module_name(path: Path) -> str:
    """``web/__init__.py`` as ``web``."""
    return ".".join(part for part in path.with_suffix("").parts if part != "__init__")


def defined_in(body: list[ast.stmt]) -> Iterator[str]:
    """The public names that statements define; of a class also its methods, as ``Class.method``."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{name}" for name in defined_in(node.body) if "." not in name)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (name for name in names if not name.startswith("_"))
        elif isinstance(node, ast.If | ast.Try):
            yield from defined_in([*node.body, *node.orelse])


def is_there(module: str, name: str) -> bool:
    """Whether ``nameko_compat`` has it."""
    if reason(module, name) is not None:
        return False
    try:
        found: object = importlib.import_module(f"nameko_compat.{module}".rstrip("."))
        for part in name.split("."):
            found = None if is_annotated(found, part) else getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def is_annotated(found: object, name: str) -> bool:
    """Whether a class says that its instances have an attribute."""
    return isinstance(found, type) and any(name in vars(cls).get("__annotations__", {}) for cls in found.__mro__)


def reason(module: str, name: str) -> str | None:
    """Why it is known not to be there; None if it is not known."""
    names: Mapping[str, str] = ABSENT.get(module, {})
    return absent_module(module) or names.get(name) or names.get(name.partition(".")[0])


def table(names: Names) -> str:
    """The table: for each module what is there, and what is not and why."""
    rows = ["| module | there | not there |", "| --- | --- | --- |"]
    for module in sorted(names):
        there = [shown(name, of) for name, of in names[module].items() if is_there(module, name)]
        full = f"nameko.{module}".rstrip(".")
        rows.append(f"| `{full}` | {' '.join(there)} | {missing(module, names)} |")
    return "\n".join(rows) + "\n"


def missing(module: str, names: Names) -> str:
    """What is not there of a module, by the reason; methods of a class that is not there go without saying."""
    by_reason: dict[str, list[str]] = {}
    for name, of in names[module].items():
        if ((why := reason(module, name)) is not None and reason(module, name.partition(".")[0]) != why) or (
            why is not None and "." not in name
        ):
            by_reason.setdefault(why, []).append(shown(name, of))
    return "; ".join(f"{' '.join(found)}: {why}" for why, found in by_reason.items())


def shown(name: str, of: set[str]) -> str:
    """A name; with its version where the other one does not have it."""
    return f"`{name}`" if len(of) == len(VERSIONS) else f"`{name}`({'/'.join(version[0] for version in sorted(of))})"


def with_table(text: str, made: str) -> str:
    """A page with the table in its place."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{made}{END}{rest.split(END)[1]}"


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(with_table(PAGE.read_text(), table(public_names())))


if __name__ == "__main__":
    main()
