"""Targets: the user's code, found, checked once, and run.

A target is a method of a service class, a function, a dotted path to either, a class with a method name, or a class
with ``__call__``. `Target` is what all of them become when a runner is built; per call only `Target.run` happens.
"""

import functools
import inspect
import pkgutil
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from micro_framework.calls import Call
from micro_framework.dependencies import Dependency, injected
from micro_framework.signatures import ArgumentCheck, described_parameters

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "Dependencies",
    "FoundTargets",
    "Target",
    "WantedTargets",
    "class_dependencies",
    "close_event_loop",
    "deferred_target",
    "find_target",
    "find_targets",
    "owner_problems",
    "raised_in",
    "resolve",
    "signature_problem",
]

Dependencies = tuple[tuple[str, Dependency[Any]], ...]
"""Names and dependencies, declared or bound."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """The user's code and what it wants to be given.

    Args:
        name: Its name in queue names, call ids and logs: the method's or function's own.
        function: What to call; for classes it takes the instance first.
        owner: The class a fresh instance of which is made for every call, None for a function.
        attributes: Dependencies to put on that instance.
        keywords: Dependencies to pass as keyword arguments.
        is_async: Whether calling it returns a coroutine.
    """

    name: str
    function: Callable[..., Any]
    owner: type | None
    attributes: Dependencies
    keywords: Dependencies
    is_async: bool

    @property
    def description(self) -> str:
        """``Class.method`` or ``module.function``, for messages."""
        return f"{self.owner.__name__}.{self.name}" if self.owner else f"{self.function.__module__}.{self.name}"

    def bound(self, bind: Callable[[Dependency[Any]], Dependency[Any]]) -> "Target":
        """The same target with every dependency bound."""
        return replace(
            self,
            attributes=tuple((name, bind(dependency)) for name, dependency in self.attributes),
            keywords=tuple((name, bind(dependency)) for name, dependency in self.keywords),
        )

    def argument_check(self) -> ArgumentCheck:
        """What tells whether a caller's arguments fit it."""
        names = [name for name, _ in self.keywords]
        return ArgumentCheck(self.function, is_method=self.owner is not None, injected=names)

    def parameters(self) -> list[dict[str, Any]]:
        """What a caller may give it, as `described_parameters` has it."""
        names = [name for name, _ in self.keywords]
        return described_parameters(self.function, is_method=self.owner is not None, injected=names)

    def takes(self, name: str) -> bool:
        """Whether it can be given a keyword argument of this name."""
        return accepts(self.function, name)

    def run(self, call: Call, attributes: Values, keywords: Values) -> Any:
        """Call it, in the calling thread.

        Args:
            call: Positional and keyword arguments.
            attributes: What to put on the fresh instance, by name.
            keywords: What to pass beside the call's own arguments.

        Raises:
            BaseException: Whatever the user's code raises.
        """
        kwargs = {**call.kwargs, **keywords} if keywords else call.kwargs
        if self.owner is None:
            result = self.function(*call.args, **kwargs)
        else:
            instance = self.owner()
            instance.__dict__.update(attributes)
            result = self.function(instance, *call.args, **kwargs)
        return run_coroutine(result) if self.is_async else result


def find_target(target: object, method_name: str | None = None, dependencies: Values | None = None) -> Target:
    """Make a target of whatever a route names.

    Args:
        target: A dotted path, a function, or a class.
        method_name: The method, where the target is a class; None: ``__call__``.
        dependencies: The route's dependencies; those the target does not take are left out.

    Raises:
        ValueError: It is none of these; the message says what was found instead.
    """
    found = resolve(target) if isinstance(target, str) else target
    if isinstance(found, type):
        return class_target(found, method_name or "__call__", dependencies or {})
    if method_name is not None:
        raise ValueError(f"method_name={method_name!r} goes with a class, and {describe(target)} is {kind(found)}")
    if not callable(found):
        raise ValueError(
            f"{describe(target)} is {kind(found)}; a target is a function, a class or a dotted path to one"
        )
    return function_target(found, dependencies or {})


@dataclass(frozen=True, slots=True)
class WantedTargets:
    """What a route says of its target and its callback; plain data, so that a worker process can be told.

    Args:
        target: A dotted path, a function, or a class.
        method_name: The method, where the target is a class.
        dependencies: The route's dependencies.
        callback: The callback, None for none.
        callback_method: Its method, where it is one of a class.
        arguments: What the target is called with, by position, so that signatures can be checked; None: not known.
    """

    target: object
    method_name: str | None
    dependencies: Values
    callback: object | None
    callback_method: str | None
    arguments: tuple[str, ...] | None


