import ast

import pytest

from micro_framework.migration.reading import dotted, read_module
from micro_framework.migration.source import Source


@pytest.fixture
def read(tmp_path):
    return lambda text, name="app.orders", file="orders.py": read_module(name, Source(tmp_path / file, text, "utf-8"))


@pytest.mark.parametrize(
    ("text", "imports"),
    [
        ("from nameko.rpc import rpc as r", {"r": "nameko.rpc.rpc"}),
        ("import nameko.rpc", {"nameko": "nameko"}),
        ("import nameko.rpc as x", {"x": "nameko.rpc"}),
        ("from .base import Base", {"Base": "app.base.Base"}),
        ("from nameko_compat.rpc import rpc", {"rpc": "nameko.rpc.rpc"}),
        ("def f():\n    from nameko import events", {"events": "nameko.events"}),
    ],
)
def test_imports_of_every_style_are_read(read, text, imports):
    assert read(text).imports == imports


def test_classes_in_classes_functions_and_conditions_are_read(read):
    module = read("if x:\n  class A:\n    class B:\n      y = 1\ndef f():\n  class C:\n    def g(self): pass\n")
    assert set(module.classes) == {"A", "A.B", "f.C"}
    assert set(module.classes["f.C"].methods) == {"g"}


def test_only_names_and_their_attributes_are_dotted():
    assert dotted(ast.parse("a.b.c", mode="eval").body) == "a.b.c"
    assert dotted(ast.parse("a().b", mode="eval").body) is None
