"""Dependencies: what a target is given to work with.

On a class a dependency is a typed descriptor: ``Orders.dispatch`` is the declaration, ``self.dispatch`` the thing the
worker put there. On functions and routes they are passed as keyword arguments, see `inject`.
"""

import logging
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from micro_framework.calls import Call
from micro_framework.exceptions import NotInjected
from micro_framework.extensions import Extension, Host
from micro_framework.logs import call_fields

__all__ = ["CallContext", "CallInfo", "Config", "Dependency", "Logger", "RunningCall", "inject", "injected"]

T = TypeVar("T")
Target = TypeVar("Target", bound=Callable[..., Any])

INJECTED = "__micro_framework_inject__"


class RunningCall(Protocol):
    """What a dependency may know of the call it is made for."""

    @property
    def call(self) -> Call:
        """The call; its ``context`` is its own dict, and what is put there goes out with what the call sends."""

    @property
    def host(self) -> Host:
        """The host of the route."""


class Dependency(Extension, Generic[T]):
    """Base class of dependencies; subclass it and define `get_dependency`.

    One bound copy serves all workers of its process: it must be thread safe. ``T`` is what the target gets.
    """

    name: str | None = None
    """The attribute it is assigned to on a class."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: Extension, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        # A non-data descriptor: what a worker puts into the instance's dict wins, so this runs only without it.
        if instance is None or isinstance(instance, Extension):
            return self
        raise NotInjected(
            f"{owner.__name__}.{self.name} is a dependency and this {owner.__name__} was not made by a worker, so "
            f"nothing was injected; in tests use micro_framework.testing.worker_for({owner.__name__}, {self.name}=...)"
        )

    def sharing_key(self, host: Host) -> Hashable:
        """One bound copy per declaration and service: a mixin's dependency may serve several services."""
        return (id(self), host.service)

    def get_dependency(self, worker: RunningCall) -> T:
        """What this call's target gets; called before each call, in its worker.

        Raises:
            Exception: The call is not run; its message goes back and is delivered again after a pause.
        """
        raise NotImplementedError(f"{type(self).__name__} must define get_dependency(worker)")

    def after_call(self, worker: RunningCall, result: Any, exc: BaseException | None) -> None:
        """Called in the worker after the call ended, whether it succeeded or not.

        Args:
            worker: As `get_dependency` got it.
            result: What the target returned, None if it raised.
            exc: What it raised, None if it returned.
        """


def inject(**dependencies: Dependency[Any]) -> Callable[[Target], Target]:
    """Pass dependencies to a function, a method or a class as keyword arguments of these names.

    Returns:
        A decorator that notes the dependencies on its target and returns it unchanged.

    Raises:
        TypeError: One of them is no dependency.
    """
    for name, dependency in dependencies.items():
        if not is_dependency(dependency):
            raise TypeError(f"inject({name}=...) takes an instance such as Producer(), not {dependency!r}")

    def note(target: Target) -> Target:
        setattr(target, INJECTED, {**injected(target), **dependencies})
        return target

    return note


def is_dependency(value: object) -> bool:
    """``isinstance`` for a value whose type is only declared."""
    return isinstance(value, Dependency)


def injected(target: object) -> Mapping[str, Dependency[Any]]:
    """The dependencies that `inject` noted on a target, by name."""
    found: Mapping[str, Dependency[Any]] = getattr(target, INJECTED, {})
    return found


class Config(Dependency[Mapping[str, Any]]):
    """The configuration as it was given, read-only by convention."""

    def get_dependency(self, worker: RunningCall) -> Mapping[str, Any]:
        """The mapping that the runner was given."""
        return worker.host.settings.raw


class CallInfo:
    """Who is calling: ids and context data of one call."""

    __slots__ = ("data", "identity")

    def __init__(self, call: Call) -> None:
        self.identity = call.identity
        # Each call has a dict of its own, though its type only promises a mapping.
        self.data: MutableMapping[str, Any] = call.context  # type: ignore[assignment]
        """Context data; what is put here goes out with every event and call that this call sends, as in Nameko."""

    @property
    def call_id(self) -> str:
        """``service.method.uuid`` of this call."""
        return self.identity.call_id

    @property
    def call_id_stack(self) -> Sequence[str]:
        """The ids of the calls that led here, oldest first, this one last."""
        return self.identity.stack

    @property
    def origin_call_id(self) -> str | None:
        """The id of the call that began it all, None for this one."""
        return self.identity.origin

    @property
    def immediate_parent_call_id(self) -> str | None:
        """The id of the call that sent this one, None where nothing did."""
        return self.identity.parent


class CallContext(Dependency[CallInfo]):
    """Call id, call id stack and context data of the running call."""

    def get_dependency(self, worker: RunningCall) -> CallInfo:
        """The running call's `CallInfo`."""
        return CallInfo(worker.call)


class Logger(Dependency["logging.LoggerAdapter[logging.Logger]"]):
    """A logger whose records carry ``service``, ``method``, ``call_id`` and ``origin_call_id`` of its call.

    Args:
        name: The logger's name; None: ``<service>.<method>``.
    """

    def __init__(self, name: str | None = None) -> None:
        self.logger_name = name

    def get_dependency(self, worker: RunningCall) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger bound to the running call."""
        identity = worker.call.identity
        name = self.logger_name or f"{identity.service}.{identity.method}"
        return logging.LoggerAdapter(logging.getLogger(name), call_fields(identity))