@dataclass(slots=True)
class FoundTargets:
    """What became of `WantedTargets`.

    Args:
        target: The target, None where there is none by that name.
        callback: The callback, likewise.
        problems: What keeps them from being found or called, one sentence each.
    """

    target: Target | None = None
    callback: Target | None = None
    problems: list[str] = field(default_factory=list)

    def unused(self, wanted: WantedTargets) -> list[str]:
        """The names of the dependencies that neither target nor callback takes."""
        if self.target is None:
            return []
        taken = {name for found in (self.target, self.callback) if found is not None for name, _ in found.keywords}
        return sorted({**wanted.dependencies, **injected(self.target.function)}.keys() - taken)


def find_targets(wanted: WantedTargets, *, import_paths: bool = True) -> FoundTargets:
    """Find and check a route's target and callback.

    Args:
        wanted: What the route says.
        import_paths: Whether what a dotted path names may be imported here; otherwise a stand-in takes its place.
    """
    found = FoundTargets()
    find: Callable[..., Target] = find_target if import_paths else found_or_deferred
    try:
        found.target = find(wanted.target, wanted.method_name, wanted.dependencies)
        found.problems += owner_problems(found.target)
    except (ValueError, ImportError) as error:
        found.problems.append(str(error))
    try:
        if wanted.callback is not None:
            found.callback = find(wanted.callback, wanted.callback_method, wanted.dependencies)
    except (ValueError, ImportError) as error:
        found.problems.append(f"its callback: {error}")
    found.problems += signature_problems(wanted.arguments, found)
    return found


def signature_problems(arguments: tuple[str, ...] | None, found: FoundTargets) -> Iterator[str]:
    """Arguments that a target or callback will be given and does not take, or misses; every call would fail."""
    if arguments is None:
        return
    for target, role in ((found.target, ""), (found.callback, "its callback: ")):
        problem = target and signature_problem(target, arguments, takes_exception=target is found.callback)
        if problem:
            yield role + problem


def found_or_deferred(target: object, method_name: str | None, dependencies: Values) -> Target:
    """A target that is at hand, and a stand-in for one that only has a name."""
    find = deferred_target if isinstance(target, str) else find_target
    return find(target, method_name, dependencies)  # type: ignore[arg-type]


def deferred_target(path: str, method_name: str | None = None, dependencies: Values | None = None) -> Target:
    """A stand-in for a target that only worker processes import: it has the name, takes everything, and cannot run.

    Raises:
        ValueError: It is no dotted path.
    """
    require_dotted(path)
    return function_target(stand_in(path, method_name), dependencies or {})


@functools.cache
def stand_in(path: str, method_name: str | None) -> Callable[..., Any]:
    """One and the same function for a path, so that two routes to one target are seen to be that."""

    def only_in_worker_processes(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"{path!r} is imported in worker processes only")

    parts = path.replace(":", ".").split(".")
    only_in_worker_processes.__name__ = method_name or parts[-1]
    only_in_worker_processes.__module__ = parts[-1] if method_name else ".".join(parts[:-1])
    return only_in_worker_processes


def function_target(function: Callable[..., Any], dependencies: Values) -> Target:
    """The target that a function is."""
    name = getattr(function, "__name__", type(function).__name__)
    keywords = keyword_dependencies(function, {**dependencies, **injected(function)})
    return Target(name, function, None, (), keywords, is_coroutine_function(function))


def class_target(owner: type, method_name: str, dependencies: Values) -> Target:
    """The target that a method of a class is."""
    function = getattr(owner, method_name, None)
    # type.__call__ makes every class look callable: only a __call__ that a class in the hierarchy defines counts.
    where = f"{owner.__module__}.{owner.__qualname__}"
    if function is None or not callable(function) or not any(method_name in vars(cls) for cls in owner.__mro__):
        fix = "; name a method with method_name=" if method_name == "__call__" else ""
        raise ValueError(f"{where} has no method {method_name!r}{fix}")
    if isinstance(inspect.getattr_static(owner, method_name), staticmethod | classmethod):
        raise ValueError(f"{where}.{method_name} is static, and a worker calls it on an instance; let it take self")
    wanted = {**dependencies, **injected(owner), **injected(function)}
    name = owner.__name__ if method_name == "__call__" else method_name
    attributes = class_dependencies(owner)
    return Target(
        name, function, owner, attributes, keyword_dependencies(function, wanted), is_coroutine_function(function)
    )


def class_dependencies(owner: type) -> Dependencies:
    """The dependencies a class declares as attributes, its own and its bases', the nearest in the MRO winning."""
    found: dict[str, object] = {}
    for cls in owner.__mro__:
        for name, value in vars(cls).items():
            found.setdefault(name, value)
    return tuple((name, value) for name, value in found.items() if isinstance(value, Dependency))


