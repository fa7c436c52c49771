"""Every module says what it exports, and exports all that is public in it. Module paths are public here."""

import ast
import importlib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {"micro_framework": ROOT / "micro_framework", "nameko_compat": ROOT / "compat" / "nameko_compat"}


def module_names() -> list[str]:
    return sorted(
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        for package, folder in SOURCES.items()
        for path in folder.rglob("*.py")
        if path.name != "__main__.py"
    )


@cache
def source_of(name: str) -> ast.Module:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    return ast.parse(Path(module.__file__).read_text())


def exported(name: str) -> list[str]:
    return list(importlib.import_module(name).__all__)


@pytest.mark.parametrize("name", module_names())
def test_what_a_module_exports_is_there(name: str) -> None:
    module = importlib.import_module(name)
    names = exported(name)
    assert len(names) == len(set(names)), "a name is listed twice"
    assert not [each for each in names if not hasattr(module, each)]
    assert not [each for each in names if each.startswith("_") and not each.startswith("__")]


@pytest.mark.parametrize("name", module_names())
def test_a_public_class_with_a_public_docstring_is_exported_by_its_module(name: str) -> None:
    classes = [node for node in source_of(name).body if isinstance(node, ast.ClassDef)]
    documented = [node.name for node in classes if ast.get_docstring(node) and not node.name.startswith("_")]
    names = exported(name)
    internal = [each for each in documented if each not in names]
    assert not [each for each in internal if imported_elsewhere(each, name)], "another module imports it: export it"


@pytest.mark.parametrize("name", module_names())
def test_what_is_exported_is_documented(name: str) -> None:
    names = exported(name)
    definitions = [
        node for node in source_of(name).body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names
    ]
    assert not [node.name for node in definitions if not ast.get_docstring(node)]


def test_names_imported_across_modules_are_exported() -> None:
    imports = cross_imports()
    wrong = [f"{importer}: {module}.{name}" for importer, module, name in imports if name not in exported(module)]
    assert not wrong, "\n".join(wrong)


def imported_elsewhere(name: str, module: str) -> bool:
    return any((source, each) == (module, name) for _, source, each in cross_imports())


@cache
def cross_imports() -> list[tuple[str, str, str]]:
    known = set(module_names())
    return [
        (importer, node.module, alias.name)
        for importer in known
        for node in ast.walk(source_of(importer))
        if isinstance(node, ast.ImportFrom) and node.module in known
        for alias in node.names
        if f"{node.module}.{alias.name}" not in known
    ]
