"""What a worker process builds its targets from, as plain data; and what of a service cannot be told that way.

Classes and functions are told by module and name, so the process imports them; dotted paths are told as they are. What
a route holds besides (dependencies, translators) is told by value, and so is the configuration.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, NamedTuple

from micro_framework.config import Settings
from micro_framework.spawners.log_mirror import LoggerState
from micro_framework.spawners.main_module import MAIN, MainModule, main_module
from micro_framework.targets import WantedTargets
from micro_framework.translators import MessageTranslator
from micro_framework.workers import Worker

__all__ = ["Birth", "Blueprint", "RoutePlan"]


class RoutePlan(NamedTuple):
    """One route, as a worker process needs it.

    Args:
        where: The route in the user's code, for messages.
        service: The service's name.
        name: What the service takes the target's name to be.
        wanted: Its target and callback.
        translators: The route's translators.
        worker_class: Runs the calls.
        called_from_outside: Whether a caller chooses the arguments, see `Plan.of`.
    """

    where: str
    service: str
    name: str
    wanted: WantedTargets
    translators: tuple[MessageTranslator, ...]
    worker_class: type[Worker]
    called_from_outside: bool = False


@dataclass(slots=True)
class Blueprint:
    """A pool's routes and what they run in. Put together in the service, sent to each worker process.

    Args:
        settings: The configuration.
        context: The pool's name.
        workers: How many workers the pool has.
        prefetch: How many deliveries a consumer of it holds.
        routes: Its routes; a request names one by its number.
    """

    settings: Settings
    context: str
    workers: int
    prefetch: int
    routes: list[RoutePlan] = field(default_factory=list)

    def pack(self) -> tuple[bytes, MainModule | None, list[str]]:
        """The blueprint as bytes, the main module if it needs that, and why it cannot be sent, a sentence each."""
        problems = [*config_problems(self.settings.raw)]
        for route in self.routes:
            problems += [f"{route.where}: {problem}" for problem in route_problems(route)]
        if problems:
            return b"", None, problems
        packed = pickle.dumps(self)
        if MAIN.encode() not in packed:
            return packed, None, []
        main = main_module()
        return packed, main, [] if main else [NO_MAIN]

    @staticmethod
    def unpack(packed: bytes) -> "Blueprint":
        """The blueprint, in a worker process; imports what the service is made of.

        Raises:
            BaseException: Whatever that raises.
        """
        blueprint: Blueprint = pickle.loads(packed)  # noqa: S301 - from the service of this process
        return blueprint


class Birth(NamedTuple):
    """What a process is told first; pickled as it is.

    Args:
        argv: The service's ``sys.argv``.
        main: The service's main module, if the blueprint names it.
        logging: ``LOGGING``, pickled; None where there is none.
        loggers: What was set on the service's loggers, where there is none.
        blueprint: See `Blueprint.pack`.
    """

    argv: list[str]
    main: MainModule | None
    logging: bytes | None
    loggers: tuple[LoggerState, ...]
    blueprint: bytes


WAY_OUT = "or use WORKER_MODE thread"

NO_MAIN = (
    "part of the service is defined in __main__, and that is no file which a worker process could read (an interactive "
    f"session?); define it in a module, {WAY_OUT}"
)


def config_problems(config: Mapping[Any, Any]) -> Iterator[str]:
    """Values of the configuration that cannot be sent."""
    for key, value in config.items():
        if (problem := sending_problem(value)) is not None:
            yield f"the configuration's {key!r} cannot be sent to a worker process: {problem}"


def route_problems(route: RoutePlan) -> Iterator[str]:
    """What of a route cannot be sent."""
    wanted = route.wanted
    parts = {
        "its target": wanted.target,
        "its callback": wanted.callback,
        "its worker_class": route.worker_class,
        **{f"its dependency {name!r}": dependency for name, dependency in wanted.dependencies.items()},
        **{f"its translator {type(each).__qualname__}": each for each in route.translators},
    }
    for what, part in parts.items():
        if (problem := sending_problem(part)) is not None:
            yield f"{what} cannot be sent to a worker process: {problem}"


def sending_problem(value: object) -> str | None:
    """Why a value cannot be sent, with the way out; None if it can."""
    try:
        pickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - whatever a user's __reduce__ raises
        return explained(value, error)
    return None


def explained(value: object, error: Exception) -> str:
    """What keeps a value from being pickled."""
    named: Callable[..., Any] | type = value if isinstance(value, type | FunctionType) else type(value)
    name = f"{named.__module__}.{named.__qualname__}"
    if "<lambda>" in name:
        return f"{name} is a lambda, which cannot be imported; define a function in a module, {WAY_OUT}"
    if "<locals>" in name:
        return f"{name} is defined inside a function and cannot be imported; define it in a module, {WAY_OUT}"
    return f"{name}: {type(error).__name__}: {error}; {WAY_OUT.removeprefix('or ')}"
