"""``eventlet.green``: the standard library's modules, which let others run while they wait as they are, on threads."""

import importlib
import sys
from types import ModuleType

__all__: list[str] = []


def __getattr__(name: str) -> ModuleType:
    """The standard library's module of that name."""
    if name not in sys.stdlib_module_names:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(name)
