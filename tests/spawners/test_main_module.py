"""A script that is read again in a worker process: as far as its runner, and no further."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.runner import Runner
from micro_framework.spawners.main_module import (
    MAIN,
    MAIN_AGAIN,
    MainModule,
    end_reading,
    main_module,
    read_main_module,
)

SECONDS = 30


@pytest.fixture(autouse=True)
def main_is_given_back() -> Iterator[None]:
    """Reading a main module replaces the one of the process."""
    before = {name: sys.modules.get(name) for name in (MAIN, MAIN_AGAIN)}
    yield
    for name, module in before.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module


def read(path: Path, text: str, package: str = "") -> ModuleType:
    path.write_text(textwrap.dedent(text))
    read_main_module(MainModule(str(path), package))
    assert sys.modules[MAIN] is sys.modules[MAIN_AGAIN]
    return sys.modules[MAIN]


RUNNERS = {
    "started": "Runner([Orders], {}).start()",
    "in a block": "with Runner([Orders], {}):\n    after = 1",
    "guarded against exceptions": "try:\n    Runner([Orders], {}).start()\nexcept Exception:\n    after = 1",
}


@pytest.mark.parametrize("ending", RUNNERS.values(), ids=list(RUNNERS))
def test_a_script_is_read_up_to_its_runner(tmp_path: Path, ending: str) -> None:
    script = """
        from micro_framework.entrypoints import TimeEntrypoint
        from micro_framework.runner import Runner

        class Orders:
            name = "orders"

            @TimeEntrypoint(60)
            def tick(self): ...

    """
    module = read(tmp_path / "service.py", textwrap.dedent(script) + ending + "\nafter = 1\n")
    assert module.Orders.__module__ == MAIN_AGAIN
    assert not hasattr(module, "after")


def test_what_is_guarded_does_not_run(tmp_path: Path) -> None:
    module = read(tmp_path / "service.py", "x = 1\nif __name__ == '__main__':\n    x = 2\n")
    assert module.x == 1


def test_a_script_needs_no_suffix(tmp_path: Path) -> None:
    assert read(tmp_path / "service", "x = 1").x == 1


def test_a_module_of_a_package_imports_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shop_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "prices.py").write_text("price = 5")
    monkeypatch.syspath_prepend(tmp_path)
    assert read(package / "service.py", "from .prices import price", "shop_package").price == 5
    for name in ("shop_package", "shop_package.prices"):
        sys.modules.pop(name)


def test_what_a_script_raises_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        read(tmp_path / "service.py", "1 / 0")
    end_reading()  # does nothing: the script is no longer read


def test_a_runner_starts_when_no_script_is_read() -> None:
    class Idle:
        name = "idle"

        @TimeEntrypoint(60)
        def tick(self) -> None: ...

    with Runner([Idle], {}) as runner:
        assert runner.ready


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["service.py"], "('service.py', '')"),
        (["-m", "service"], "('service.py', '')"),
        (["-m", "shop.service"], "('service.py', 'shop')"),
        (["-c", "import service; service.tell()"], "None"),
    ],
)
def test_where_the_main_module_comes_from(tmp_path: Path, arguments: list[str], expected: str) -> None:
    text = """
        from pathlib import Path
        from micro_framework.spawners.main_module import main_module

        def tell():
            main = main_module()
            print(main and (Path(main.path).name, main.package))

        if __name__ == "__main__":
            tell()
    """
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "shop").mkdir()
    for path in (tmp_path / "service.py", tmp_path / "shop" / "service.py"):
        path.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout.strip() == expected


def test_an_interactive_session_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules[MAIN], "__file__", raising=False)
    assert main_module() is None
