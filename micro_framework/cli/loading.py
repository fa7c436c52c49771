"""Finds the services that ``run module[:Class] ...`` names.

A ``module`` stands for every class defined in it that has an entrypoint; without any, for its list
``routes``; without that, for its ``runner``. Whatever goes wrong while a user's module is imported is
reported with file and line.
"""

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.config.spelling import nearest

__all__ = ["HasEntrypoint", "load", "put_current_directory_first"]

HasEntrypoint = Callable[[type], bool]
"""Tells whether a class is a service: whether it or a base of it declares an entrypoint."""

SHOWN_FRAMES = 5

PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


def put_current_directory_first() -> None:
    """Make the current directory the first place to import from."""
    here = str(Path.cwd())
    if not sys.path or sys.path[0] != here:
        sys.path.insert(0, here)


def load(specs: Iterable[str], has_entrypoint: HasEntrypoint) -> list[object]:
    """Import the modules and pick what to run from them.

    Args:
        specs: ``module`` or ``module:Class``, several.
        has_entrypoint: Tells whether a class is a service.

    Returns:
        Classes, routes, contexts and runners in the order named, each once.

    Raises:
        WrongUsageError: A spec is not of the form ``module[:Class]``.
        FailedError: A module is missing or fails to import, or holds nothing to run.
    """
    found: list[object] = []
    for module_name, class_name in [parse_spec(spec) for spec in specs]:
        module = import_module(module_name)
        picked = pick_class(module, class_name, has_entrypoint) if class_name else pick_all(module, has_entrypoint)
        found += [item for item in picked if not any(item is other for other in found)]
    return found


def parse_spec(spec: str) -> tuple[str, str | None]:
    module, colon, class_name = spec.partition(":")
    if module.endswith(".py") or "/" in module or os.sep in module:
        raise WrongUsageError(f"'{spec}' is a path, expected a module; {dotted(module, colon + class_name)}")
    if not all(part.isidentifier() for part in module.split(".")):
        raise WrongUsageError(f"'{spec}' does not name a module; expected module or module:Class")
    if colon and not class_name.isidentifier():
        raise WrongUsageError(f"'{spec}' does not name a class; expected {module} or {module}:Class")
    return module, class_name or None


def dotted(path: str, rest: str) -> str:
    absolute = Path(path).absolute()
    if Path(path).is_absolute() and not absolute.is_relative_to(Path.cwd()):
        return f"run it from its directory: cd {absolute.parent} and name '{absolute.stem}{rest}'"
    parts = Path(os.path.relpath(absolute)).with_suffix("").parts
    return f"did you mean '{'.'.join(parts)}{rest}'?"


def import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if is_missing(name, error):
            raise FailedError(missing(name)) from None
        raise FailedError(broken(name, error)) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise FailedError(broken(name, error)) from error


def is_missing(name: str, error: ModuleNotFoundError) -> bool:
    """Tell the named module's absence from that of a module which it imports itself."""
    asked_for = error.name is not None and (name == error.name or name.startswith(f"{error.name}."))
    return asked_for and not user_frames(error.__traceback__)


def missing(name: str) -> str:
    parent, _, last = name.rpartition(".")
    if parent in sys.modules and not hasattr(sys.modules[parent], "__path__"):
        return f"there is no module '{name}': '{parent}' is not a package; did you mean '{parent}:{last}'?"
    here = [module.name for module in pkgutil.iter_modules([str(Path.cwd())])]
    near = nearest(name, here)
    hint = f"did you mean '{near}'?" if near else "the current directory comes first, then PYTHONPATH"
    return f"there is no module '{name}' in {Path.cwd()}; {hint}"


def broken(name: str, error: BaseException) -> str:
    """Say what a module raised while it was imported, and where."""
    if isinstance(error, SystemExit):
        what = f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    else:
        what = "".join(traceback.format_exception_only(error)).rstrip()
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "nameko":
        what += "; services written for Nameko run with --nameko"
    lines = [f"'{name}' cannot be imported: {what}"]
    for frame in user_frames(error.__traceback__)[-SHOWN_FRAMES:]:
        lines.append(f"  at {frame.filename}, line {frame.lineno}: {frame.line}")
    return "\n".join(lines)


def user_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """List the frames of a traceback that are neither the import system's nor this package's."""
    frames = traceback.extract_tb(trace)
    own = (PACKAGE, importlib.__file__, "<frozen")
    return [frame for frame in frames if not frame.filename.startswith(own)]


def pick_class(module: ModuleType, name: str, has_entrypoint: HasEntrypoint) -> list[type]:
    found = getattr(module, name, None)
    if found is None:
        raise FailedError(no_such_class(module, name, has_entrypoint))
    if not isinstance(found, type):
        kind = type(found).__name__
        raise FailedError(f"'{module.__name__}:{name}' is a {kind}, not a class; 'run {module.__name__}' takes it all")
    if not has_entrypoint(found):
        raise FailedError(
            f"class {name} in '{module.__name__}' has no entrypoint; "
            'put one on a method, for example @EventListener("payments", "refunded")'
        )
    return [found]


def no_such_class(module: ModuleType, name: str, has_entrypoint: HasEntrypoint) -> str:
    services = [item.__name__ for item in classes(module) if has_entrypoint(item)]
    near = nearest(name, services, limit=max(2, len(name) // 3))
    if near:
        hint = f"did you mean '{module.__name__}:{near}'?"
    else:
        hint = f"its services are {', '.join(services)}" if services else "no class in it has an entrypoint"
    return f"there is no class {name} in '{module.__name__}'; {hint}"


def pick_all(module: ModuleType, has_entrypoint: HasEntrypoint) -> Sequence[object]:
    services = [item for item in classes(module) if has_entrypoint(item) and item.__module__ == module.__name__]
    if services:
        return [item for item in services if not is_mixin(item, services)]
    routes = getattr(module, "routes", None)
    if isinstance(routes, list | tuple) and routes:
        return routes
    runner = getattr(module, "runner", None)
    if runner is None or isinstance(runner, type | ModuleType):
        raise FailedError(nothing_to_run(module, has_entrypoint))
    return [runner]


def is_mixin(item: type, services: Sequence[type]) -> bool:
    """Whether a class is there for others to inherit from: it has no name, and a service that has one is made of it."""
    heirs = [other for other in services if issubclass(other, item) and hasattr(other, "name")]
    return not hasattr(item, "name") and bool(heirs)


def classes(module: ModuleType) -> list[type]:
    return list(dict.fromkeys(item for item in vars(module).values() if isinstance(item, type)))


def nothing_to_run(module: ModuleType, has_entrypoint: HasEntrypoint) -> str:
    name = module.__name__
    imported = [item for item in classes(module) if has_entrypoint(item)]
    if imported:
        first = imported[0]
        hint = f"{first.__name__} is imported into it: name '{name}:{first.__name__}' or '{first.__module__}'"
    else:
        hint = "expected a class with an entrypoint, a list 'routes' or a 'runner'"
    return f"there is nothing to run in '{name}'; {hint}"
