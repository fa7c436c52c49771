"""The floors of docs/architecture.md, held by reading the imports: also those inside functions and under TYPE_CHECKING.

A module imports only from floors below its own, and on its own floor only down the arrows. Change the tables here and
the picture together.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "micro_framework"

# A room is a module or a package right below micro_framework. "" is micro_framework/__init__.py, which imports nothing.
FLOORS = {
    0: ["", "exceptions"],
    1: [
        *["translators", "parking", "backoff", "calls", "config", "redaction", "schedule", "schemas", "signatures"],
        "wire",
    ],
    2: [
        *["clock", "identifiers", "retry", "dependencies", "extensions", "metrics", "targets", "entrypoints", "timers"],
        *["cluster", "channel", "parentage", "logs", "tracing", "migration", "lookout"],
    ],
    3: [
        *["runner", "supervisor", "seats", "copies", "parcels", "signals"],
        *["assembly", "services", "measured", "routes", "workers", "spawners", "observed"],
        *["observe", "amqp", "websocket", "rpc", "brokers"],
    ],
    4: ["standalone", "testing", "cli", "takeover", "__main__"],
}
# On one floor, a room may import from the rooms after it in its chain.
CHAINS = [
    ["parking", "backoff", "calls"],
    ["parking", "wire"],
    ["schemas", "signatures"],
    ["schemas", "wire"],
    ["retry", "dependencies", "extensions", "clock"],
    ["targets", "dependencies"],
    ["dependencies", "logs"],
    ["entrypoints", "extensions"],
    ["entrypoints", "identifiers"],
    ["entrypoints", "lookout"],
    ["entrypoints", "cluster", "timers", "clock"],
    ["cluster", "extensions"],
    ["runner", "assembly", "services", "routes", "spawners", "workers"],
    ["runner", "supervisor", "seats", "copies", "signals"],
    ["runner", "parcels", "assembly"],
    ["assembly", "measured", "routes"],
    ["runner", "observed", "assembly"],
    ["observed", "observe"],
    ["supervisor", "observe"],
    ["extensions", "metrics"],
    ["amqp", "rpc"],
    ["amqp", "brokers"],
    ["websocket", "rpc"],
    ["testing", "standalone"],
    ["cli", "takeover"],
    ["__main__", "cli", "standalone"],
]
# Nothing on floors 0 and 1 waits, asks the clock or talks to anybody.
PURE_FLOORS = (0, 1)
IMPURE = frozenset(
    {
        *["_thread", "amqp", "asyncio", "concurrent", "fcntl", "http", "kombu", "multiprocessing", "queue", "sched"],
        *["select", "selectors", "signal", "socket", "socketserver", "ssl", "subprocess", "threading", "time"],
        *["io", "os", "pathlib", "shutil", "tempfile", "urllib.request"],
    }
)

CONNECTIONS_ARE_MADE_IN = "brokers.rabbitmq"
KOMBU_CONNECTIONS = frozenset(["Connection", "Consumer", "Producer", "BrokerConnection", "pools", "eventloop"])
KOMBU_CONNECTION_MODULES = frozenset(
    f"kombu.{name}" for name in ["asynchronous", "connection", "messaging", "mixins", "pools", "simple", "transport"]
)
FORBIDDEN_NAMES = frozenset({"utils", "helpers", "common", "misc", "util", "helper"})
COMPAT = "nameko_compat"
NAMES_COMPAT = "cli.run"  # the one door to it: what hosts Nameko services is imported when the command line asks for it
WRITES_COMPAT = "migration"
"""The room that writes imports of nameko_compat into other people's files; it may name it, and not import it."""


@dataclass(frozen=True)
class Import:
    """One imported module or name, dotted, and where it stands."""

    target: str
    line: int


@dataclass(frozen=True)
class Module:
    """A module of the package: its dotted name below micro_framework, where it is and its syntax tree."""

    name: str
    path: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


def module_from(name: str, source: str, path: str | None = None) -> Module:
    return Module(name, path or f"{PACKAGE}/{name.replace('.', '/')}.py", ast.parse(source))


def all_modules() -> dict[str, Module]:
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        relative = path.relative_to(ROOT / PACKAGE).with_suffix("")
        parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
        name = ".".join(parts)
        found[name] = module_from(name, path.read_text(), str(path.relative_to(ROOT)))
    return found


MODULES = all_modules()
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=[name or "__init__" for name in MODULES])


