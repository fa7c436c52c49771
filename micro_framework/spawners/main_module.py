"""The script of a service, read once more in its worker processes.

What a script defines belongs to the module ``__main__``, which in a worker process is another one. So a worker process
that needs something of it reads the script again, as the module ``__mp_main__`` (multiprocessing's name for this), up
to the place where it starts a `Runner`: what the service is made of is defined by then, and the rest is none of a
worker's business. A script therefore needs no ``if __name__ == "__main__":``, but does no harm with it.
"""

import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import NamedTuple

__all__ = ["MAIN", "MAIN_AGAIN", "MainModule", "end_reading", "main_module", "read_main_module"]

MAIN, MAIN_AGAIN = "__main__", "__mp_main__"


class MainModule(NamedTuple):
    """Where a main module comes from.

    Args:
        path: Its file.
        package: The package it belongs to, as ``python -m`` finds it; empty for a script.
    """

    path: str
    package: str


class HasBegun(BaseException):
    """The script has come to the place where it starts its runner; no `Exception`, so that it does not handle this."""


reading = False


def main_module() -> MainModule | None:
    """Where this process's main module comes from; None where it comes from no file (an interactive session)."""
    main = sys.modules[MAIN]
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        return None
    return MainModule(os.path.abspath(path), getattr(main, "__package__", None) or "")


def read_main_module(main: MainModule) -> None:
    """Run the script in this process, as the module ``__mp_main__``, until it starts a runner.

    Raises:
        BaseException: Whatever the script raises before that.
    """
    global reading
    loader = SourceFileLoader(MAIN_AGAIN, main.path)
    spec = importlib.util.spec_from_loader(MAIN_AGAIN, loader)
    module = ModuleType(MAIN_AGAIN)
    module.__file__ = main.path
    module.__loader__ = loader
    # A module that python -m runs has a package to import from; the spec of a script has none.
    module.__package__ = main.package
    module.__spec__ = spec if not main.package else importlib.util.find_spec(main.package)
    sys.modules[MAIN] = sys.modules[MAIN_AGAIN] = module
    reading = True
    try:
        loader.exec_module(module)
    except HasBegun:
        pass
    finally:
        reading = False


def end_reading() -> None:
    """Go no further, if a script is being read; a runner calls this when it starts."""
    if reading:
        raise HasBegun
