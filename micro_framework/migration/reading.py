"""One module's syntax tree: what it imports, assigns and declares. Nothing is imported, nothing runs."""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from micro_framework.migration.names import as_nameko
from micro_framework.migration.source import Source, UnreadableError, why_not_parsed

__all__ = ["ReadClass", "ReadMethod", "ReadModule", "Use", "dotted", "read_module"]


@dataclass(frozen=True)
class Use:
    """A dotted name that stands somewhere."""

    name: str
    line: int


@dataclass
class ReadMethod:
    """A method as it is written."""

    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name


@dataclass
class ReadClass:
    """A class as it is written.

    Args:
        module: Where it stands.
        name: Dotted below the module, as ``__qualname__`` has it.
        node: Its syntax.
        methods: Its own methods, by name; of two of one name the last.
        assigned: What its own attributes are assigned, by name.
    """

    module: "ReadModule"
    name: str
    node: ast.ClassDef
    methods: dict[str, ReadMethod] = field(default_factory=dict)
    assigned: dict[str, ast.expr] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Dotted, with its module."""
        return f"{self.module.name}.{self.name}"


@dataclass
class ReadModule:
    """A module as it is written.

    Args:
        name: Dotted, below the folder that was given.
        source: Its text.
        is_package: Whether it is an ``__init__.py``.
        imports: What a local name means, dotted.
        assigned: What names are assigned at the top level, and its functions.
        classes: By their dotted name below the module.
    """

    name: str
    source: Source
    is_package: bool
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict)
    assigned: dict[str, ast.AST] = field(default_factory=dict)
    classes: dict[str, ReadClass] = field(default_factory=dict)

    @property
    def mentions_nameko(self) -> bool:
        """Whether it imports anything of Nameko's."""
        return any(name.partition(".")[0] == "nameko" for name in self.imports.values())


def dotted(node: ast.AST) -> str | None:
    """``a.b.c`` of a name or of attributes of one; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)) is not None:
        return f"{head}.{node.attr}"
    return None


def read_module(name: str, source: Source) -> ReadModule:
    """Read a module's syntax.

    Raises:
        UnreadableError: It does not parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in strings are none of our business
            tree = ast.parse(source.text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UnreadableError(why_not_parsed(error, source.text)) from error
    module = ReadModule(name, source, source.path.name == "__init__.py", tree)
    for node in ast.walk(tree):
        module.imports.update((local, as_nameko(full)) for local, full in imported(node, module))
    read_body(module, tree.body, "")
    return module


def imported(node: ast.AST, module: ReadModule) -> Iterator[tuple[str, str]]:
    """Local names and what they mean; ``import a.b`` makes ``a``."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            head = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (head, head)
    elif isinstance(node, ast.ImportFrom):
        origin = origin_of(node, module)
        for alias in node.names:
            yield alias.asname or alias.name, f"{origin}.{alias.name}"


def origin_of(node: ast.ImportFrom, module: ReadModule) -> str:
    """The module that names are imported from, absolute."""
    if not node.level:
        return node.module or ""
    here = module.name.split(".")
    package = here[: len(here) - node.level + module.is_package]
    return ".".join([*package, *([node.module] if node.module else [])])


def read_body(module: ReadModule, body: list[ast.stmt], prefix: str) -> None:
    """Note the classes of a body and, at the top level, what is assigned."""
    for node in flattened(body):
        if isinstance(node, ast.ClassDef):
            read_class(module, node, prefix)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not prefix:
                module.assigned[node.name] = node
            read_body(module, node.body, f"{prefix}{node.name}.")
        elif not prefix:
            module.assigned.update(assignments(node))


def read_class(module: ReadModule, node: ast.ClassDef, prefix: str) -> None:
    """Note one class and those inside it."""
    found = ReadClass(module, f"{prefix}{node.name}", node)
    module.classes[found.name] = found
    for each in flattened(node.body):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            found.methods[each.name] = ReadMethod(each)
        elif isinstance(each, ast.ClassDef):
            read_class(module, each, f"{found.name}.")
        else:
            found.assigned.update(assignments(each))


def flattened(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, with those inside ``if`` and ``try``."""
    for node in body:
        if isinstance(node, ast.If):
            yield from flattened([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            inner = [each for handler in node.handlers for each in handler.body]
            yield from flattened([*node.body, *inner, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With):
            yield from flattened(node.body)
        else:
            yield node


def assignments(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are assigned."""
    if isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        yield node.target.id, node.value
