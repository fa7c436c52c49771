import ast

import pytest

from micro_framework.migration.tree import read_tree


@pytest.fixture
def tree(tmp_path):
    files = {
        "app/__init__.py": "from .base import handler",
        "app/base.py": "from nameko.rpc import rpc\nhandler = rpc\nNAME = 'orders'\nclass Base:\n    name = NAME\n",
        "app/orders.py": "from app import handler as h\nfrom app.base import Base, NAME\nclass Orders(Base): pass\n",
        "app/loop.py": "from app.pool import x\n",
        "app/pool.py": "from app.loop import x\n",
        "broken.py": "print 'x'",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return read_tree(tmp_path)


def test_a_name_is_followed_through_modules(tree):
    assert tree.meaning(tree.modules["app.orders"], "h") == "nameko.rpc.rpc"


def test_imports_in_a_circle_end(tree):
    assert isinstance(tree.meaning(tree.modules["app.loop"], "x"), str)


def test_bases_are_found_in_other_files(tree):
    assert [each.full_name for each in tree.lineage(tree.modules["app.orders"].classes["Orders"])] == [
        "app.orders.Orders",
        "app.base.Base",
    ]


def test_a_constant_of_another_file_is_known(tree):
    assert tree.text(tree.modules["app.orders"], ast.parse("NAME", mode="eval").body) == "orders"


def test_a_file_that_does_not_parse_hides_no_other(tree):
    assert [path.name for path in tree.unreadable] == ["broken.py"]


def test_a_file_in_a_package_has_its_whole_name(tree, tmp_path):
    assert list(read_tree(tmp_path / "app" / "base.py").modules) == ["app.base"]
