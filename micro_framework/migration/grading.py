"""What a tree of Nameko code declares, what of it moves how, and which queues and keys it owns."""

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from micro_framework.migration.arguments import Given, Plan, planned
from micro_framework.migration.names import (
    COMPAT,
    DECORATORS,
    EVENTLET,
    FORMS,
    KINDS,
    as_nameko,
    is_absent,
    is_nameko,
    is_third_party,
)
from micro_framework.migration.reading import ReadClass, ReadModule, dotted
from micro_framework.migration.tree import Tree
from micro_framework.wire.naming import BROADCAST, SERVICE_POOL, event_queue, rpc_exchange, rpc_queue, rpc_routing_key

__all__ = [
    "AS_IT_IS",
    "BY_HAND",
    "BY_IMPORT",
    "Declared",
    "Dependency",
    "Entrypoint",
    "Finding",
    "Method",
    "Report",
    "Service",
    "declared",
    "decorators",
    "graded",
    "module_findings",
    "staying",
]

AS_IT_IS = "as it is"
"""`migrate rewrite --to native` writes all of it."""
BY_IMPORT = "by an edited import"
"""It runs on nameko_compat, which `migrate rewrite` makes it import."""
BY_HAND = "by hand"
"""A person has to look at it."""

NOT_EXTENSIONS = frozenset({"kombu", "micro_framework", *sys.stdlib_module_names, *dir(builtins)})


@dataclass(frozen=True)
class Finding:
    """Something to know, and where it stands."""

    file: str
    line: int
    text: str
    hand: bool = False


@dataclass
class Entrypoint:
    """A decorator that makes a method a target."""

    kind: str
    line: int
    native: str | None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None


