"""Finding the services that the command line names."""

import sys
import textwrap

import pytest

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.cli.loading import load, put_current_directory_first


def has_entrypoint(service):
    """Stands in for the real predicate: these tests are about finding, not about declarations."""
    return getattr(service, "is_service", False)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules into the current directory, which is where they are imported from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(path, text):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))

    put_current_directory_first()
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def found(*specs):
    return [getattr(item, "__name__", item) for item in load(specs, has_entrypoint)]


def failure(*specs):
    with pytest.raises((FailedError, WrongUsageError)) as caught:
        load(specs, has_entrypoint)
    return caught.value.message


SERVICES = """
    class Base:
        pass
    class Orders:
        is_service = True
    class Payments(Orders):
        pass
    Alias = Orders
"""


def test_a_module_is_every_class_defined_in_it_that_has_an_entrypoint(write):
    write("shop_a.py", SERVICES)
    write("shop_b.py", "from shop_a import Orders\nclass Stock:\n    is_service = True\n")
    assert found("shop_a") == ["Orders", "Payments"]
    assert found("shop_b") == ["Stock"]


def test_classes_are_picked_by_name_several_and_each_once(write):
    write("shop_a.py", SERVICES)
    write("pack/__init__.py", "")
    write("pack/stock.py", "class Stock:\n    is_service = True\n")
    assert found("shop_a:Payments", "pack.stock:Stock", "shop_a") == ["Payments", "Stock", "Orders"]


def test_without_classes_the_routes_and_without_routes_the_runner(write):
    write("listed.py", "routes = ['first', 'second']\nrunner = 'unused'\n")
    write("both.py", "class Orders:\n    is_service = True\nroutes = ['unused']\n")
    write("running.py", "routes = []\nrunner = 'the runner'\n")
    assert found("listed") == ["first", "second"]
    assert found("both") == ["Orders"]
    assert found("running") == ["the runner"]


def test_the_current_directory_comes_first(write, tmp_path):
    write("colorsys.py", "class Mine:\n    is_service = True\n")
    sys.modules.pop("colorsys", None)
    assert found("colorsys") == ["Mine"]
    assert sys.path[0] == str(tmp_path)
    put_current_directory_first()
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("spec", "sign"),
    [
        ("orders.py", "did you mean 'orders'?"),
        ("orders.py:Orders", "did you mean 'orders:Orders'?"),
        ("app/orders.py", "did you mean 'app.orders'?"),
        ("./app/orders", "did you mean 'app.orders'?"),
        ("/elsewhere/orders.py:Orders", "cd /elsewhere and name 'orders:Orders'"),
        ("orders:", "does not name a class"),
        ("orders:Orders:Other", "does not name a class"),
        (":Orders", "does not name a module"),
        ("my-orders", "does not name a module"),
        ("", "does not name a module"),
        (".orders", "does not name a module"),
    ],
)
def test_a_malformed_name_is_wrong_usage(write, spec, sign):
    with pytest.raises(WrongUsageError) as caught:
        load([spec], has_entrypoint)
    assert sign in caught.value.message


def test_an_absolute_path_below_the_current_directory_has_its_module_named(write, tmp_path):
    assert "did you mean 'app.orders'?" in failure(str(tmp_path / "app" / "orders.py"))


def test_a_missing_module_names_the_nearest_and_the_place(write, tmp_path):
    write("orders.py", SERVICES)
    assert failure("ordres") == f"there is no module 'ordres' in {tmp_path}; did you mean 'orders'?"
    assert "PYTHONPATH" in failure("something_else")
    assert "PYTHONPATH" in failure("package.something_else")


def test_a_dot_instead_of_a_colon_is_recognised(write):
    write("orders.py", SERVICES)
    message = failure("orders.Orders")
    assert message == "there is no module 'orders.Orders': 'orders' is not a package; did you mean 'orders:Orders'?"


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("import os\nimport no_such_lib\n", "ModuleNotFoundError: No module named 'no_such_lib'", 2),
        ("import broken.inner\n", "No module named 'broken.inner'", 1),
        ("from os import nothing_like_it\n", "ImportError: cannot import name 'nothing_like_it'", 1),
        ("\n\n1 / 0\n", "ZeroDivisionError: division by zero", 3),
        ("import sys\nsys.exit(3)\n", "it called sys.exit(3)", 2),
    ],
)
def test_an_error_inside_the_module_says_what_and_where(write, tmp_path, text, what, line):
    write("broken.py", text)
    message = failure("broken")
    assert message.startswith("'broken' cannot be imported: ")
    assert what in message
    assert f"at {tmp_path / 'broken.py'}, line {line}: {text.splitlines()[line - 1]}" in message
    assert "importlib" not in message


def test_an_error_in_a_module_it_imports_shows_both_places(write, tmp_path):
    write("outer.py", "import inner\n")
    write("inner.py", "x = 1\nraise RuntimeError('no')\n")
    message = failure("outer")
    assert f"{tmp_path / 'outer.py'}, line 1: import inner" in message
    assert f"{tmp_path / 'inner.py'}, line 2: raise RuntimeError('no')" in message


def test_a_syntax_error_names_file_and_line(write, tmp_path):
    write("broken.py", "x = 1\ndef f(:\n    pass\n")
    message = failure("broken")
    assert f'File "{tmp_path / "broken.py"}", line 2' in message
    assert "SyntaxError" in message


def test_a_package_whose_init_lacks_a_library_is_not_called_missing(write, tmp_path):
    write("pack/__init__.py", "import no_such_lib\n")
    write("pack/orders.py", SERVICES)
    assert f"at {tmp_path / 'pack' / '__init__.py'}, line 1" in failure("pack.orders")


def test_no_such_class_names_the_nearest_or_all(write):
    write("orders.py", SERVICES)
    write("empty.py", "")
    assert failure("orders:Order") == "there is no class Order in 'orders'; did you mean 'orders:Orders'?"
    assert "its services are Orders, Payments" in failure("orders:Warehouse")
    assert "no class in it has an entrypoint" in failure("empty:Orders")


def test_what_is_not_a_service_is_refused(write):
    write("orders.py", SERVICES + "    routes = ['x']\n")
    assert "class Base in 'orders' has no entrypoint" in failure("orders:Base")
    assert "'orders:routes' is a list, not a class" in failure("orders:routes")


def test_nothing_to_run_says_what_was_looked_for(write):
    write("orders.py", SERVICES)
    write("empty.py", "class Plain: pass\nroutes = []\nrunner = None\n")
    write("facade.py", "from orders import Orders\n")
    assert failure("empty").endswith("expected a class with an entrypoint, a list 'routes' or a 'runner'")
    assert "Orders is imported into it: name 'facade:Orders' or 'orders'" in failure("facade")


def test_a_nameless_base_of_a_named_service_is_a_mixin(write):
    write("shop_c.py", "class Audited:\n    is_service = True\nclass Orders(Audited):\n    name = 'orders'\n")
    assert found("shop_c") == ["Orders"]
    assert found("shop_c:Audited") == ["Audited"]
