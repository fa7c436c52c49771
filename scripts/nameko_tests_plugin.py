"""A pytest plugin of `run_nameko_tests.py`: lets Nameko's own test modules be imported, and notes why tests fail.

Many of them import parts of Nameko's inside beside what they test of it. Here such a name is there and fails when it is
used, so that one import does not take a whole module's tests away. The names are those of ``nameko_compat.absent``.
Environment: `MF_OUTCOMES`, the file that gets a line of JSON for every test.
"""

import importlib
import json
import os
import sys
from types import ModuleType
from typing import Any

import pytest

from nameko_compat.absent import ABSENT, ABSENT_MODULES

__all__ = ["pytest_runtest_makereport"]


class Inside(type):
    """What a name of Nameko's inside is: a class that cannot be used."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{cls.__name__} is a part of Nameko's inside")


def stub(name: str) -> Any:
    return Inside(name, (), {})


def provide_inside() -> None:
    """Put a stub in the place of every name that is not there."""
    for below, names in ABSENT.items():
        module = importlib.import_module(f"nameko_compat.{below}")
        for name in names:
            if "." not in name and below != "testing.pytest":
                setattr(module, name, stub(f"nameko.{below}.{name}"))
    for below in ABSENT_MODULES:
        module = ModuleType(f"nameko.{below}")
        module.__path__ = []
        module.__getattr__ = lambda name, where=below: (  # type: ignore[method-assign]
            refuse(name) if name.startswith("__") else stub(f"nameko.{where}.{name}")
        )
        sys.modules[module.__name__] = module


def refuse(name: str) -> Any:
    raise AttributeError(name)


provide_inside()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note a failure, a skip, or a call that has passed."""
    report = yield
    if report.outcome != "passed" or report.when == "call":
        error = "" if call.excinfo is None else f"{call.excinfo.typename}: {call.excinfo.value}"
        line = {"test": item.nodeid, "when": report.when, "outcome": report.outcome, "error": error}
        with open(os.environ["MF_OUTCOMES"], "a") as file:
            file.write(json.dumps(line) + "\n")
    return report