@dataclass
class Method:
    """A method that something drives."""

    name: str
    file: str
    line: int
    grade: str = AS_IT_IS
    entrypoints: list[Entrypoint] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sends: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Dependency:
    """A class attribute that each call gets something in place of."""

    name: str
    kind: str
    file: str
    line: int
    native: str | None
    service: str | None = None
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Service:
    """A class with entrypoints, its own and its bases' in the tree."""

    name: str | None
    class_name: str
    file: str
    line: int
    native: bool = True
    methods: list[Method] = field(default_factory=list)
    dependencies: list[Dependency] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Report:
    """All that was found below a path."""

    services: list[Service] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    files: int = 0

    @property
    def needs_a_hand(self) -> bool:
        """Whether a person has to look at anything."""
        methods = [method for service in self.services for method in service.methods]
        everything = [*self.findings, *(each for service in self.services for each in service.findings)]
        by_hand = any(method.grade == BY_HAND for method in methods) or any(each.hand for each in everything)
        return bool(self.unreadable) or by_hand

    def as_data(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {**asdict(self), "needs_a_hand": self.needs_a_hand}


@dataclass
class Declared:
    """What a decorator, or a value of a class attribute, is.

    Args:
        name: Nameko's full name, or what else it is called.
        why: Why it has no native form; empty if it has one.
        hand: Whether that needs a person.
        plan: What becomes of its arguments.
        notes: What differs.
        like: Nameko's decorator that an entrypoint of the tree extends.
    """

    name: str
    why: str = ""
    hand: bool = False
    plan: Plan = field(default_factory=Plan)
    notes: list[str] = field(default_factory=list)
    like: str = ""

    @property
    def native(self) -> str | None:
        """The native class; None if there is none for it."""
        return None if self.why or self.name not in FORMS else FORMS[self.name].name


def declared(tree: Tree, module: ReadModule, node: ast.AST) -> Declared | None:
    """What a decorator or value declares; None for what is no extension."""
    called = node.func if isinstance(node, ast.Call) else node
    meaning = tree.meaning_of(module, called)
    if isinstance(meaning, ReadClass):
        return own_extension(tree, meaning)
    if isinstance(meaning, tuple):
        return made_around(tree, *meaning)
    if meaning is None:
        return None
    return from_outside(tree, module, DECORATORS.get(meaning, meaning), node)


def from_outside(tree: Tree, module: ReadModule, name: str, node: ast.AST) -> Declared | None:
    """As `declared`, of a name from outside the tree."""
    if is_nameko(name):
        if (instead := is_absent(name)) is not None:
            return Declared(name, f"{name} is not in {COMPAT}: {instead}", True)
        if name not in FORMS:
            return Declared(name, f"{name} has no native form")
        plan = planned(FORMS[name], list(given_in(node)))
        return Declared(name, "; ".join(plan.blocked), False, plan, plan.notes)
    head = name.partition(".")[0]
    if is_third_party(name):
        why = f"{name} is an extension from another package; try it with `micro-framework run --nameko`"
        return Declared(name, why, True)
    in_tree = tree.module(name.rpartition(".")[0]) is not None
    if head in NOT_EXTENSIONS or head in EVENTLET or in_tree or head not in module_heads(module):
        return None
    if isinstance(node, ast.Call) and head in module_heads(module):
        return Declared(name, f"whether {name} is an extension of Nameko's cannot be told from here", True)
    return None


def module_heads(module: ReadModule) -> set[str]:
    """The packages that a module imports from."""
    return {each.partition(".")[0] for each in module.imports.values()}


def given_in(node: ast.AST) -> Iterator[Given]:
    """The arguments of a call; of a bare name none."""
    if not isinstance(node, ast.Call):
        return
    for argument in node.args:
        yield Given(star="*" if isinstance(argument, ast.Starred) else "", is_none=is_none(argument))
    for keyword in node.keywords:
        yield Given(keyword.arg, "" if keyword.arg else "**", is_none(keyword.value))


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def own_extension(tree: Tree, of: ReadClass) -> Declared | None:
    """As `declared`, of a class of the tree."""
    outside = [each for each in tree.lineage(of) if isinstance(each, str)]
    if any(is_third_party(each) for each in outside):
        return Declared(of.name, f"{of.name} extends an extension from another package", True)
    if any(is_nameko(each) for each in outside):
        like = [DECORATORS[f"{each}.decorator"] for each in outside if f"{each}.decorator" in DECORATORS]
        return Declared(of.name, f"{of.name} is an extension written for Nameko", like=(like or [""])[0])
    return None


def made_around(tree: Tree, module: ReadModule, node: ast.AST) -> Declared | None:
    """As `declared`, of a function or an assigned expression of the tree: it may wrap one of Nameko's decorators."""
    for each in ast.walk(node):
        meaning = tree.meaning_of(module, each)
        if isinstance(meaning, str) and DECORATORS.get(meaning, meaning) in KINDS:
            return Declared(DECORATORS.get(meaning, meaning), "it is made around a decorator of Nameko's", True)
        if isinstance(meaning, ReadClass) and (own := own_extension(tree, meaning)) is not None:
            return own
    return None


def decorators(tree: Tree, of: ReadClass, method: str) -> Iterator[tuple[ast.expr, Declared]]:
    """The decorators of a method that are, or may be, entrypoints."""
    for node in of.methods[method].node.decorator_list:
        found = declared(tree, of.module, node)
        if found is not None and (found.name in KINDS or is_nameko(found.name) or not plain_decorator(found)):
            yield node, found


def plain_decorator(found: Declared) -> bool:
    """Whether it is most likely no entrypoint: it comes from a package that has nothing to do with Nameko."""
    return found.why.startswith("whether ")


def declarations(tree: Tree, of: ReadClass) -> Iterator[tuple[str, ast.AST, Declared]]:
    """All that a class declares itself: a name, where it stands, what it is."""
    for method in of.methods:
        for node, found in decorators(tree, of, method):
            yield method, node, found
    for name, value in of.assigned.items():
        if isinstance(value, ast.Call) and (what := declared(tree, of.module, value)) is not None:
            yield name, value, what


def reasons(tree: Tree, of: ReadClass) -> Iterator[Finding]:
    """Why a class cannot become native."""
    file = str(of.module.source.path)
    for name, node, what in declarations(tree, of):
        if what.why:
            yield Finding(file, getattr(node, "lineno", 0), f"{of.name}.{name}: {what.why}", what.hand)
    for base in tree.lineage(of):
        if not isinstance(base, str):
            continue
        if is_nameko(base):
            yield Finding(file, of.node.lineno, f"{of.name} is an extension written for Nameko ({base})")
        elif base.partition(".")[0] not in NOT_EXTENSIONS:
            yield Finding(file, of.node.lineno, f"{of.name}: its base {base} is outside what was read", True)


def staying(tree: Tree) -> dict[str, list[Finding]]:
    """The classes that stay on Nameko's names, by full name, with the reasons; a class and its bases go together."""
    families: dict[str, set[str]] = {each.full_name: {each.full_name} for each in tree.classes}
    for each in tree.classes:
        for base in tree.lineage(each):
            if isinstance(base, ReadClass):
                joined = families[each.full_name] | families[base.full_name]
                families.update(dict.fromkeys(joined, joined))
    why = {each.full_name: list(reasons(tree, each)) for each in tree.classes if is_declaring(tree, each)}
    found = {}
    for name, family in families.items():
        together = [finding for member in sorted(family) for finding in why.get(member, [])]
        if together:
            found[name] = together
    return found


def is_declaring(tree: Tree, of: ReadClass) -> bool:
    """Whether a class, or a base of it in the tree, declares anything of Nameko's."""
    return any(
        any(True for _ in declarations(tree, each)) if isinstance(each, ReadClass) else is_nameko(each)
        for each in tree.lineage(of)
    )


def graded(tree: Tree) -> Report:
    """What the tree declares and how it moves."""
    stays = staying(tree)
    bases = {base.full_name for each in tree.classes for base in tree.lineage(each)[1:] if isinstance(base, ReadClass)}
    report = Report(files=len(tree.modules) + len(tree.unreadable))
    report.unreadable = {str(path): why for path, why in tree.unreadable.items()}
    for each in tree.classes:
        service = service_of(tree, each, stays.get(each.full_name, []))
        is_mixin = service.name is None and each.full_name in bases
        if service.methods and not is_mixin:
            report.services.append(service)
    for module in tree.modules.values():
        report.findings += module_findings(module)
    return report


def service_of(tree: Tree, of: ReadClass, stays: list[Finding]) -> Service:
    """A class as a service; it has no methods if it is none."""
    line = [each for each in tree.lineage(of) if isinstance(each, ReadClass)]
    service = Service(service_name(tree, line), of.name, str(of.module.source.path), of.node.lineno, not stays)
    service.findings = list(dict.fromkeys(each for each in stays if not each.hand))
    service.dependencies = list(dependencies_of(tree, line))
    seen: set[str] = set()
    for owner in line:
        for name in owner.methods:
            if name not in seen and any(True for _ in decorators(tree, owner, name)):
                service.methods.append(method_of(tree, owner, name, service))
            seen.add(name)
        seen |= owner.assigned.keys()
    if any(each.hand and " its base " in each.text for each in stays):
        service.findings += [each for each in stays if " its base " in each.text]
    return service


def service_name(tree: Tree, line: Iterable[ReadClass]) -> str | None:
    """The nearest ``name = "..."``."""
    for each in line:
        if "name" in each.assigned:
            return tree.text(each.module, each.assigned["name"])
    return None


def dependencies_of(tree: Tree, line: Iterable[ReadClass]) -> Iterator[Dependency]:
    """What a service depends on, its own first."""
    seen: set[str] = set()
    for owner in line:
        file = str(owner.module.source.path)
        for name, node, found in declarations(tree, owner):
            if name in owner.methods or name in seen or not isinstance(node, ast.Call):
                continue
            target = remote_service(tree, owner.module, node) if found.name.startswith("nameko.rpc.") else None
            texts = [*([found.why] if found.why else []), *found.notes]
            findings = [Finding(file, node.lineno, text, found.hand) for text in texts]
            yield Dependency(name, found.name, file, node.lineno, found.native, target, findings)
        seen |= owner.assigned.keys()


def remote_service(tree: Tree, module: ReadModule, node: ast.Call) -> str | None:
    """The service that a proxy is for."""
    named = [each.value for each in node.keywords if each.arg in ("target_service", "service_name")]
    return tree.text(module, next(iter([*node.args, *named]), None))


def method_of(tree: Tree, owner: ReadClass, name: str, service: Service) -> Method:
    """One method, graded."""
    node, file = owner.methods[name].node, str(owner.module.source.path)
    method = Method(name, file, node.lineno)
    for decorator, found in decorators(tree, owner, name):
        method.entrypoints.append(entrypoint_of(tree, owner.module, decorator, found, name, service.name))
        for text in [*([found.why] if found.why else []), *found.notes]:
            method.findings.append(Finding(file, decorator.lineno, text, found.hand))
    method.findings += eventlet_in(owner.module, node)
    own = {each.name: each for each in service.dependencies}
    for used, line in attributes_of_self(node):
        if used in own and any(each.hand for each in own[used].findings):
            method.findings.append(Finding(file, line, f"uses self.{used}: {own[used].findings[0].text}", True))
    method.calls = list(dict.fromkeys(calls_in(node, own)))
    method.sends = list(dict.fromkeys(sends_in(tree, owner.module, node, own, service.name)))
    if any(each.hand for each in method.findings):
        method.grade = BY_HAND
    elif not service.native:
        method.grade = BY_IMPORT
    method.findings = list(dict.fromkeys(method.findings))
    return method


def entrypoint_of(
    tree: Tree, module: ReadModule, node: ast.expr, found: Declared, method: str, service: str | None
) -> Entrypoint:
    """One entrypoint with the queue and key that it owns, as far as they can be told."""
    entrypoint = Entrypoint(KINDS.get(found.like or found.name, found.name), node.lineno, found.native)
    values = (
        dict(zip(("first", "second", "handler_type", "reliable_delivery"), node.args, strict=False))
        if isinstance(node, ast.Call)
        else {}
    )
    if isinstance(node, ast.Call):
        values |= {each.arg: each.value for each in node.keywords if each.arg}
    shown = service or "<SERVICE_NAME>"
    if entrypoint.kind == "rpc":
        entrypoint.queue = rpc_queue(shown, rpc_exchange()).name
        entrypoint.exchange = rpc_exchange().name
        entrypoint.routing_key = rpc_routing_key(shown, method)
    elif entrypoint.kind == "event":
        source = tree.text(module, values.get("source_service", values.get("first")))
        event = tree.text(module, values.get("event_type", values.get("second")))
        given = values.get("handler_type")
        handler_type = SERVICE_POOL if given is None else tree.text(module, given)
        fill_event(entrypoint, source, event, handler_type, shown, method)
    elif entrypoint.kind == "queue":
        entrypoint.queue = queue_name(tree, module, values.get("queue", values.get("first")))
    return entrypoint


def fill_event(
    entrypoint: Entrypoint, source: str | None, event: str | None, handler_type: str | None, service: str, method: str
) -> None:
    """The queue of an event handler; what is only known when it runs stands in angle brackets."""
    source, event = source or "<source_service>", event or "<event_type>"
    if handler_type not in ("service_pool", "singleton", "broadcast"):
        entrypoint.queue = "<depends on handler_type>"
    else:
        identifier = "<broadcast_identifier>" if handler_type == BROADCAST else None
        entrypoint.queue = event_queue(
            source,
            event,
            service=service,
            method=method,
            handler_type=handler_type,  # type: ignore[arg-type]
            broadcast_identifier=identifier,
        ).name
    entrypoint.exchange, entrypoint.routing_key = f"{source}.events", event


def queue_name(tree: Tree, module: ReadModule, node: ast.AST | None) -> str:
    """The name of a kombu queue that is made in the tree."""
    meaning = None if node is None else tree.meaning_of(module, node)
    if isinstance(meaning, tuple):
        module, node = meaning
    if isinstance(node, ast.Call):
        named = [each.value for each in node.keywords if each.arg == "name"]
        name = tree.text(module, next(iter([*node.args, *named]), None))
        if name is not None:
            return name
    return "<queue>"


def attributes_of_self(node: ast.AST) -> Iterator[tuple[str, int]]:
    """What a method takes from ``self``."""
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self":
            yield each.attr, each.lineno


def calls_in(node: ast.AST, own: dict[str, Dependency]) -> Iterator[str]:
    """The remote methods that a method calls: ``service.method``."""
    for each in ast.walk(node):
        parts = (dotted(each.func) or "").split(".") if isinstance(each, ast.Call) else []
        if len(parts) < 3 or parts[0] != "self" or parts[1] not in own:
            continue
        kind, service = own[parts[1]].kind, own[parts[1]].service
        if kind in ("nameko.rpc.RpcProxy", "nameko.rpc.ServiceRpc"):
            yield f"{service or '<service>'}.{parts[2]}"
        elif kind == "nameko.rpc.ClusterRpc" and len(parts) > 3:
            yield f"{parts[2]}.{parts[3]}"


def sends_in(
    tree: Tree, module: ReadModule, node: ast.AST, own: dict[str, Dependency], service: str | None
) -> Iterator[str]:
    """The events that a method dispatches: ``service/event``."""
    for each in ast.walk(node):
        if not isinstance(each, ast.Call):
            continue
        parts = (dotted(each.func) or "").split(".")
        is_own = parts[0] == "self" and len(parts) == 2 and parts[1] in own
        if is_own and own[parts[1]].kind == "nameko.events.EventDispatcher":
            event = tree.text(module, each.args[0]) if each.args else None
            yield f"{service or '<SERVICE_NAME>'}/{event or '<event>'}"


def eventlet_in(module: ReadModule, node: ast.AST) -> Iterator[Finding]:
    """Uses of eventlet, greenlet and gevent inside a piece of code."""
    file = str(module.source.path)
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and module.imports.get(each.id, "").partition(".")[0] in EVENTLET:
            yield Finding(file, each.lineno, f"uses {module.imports[each.id]}, which works on green threads only", True)
        elif isinstance(each, ast.Import | ast.ImportFrom):
            yield from (
                Finding(file, each.lineno, f"imports {name}, which works on green threads only", True)
                for name in imported_names(each)
                if name.partition(".")[0] in EVENTLET
            )


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """What an absolute import brings, dotted."""
    if isinstance(node, ast.Import):
        return [as_nameko(alias.name) for alias in node.names]
    return [] if node.level else [as_nameko(f"{node.module}.{alias.name}") for alias in node.names]


def module_findings(module: ReadModule) -> Iterator[Finding]:
    """What a module has to be looked at for, outside the methods of services too."""
    file = str(module.source.path)
    yield from dict.fromkeys(eventlet_in(module, module.tree))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imported_names(node):
                if is_nameko(name) and (instead := is_absent(name)) is not None:
                    yield Finding(file, node.lineno, f"imports {name}, which has no counterpart: {instead}", True)
                elif name == "nameko.*" or (is_nameko(name) and name.endswith(".*")):
                    yield Finding(file, node.lineno, f"imports all names ({name}); name those that it needs", True)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_module_text(node.value):
            yield Finding(file, node.lineno, f"the text {node.value!r} names a module of Nameko's")


def is_module_text(text: str) -> bool:
    """Whether a text is a dotted path into Nameko, as ``mock.patch`` takes it."""
    return is_nameko(text) and "." in text and all(part.isidentifier() for part in text.split("."))