def imports_of(module: Module) -> Iterator[Import]:
    """Every import, wherever it stands; `from a import b` counts as ``a.b``."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = origin_of(module, node)
            yield from (Import(f"{origin}.{alias.name}", node.lineno) for alias in node.names)


def origin_of(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    here = [PACKAGE, *module.name.split(".")]
    package = here[: len(here) - node.level + module.is_package]
    return ".".join([*package, node.module] if node.module else package)


def own_imports(module: Module) -> Iterator[Import]:
    """Imports from micro_framework, with its name cut off."""
    for found in imports_of(module):
        head, _, rest = found.target.partition(".")
        if head == PACKAGE:
            yield Import(rest, found.line)


def imported_room(target: str) -> str:
    """The room of an import; a name from micro_framework/__init__.py itself is in the room ""."""
    room = target.partition(".")[0]
    return room if room in FLOOR_OF else ""


def below_in_chains() -> dict[str, set[str]]:
    """For each room, the rooms of its floor that it may import, along every chain and on from there."""
    below: dict[str, set[str]] = {room: set() for rooms in FLOORS.values() for room in rooms}
    for chain in CHAINS:
        for upper, lower in pairwise(chain):
            below[upper].add(lower)
    for _ in below:
        for lower in below.values():
            lower.update(*(below[room] for room in tuple(lower)))
    return below


FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
BELOW = below_in_chains()


def floor_violations(module: Module) -> list[str]:
    found = []
    for each in own_imports(module):
        room = imported_room(each.target)
        floor, own = FLOOR_OF[room], FLOOR_OF[module.room]
        if room != module.room and not (floor < own or room in BELOW[module.room]):
            direction = "up" if floor > own else "sideways"
            found.append(f"{module.path}:{each.line}: {module.room} (floor {own}) imports {direction}: {each.target}")
    return found


def purity_violations(module: Module) -> list[str]:
    if FLOOR_OF[module.room] not in PURE_FLOORS:
        return []
    return [
        f"{module.path}:{each.line}: floor {FLOOR_OF[module.room]} imports {each.target}"
        for each in imports_of(module)
        if any(each.target == name or each.target.startswith(f"{name}.") for name in IMPURE)
    ]


def connection_violations(module: Module) -> list[str]:
    if module.name == CONNECTIONS_ARE_MADE_IN or module.name.startswith(f"{CONNECTIONS_ARE_MADE_IN}."):
        return []
    return [
        f"{module.path}:{each.line}: imports {each.target}; connections are made in {CONNECTIONS_ARE_MADE_IN} only"
        for each in imports_of(module)
        if makes_connections(each.target)
    ]


def makes_connections(target: str) -> bool:
    parts = target.split(".")
    if parts[0] != "kombu":
        return parts[0] == "amqp"
    return parts[-1] in KOMBU_CONNECTIONS or ".".join(parts[:2]) in KOMBU_CONNECTION_MODULES or len(parts) == 1


def compat_violations(module: Module) -> list[str]:
    if module.name == NAMES_COMPAT:
        return []
    docstrings = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
    named = [
        Import(node.value, node.lineno)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return [
        f"{module.path}:{each.line}: the core names {COMPAT}"
        for each in [*imports_of(module), *named]
        if COMPAT in each.target and (module.room != WRITES_COMPAT or each not in named)
    ]


def cycle_in(modules: dict[str, Module]) -> list[str]:
    """Modules that import one another in a circle, in order, or nothing."""
    wanted = {name: sorted(resolved_imports(module, modules)) for name, module in modules.items()}
    finished: set[str] = set()
    for start in wanted:
        if found := walk(start, wanted, finished, []):
            return found
    return []


def walk(name: str, wanted: dict[str, list[str]], finished: set[str], trail: list[str]) -> list[str]:
    if name in trail:
        return [*trail[trail.index(name) :], name]
    if name in finished:
        return []
    for other in wanted[name]:
        if found := walk(other, wanted, finished, [*trail, name]):
            return found
    finished.add(name)
    return []


def resolved_imports(module: Module, modules: dict[str, Module]) -> set[str]:
    """The modules it imports: the longest part of each dotted import that is one."""
    found = set()
    for each in own_imports(module):
        parts = each.target.split(".")
        names = (".".join(parts[:length]) for length in range(len(parts), -1, -1))
        found.add(next(name for name in names if name in modules))
    return found - {module.name}


def only_hands_on(module: Module) -> bool:
    """Whether a module holds nothing but imports, its docstring and `__all__`."""
    return all(isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign) for node in module.tree.body)


def test_every_room_has_a_floor() -> None:
    unknown = sorted({module.room for module in MODULES.values()} - FLOOR_OF.keys())
    assert unknown == [], f"give these rooms a floor in FLOORS and in the picture: {unknown}"


@every_module
def test_imports_go_down(module: Module) -> None:
    assert floor_violations(module) == []


@every_module
def test_the_lower_floors_are_pure(module: Module) -> None:
    assert purity_violations(module) == []


@every_module
def test_connections_are_made_in_one_place(module: Module) -> None:
    assert connection_violations(module) == []


@every_module
def test_the_core_never_names_compat(module: Module) -> None:
    assert compat_violations(module) == []


def test_no_module_imports_in_a_circle() -> None:
    assert cycle_in(MODULES) == []


@every_module
def test_each_module_has_its_mirrored_test_module(module: Module) -> None:
    if module.is_package or only_hands_on(module) or module.name == "__main__":
        return
    folder, _, name = module.name.rpartition(".")
    mirrored = ROOT / "tests" / folder.replace(".", "/") / f"test_{name}.py"
    assert mirrored.exists(), f"{module.path} has no {mirrored.relative_to(ROOT)}"


def test_no_module_is_named_after_nothing() -> None:
    parts = {part: name for name in MODULES for part in name.split(".")}
    assert [name for part, name in parts.items() if part in FORBIDDEN_NAMES] == []


def test_no_module_is_private() -> None:
    parts = {part: name for name in MODULES for part in name.split(".") if part not in ("", "__main__")}
    assert [name for part, name in parts.items() if part.startswith("_")] == []


# What must be found, shown on modules that do not exist.


@pytest.mark.parametrize(
    ("name", "source", "violation"),
    [
        ("wire.new", "from micro_framework.retry import BackOffData", "wire (floor 1) imports up: retry.BackOffData"),
        ("amqp.new", "def f():\n    import micro_framework.runner", "amqp (floor 3) imports sideways: runner"),
        ("calls", "from micro_framework import backoff", "calls (floor 1) imports sideways: backoff"),
        ("workers", "if TYPE_CHECKING:\n    from .routes import Route", "imports sideways: routes.Route"),
        ("websocket.new", "from ..amqp import topology", "websocket (floor 3) imports sideways: amqp.topology"),
        ("config.new", "from micro_framework import wire", "config (floor 1) imports sideways: wire"),
    ],
)
def test_an_import_up_or_sideways_is_found(name: str, source: str, violation: str) -> None:
    found = floor_violations(module_from(name, source))
    assert len(found) == 1
    assert violation in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("runner", "from micro_framework.spawners.thread import ThreadSpawner"),
        ("amqp.new", "from micro_framework.brokers.port import Broker"),
        ("amqp.new", "from micro_framework.amqp.topology import queue_from"),
        ("cli.run", "from micro_framework import __version__"),
        ("wire.new", "import json, decimal"),
    ],
)
def test_an_import_down_is_none_of_our_business(name: str, source: str) -> None:
    assert floor_violations(module_from(name, source)) == []
    assert purity_violations(module_from(name, source)) == []


@pytest.mark.parametrize("source", ["import time", "from kombu import Queue", "def f():\n    from os import path"])
def test_an_impure_import_is_found(source: str) -> None:
    assert len(purity_violations(module_from("wire.new", source))) == 1
    assert purity_violations(module_from("amqp.new", source)) == []


@pytest.mark.parametrize(
    "source",
    ["import amqp", "import kombu", "from kombu import Connection", "from kombu.connection import Anything"],
)
def test_a_connection_elsewhere_is_found(source: str) -> None:
    assert len(connection_violations(module_from("amqp.new", source))) == 1
    assert connection_violations(module_from("brokers.rabbitmq.new", source)) == []


def test_naming_compat_is_found_and_a_docstring_is_not() -> None:
    source = '"""As nameko_compat does."""\nimport nameko_compat.rpc\nwhere = "nameko_compat.rpc"'
    assert len(compat_violations(module_from("cli.new", source))) == 2


def test_a_circle_is_found() -> None:
    modules = {
        "": module_from("", ""),
        "a": module_from("a", "from micro_framework.b import x"),
        "b": module_from("b", "def f():\n    from micro_framework import c"),
        "c": module_from("c", "import micro_framework.a"),
    }
    assert cycle_in(modules) == ["a", "b", "c", "a"]