def keyword_dependencies(function: Callable[..., Any], wanted: Values) -> Dependencies:
    """Those of the wanted dependencies that a function takes."""
    return tuple((name, dependency) for name, dependency in wanted.items() if accepts(function, name))


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes a keyword argument of this name."""
    parameters = parameters_of(function)
    if parameters is None:
        return True
    parameter = parameters.get(name)
    if parameter is not None:
        return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return any(other.kind is other.VAR_KEYWORD for other in parameters.values())


@functools.cache
def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """A function's parameters, None where they cannot be had (some built-in functions)."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether a callable is an ``async def``, itself or by its ``__call__``."""
    call = getattr(function, "__call__", None)  # noqa: B004 - wanted as a value, not to tell whether it is callable
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def owner_problems(target: Target) -> Iterator[str]:
    """Why a worker could not make and equip instances of the target's class."""
    owner = target.owner
    if owner is None:
        return
    if not has_instance_dict(owner) and class_dependencies(owner):
        yield f"{owner.__qualname__} has __slots__ and no __dict__, so nothing can be injected; leave out __slots__"
    yield from forgotten_parentheses(owner)
    if parameters := required_parameters(owner):
        yield f"{owner.__qualname__}.__init__ needs {', '.join(parameters)}; a worker makes instances without arguments"


def signature_problem(target: Target, arguments: tuple[str, ...], *, takes_exception: bool = False) -> str | None:
    """Why a target cannot be called the way its entrypoint will, None if it can.

    Args:
        target: The target with its dependencies.
        arguments: The positional arguments, by name.
        takes_exception: Whether it is given ``exception`` if it takes one, as callbacks are.
    """
    names = [name for name, _ in target.keywords]
    if takes_exception and target.takes("exception"):
        names.append("exception")
    try:
        # A decorator of the user's may add or drop arguments: what it wraps says nothing of what it takes itself.
        signature = inspect.signature(target.function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    given = ("self", *arguments) if target.owner else arguments
    try:
        signature.bind(*given, **dict.fromkeys(names))
    except TypeError as error:
        call = f"{target.name}({', '.join([*given, *(f'{name}=...' for name in names)])})"
        return f"it is called as {call}, and its signature {signature} does not take that: {error}"
    return None


def forgotten_parentheses(owner: type) -> Iterator[str]:
    """Attributes that are a class of extensions where an instance is wanted: ``dispatch = Producer``."""
    for cls in owner.__mro__:
        for name, value in vars(cls).items():
            # A class defined in the body of the service is there under its own name.
            if isinstance(value, type) and issubclass(value, Dependency) and name != value.__name__:
                yield f"{cls.__qualname__}.{name} is the class {value.__name__}; write {name} = {value.__name__}(...)"


def has_instance_dict(owner: type) -> bool:
    """Whether instances of a class have a ``__dict__``."""
    return any("__dict__" in vars(cls) for cls in owner.__mro__)


def required_parameters(owner: type) -> list[str]:
    """The arguments without which a class cannot be instantiated."""
    try:
        parameters = inspect.signature(owner).parameters.values()
    except (TypeError, ValueError):
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def resolve(path: str) -> object:
    """What a dotted path names, importing what it needs.

    Raises:
        ValueError: It names nothing; says which part is missing.
    """
    require_dotted(path)
    try:
        return pkgutil.resolve_name(path)
    except ModuleNotFoundError as error:
        raise ValueError(f"{path!r} cannot be imported: there is no module {error.name!r}") from error
    except AttributeError as error:
        raise ValueError(f"{path!r} names nothing: {error}") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise ValueError(f"{path!r} cannot be imported: {raised_in(error)}") from error


def require_dotted(path: str) -> None:
    """Refuse a name that cannot be a dotted path."""
    if "." not in path and ":" not in path:
        raise ValueError(f"{path!r} is not a dotted path; write module.function")


def raised_in(error: BaseException) -> str:
    """What was raised, and the file and line where."""
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} (at {frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def describe(target: object) -> str:
    """A target as the user wrote it."""
    return repr(target) if isinstance(target, str) else getattr(target, "__qualname__", repr(target))


def kind(value: object) -> str:
    """What a value is, with an article."""
    if callable(value):
        return "a function"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


class EventLoops(threading.local):
    """One event loop per worker thread, made when the first ``async def`` target runs there."""

    runner: "asyncio.Runner | None" = None


loops = EventLoops()


def run_coroutine(coroutine: Any) -> Any:
    """Run a coroutine to its end in this thread."""
    if loops.runner is None:
        import asyncio  # here, because few services have such targets, and it costs every start

        loops.runner = asyncio.Runner()
    return loops.runner.run(coroutine)


def close_event_loop() -> None:
    """Close this thread's event loop, if it has one; a worker thread calls it as its last act."""
    if loops.runner is not None:
        loops.runner.close()
        loops.runner = None
