"""All modules together: what a name means there, which class is whose base, what an expression is worth."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from micro_framework.migration.names import CONSTANTS
from micro_framework.migration.reading import ReadClass, ReadModule, dotted, read_module
from micro_framework.migration.source import UnreadableError, python_files, read_source

__all__ = ["Tree", "read_tree"]

DEEPEST = 20
"""How many imports of imports are followed: enough for any, and an end for a circle."""


@dataclass
class Tree:
    """The modules below a path.

    Args:
        modules: By dotted name.
        unreadable: Files that could not be read, with the reason.
    """

    modules: dict[str, ReadModule] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    suffixes: dict[str, list[ReadModule]] = field(default_factory=dict)

    def add(self, module: ReadModule) -> None:
        """Take a module in; it is also found by the end of its name, as the folder may be no import root."""
        self.modules[module.name] = module
        parts = module.name.split(".")
        for start in range(len(parts)):
            self.suffixes.setdefault(".".join(parts[start:]), []).append(module)

    def module(self, name: str) -> ReadModule | None:
        """The module of this name, if there is just one that can be meant."""
        if name in self.modules:
            return self.modules[name]
        found = self.suffixes.get(name, [])
        return found[0] if len(found) == 1 else None

    @property
    def classes(self) -> Iterator[ReadClass]:
        """All classes."""
        for module in self.modules.values():
            yield from module.classes.values()

    def meaning(self, module: ReadModule, name: str, depth: int = 0) -> "str | ReadClass | tuple[ReadModule, ast.AST]":
        """What a dotted name means in a module.

        Returns:
            A class or an assigned expression of the tree, or the name as outsiders know it: ``nameko.rpc.rpc``.
        """
        head, _, rest = name.partition(".")
        if name in module.classes:
            return module.classes[name]
        if name.endswith(".decorator") and depth < DEEPEST:
            owner = self.meaning(module, name.removesuffix(".decorator"), depth + 1)
            return f"{owner}.decorator" if isinstance(owner, str) else owner
        if not rest and name in module.assigned:
            assigned = module.assigned[name]
            alias = dotted(assigned)
            if alias is not None and alias != name and depth < DEEPEST:
                return self.meaning(module, alias, depth + 1)
            return module, assigned
        full = ".".join([module.imports.get(head, head), *([rest] if rest else [])])
        if head in module.imports and depth < DEEPEST:
            return self.imported_meaning(full, depth)
        return full

    def imported_meaning(self, full: str, depth: int) -> "str | ReadClass | tuple[ReadModule, ast.AST]":
        """What an absolute dotted name means: looked up in the longest module of the tree that it begins with."""
        parts = full.split(".")
        for length in range(len(parts) - 1, 0, -1):
            other = self.module(".".join(parts[:length]))
            if other is not None:
                rest = ".".join(parts[length:])
                if rest.partition(".")[0] in {*other.imports, *other.assigned} or rest in other.classes:
                    return self.meaning(other, rest, depth + 1)
        return full

    def meaning_of(self, module: ReadModule, node: ast.AST) -> "str | ReadClass | tuple[ReadModule, ast.AST] | None":
        """What an expression names; None where it is no name."""
        name = dotted(node)
        return None if name is None else self.meaning(module, name)

    def lineage(self, of: ReadClass) -> list[ReadClass | str]:
        """The class and its bases, nearest first; those outside the tree by name. Each once."""
        found: list[ReadClass | str] = []
        self.collect(of, found, 0)
        return found

    def collect(self, of: ReadClass, found: list[ReadClass | str], depth: int) -> None:
        if any(each is of for each in found) or depth > DEEPEST:
            return
        found.append(of)
        for base in of.node.bases:
            meaning = self.meaning_of(of.module, base)
            if isinstance(meaning, ReadClass):
                self.collect(meaning, found, depth + 1)
            elif isinstance(meaning, str) and meaning != "object" and meaning not in found:
                found.append(meaning)

    def text(self, module: ReadModule, node: ast.AST | None, depth: int = 0) -> str | None:
        """The text that an expression is worth; None if that cannot be told without running it."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if node is None or depth > DEEPEST:
            return None
        meaning = self.meaning_of(module, node)
        if isinstance(meaning, str):
            return CONSTANTS.get(meaning)
        if isinstance(meaning, tuple):
            return self.text(*meaning, depth + 1)
        owner, _, attribute = (dotted(node) or "").rpartition(".")
        if owner and isinstance(of := self.meaning(module, owner), ReadClass) and attribute in of.assigned:
            return self.text(of.module, of.assigned[attribute], depth + 1)
        return None


def read_tree(path: Path) -> Tree:
    """Read every Python file below a path."""
    tree = Tree()
    root = import_root(path)
    for file in python_files(path):
        try:
            tree.add(read_module(module_name(file, root), read_source(file)))
        except UnreadableError as error:
            tree.unreadable[file] = str(error)
    return tree


def import_root(path: Path) -> Path:
    """The folder that the modules' names begin below: the first one upwards that is no package."""
    folder = path.resolve()
    if folder.is_file():
        folder = folder.parent
    while (folder / "__init__.py").exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def module_name(file: Path, root: Path) -> str:
    """The dotted name of a file below a folder."""
    parts = file.resolve().relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
