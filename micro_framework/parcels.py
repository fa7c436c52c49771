"""What a runner hands to its copies: its services and its configuration, pickled.

The copies are processes of their own and import what they run: classes and functions travel as the names under which a
module has them, routes with what they hold. What cannot travel is named, with the way out.
"""

import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from micro_framework.assembly import Declared, RunnerContext
from micro_framework.exceptions import CopyFailed, DeclarationError
from micro_framework.routes import Route

__all__ = ["pack", "unpack"]

WAY_OUT = (
    "put it at the top level of a module that can be imported, name it by its dotted path, or start the service with "
    "`micro-framework run module`"
)


def pack(services: Iterable[Declared], config: Mapping[str, Any]) -> bytes:
    """Pickle services and configuration.

    Raises:
        DeclarationError: Lists everything that cannot travel.
    """
    whole = (tuple(services), dict(config))
    if trouble_with(whole) is not None and (problems := list(problems_in(*whole))):
        raise DeclarationError("the service cannot run in several processes as it is declared", problems)
    return pickle.dumps(whole)


def unpack(parcel: bytes) -> tuple[tuple[Declared, ...], dict[str, Any]]:
    """What `pack` was given; this imports the modules that it is from.

    Raises:
        CopyFailed: They cannot be imported here.
    """
    try:
        services, config = pickle.loads(parcel)  # noqa: S301 - made by the process that started this one
    except Exception as error:
        raise CopyFailed(
            f"a copy cannot load the services that it was given: {type(error).__name__}: {error}; {WAY_OUT}"
        ) from error
    return services, config


def problems_in(services: tuple[Declared, ...], config: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each part that cannot travel."""
    for service in services:
        for where, part in parts_of(service):
            if (trouble := trouble_with(part)) is not None:
                yield f"{where} cannot be handed to other processes ({trouble}); {WAY_OUT}"
    for key, value in config.items():
        if (trouble := trouble_with(value)) is not None:
            yield f"the configuration's {key} cannot be handed to other processes ({trouble}); use plain values"


def parts_of(service: Declared) -> Iterator[tuple[str, object]]:
    """The parts of what was declared, each with its name."""
    if isinstance(service, RunnerContext):
        for route in service.routes:
            yield from parts_of(route)
    elif isinstance(service, Route):
        name = service.target if isinstance(service.target, str) else getattr(service.target, "__qualname__", "?")
        for attribute, value in vars(service).items():
            yield f"{attribute} of Route({name})", value
    else:
        yield f"class {service.__qualname__}", service


def trouble_with(value: object) -> str | None:
    """Why a value cannot travel; None where it can."""
    try:
        pickled = pickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - whatever the __reduce__ of a user's object raises
        return str(error)
    if b"__main__" in pickled and not has_file(sys.modules["__main__"]):
        return "it is defined in a session, and a session has no file to import"
    return None


def has_file(main: object) -> bool:
    """Whether the main module can be imported by another process."""
    return getattr(main, "__file__", None) is not None or getattr(main, "__spec__", None) is not None
