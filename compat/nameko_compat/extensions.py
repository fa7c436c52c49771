"""Nameko's extensions: what a service declares, and what third-party packages subclass.

A *prototype* stands in the class; a container binds a copy of it, made by calling the class again with the arguments of
the prototype, and with its sub-extensions bound to the same container. Hooks: ``setup()``, ``start()``, ``stop()`` and
``kill()`` of every extension; ``get_dependency``, ``worker_setup``, ``worker_result`` and ``worker_teardown`` of a
dependency provider, in this order around every call.

``parts()`` is this project's own: what of micro_framework an extension works with. The container binds those too.
``described()`` is as well: what ``micro-framework routes`` shows.
"""

import inspect
import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from types import FunctionType
from typing import Any, ClassVar, Self

from micro_framework import extensions as own
from micro_framework.calls import Attempt
from micro_framework.retry import AsyncBackOff
from nameko_compat.exceptions import IncorrectSignature
from nameko_compat.green.timeout import wait_for

__all__ = [
    "ENTRYPOINT_EXTENSIONS_ATTR",
    "DependencyProvider",
    "Entrypoint",
    "Extension",
    "ProviderCollector",
    "SharedExtension",
    "is_dependency",
    "is_entrypoint",
    "is_extension",
    "iter_extensions",
    "register_entrypoint",
]

logger = logging.getLogger(__name__)

ENTRYPOINT_EXTENSIONS_ATTR = "nameko_entrypoints"


class Extension:
    """Base class of all that a service can declare. ``__init__`` runs again when it is bound: no side effects there."""

    container: Any = None
    """The container it is bound to; None for a prototype."""

    _init_arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        made._init_arguments = (args, kwargs)
        return made

    def setup(self) -> None:
        """Get ready; called on every bound extension before any is started."""

    def start(self) -> None:
        """Begin to work; called once every extension has been set up."""

    def stop(self) -> None:
        """End gracefully."""

    def kill(self) -> None:
        """End at once, without raising."""

    def parts(self) -> Mapping[str, own.Extension]:
        """What of micro_framework it works with, by the attribute to put the bound copy in."""
        return {}

    def described(self) -> dict[str, Any]:
        """What this bound declaration is, as plain data for ``micro-framework routes``; ``kind`` and what it names."""
        return {"kind": type(self).__name__}

    def bind(self, container: Any, *args: Any) -> Self:
        """A copy that works for a container.

        Raises:
            RuntimeError: This one is such a copy.
        """
        if self.is_bound():
            raise RuntimeError("a bound extension cannot be bound again; bind its prototype")
        init_args, init_kwargs = self._init_arguments
        bound = type(self)(*init_args, **init_kwargs)
        bound.container = container
        for name, nested in inspect.getmembers(self, is_extension):
            setattr(bound, name, nested.bind(container))
        return bound

    def is_bound(self) -> bool:
        """Whether it works for a container."""
        return self.container is not None

    def bound_to(self) -> str:
        """Where it is bound, for people."""
        return f"[{self.container.service_name}]" if self.is_bound() else "[unbound]"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.bound_to()} at 0x{id(self):x}>"


class SharedExtension(Extension):
    """An extension that a container has once for each `sharing_key`, however many declare it."""

    @property
    def sharing_key(self) -> Any:
        """What makes two declarations the same one; something hashable."""
        return type(self)

    def bind(self, container: Any, *args: Any) -> Self:
        """The container's one copy."""
        shared: dict[Hashable, Self] = container.shared_extensions
        if self.sharing_key not in shared:
            shared[self.sharing_key] = super().bind(container)
        return shared[self.sharing_key]


class DependencyProvider(Extension):
    """Gives each call something to work with, as an attribute of its service instance."""

    attr_name: str | None = None

    def bind(self, container: Any, attr_name: str = "", *args: Any) -> Self:
        """A copy that works for a container, as the attribute of this name."""
        bound = super().bind(container)
        bound.attr_name = self.attr_name = attr_name
        return bound

    def get_dependency(self, worker_ctx: Any) -> Any:
        """What the call's service instance gets; called before every call."""

    def worker_setup(self, worker_ctx: Any) -> None:
        """Called before the method, when every dependency has been injected."""

    def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
        """Called when the call has ended and its message has been answered or acknowledged."""

    def worker_teardown(self, worker_ctx: Any) -> None:
        """Called last."""

    def bound_to(self) -> str:
        """Service and attribute."""
        return f"[{self.container.service_name}.{self.attr_name}]" if self.is_bound() else "[unbound]"


class ProviderCollector:
    """A mix-in for a shared extension that works for several others: they register, and it waits for them at stop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._providers: set[Any] = set()
        self._providers_registered = False
        self._last_provider_unregistered = threading.Event()
        super().__init__(*args, **kwargs)

    def register_provider(self, provider: Any) -> None:
        """Note one that it works for."""
        self._providers_registered = True
        self._providers.add(provider)

    def unregister_provider(self, provider: Any) -> None:
        """Forget it; of one that is not there, nothing is said."""
        if provider in self._providers:
            self._providers.remove(provider)
            if not self._providers:
                self._last_provider_unregistered.set()

    def wait_for_providers(self) -> None:
        """Wait until all have unregistered, at most for the container's ``SHUTDOWN_TIMEOUT``."""
        seconds = getattr(getattr(self, "container", None), "stop_seconds", 30.0)
        if self._providers_registered and not wait_for(self._last_provider_unregistered.wait, seconds):
            logger.warning("%s: %s have not unregistered within %g s", self, self._providers, seconds)

    def stop(self) -> None:
        """Wait for them."""
        self.wait_for_providers()


def register_entrypoint(fn: Callable[..., Any], entrypoint: "Entrypoint") -> None:
    """Note on a function that an entrypoint drives it."""
    noted: set[Entrypoint] = getattr(fn, ENTRYPOINT_EXTENSIONS_ATTR, set())
    noted.add(entrypoint)
    setattr(fn, ENTRYPOINT_EXTENSIONS_ATTR, noted)


class Entrypoint(Extension):
    """Makes a method run: by ``self.container.spawn_worker(self, args, kwargs, ...)``.

    Args:
        expected_exceptions: Exception classes that are the caller's affair: logged as warnings.
        sensitive_arguments: Names of arguments, or paths into them, that no log shows.
    """

    method_name: str | None = None

    not_called: ClassVar[tuple[str, ...]] = ()
    """Methods that Nameko's class has and that nothing would call here: a subclass must not have them."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse what would silently do nothing.

        Raises:
            NotImplementedError: The class overrides what is not called.
        """
        super().__init_subclass__(**kwargs)
        if found := [name for name in cls.not_called if name in vars(cls)]:
            raise NotImplementedError(
                f"{cls.__qualname__}.{found[0]} would never be called: in nameko_compat messages do not go through it; "
                "use a dependency's worker_result, or an entrypoint of your own"
            )

    def __init__(self, expected_exceptions: Any = (), sensitive_arguments: Any = (), **kwargs: Any) -> None:
        self.expected_exceptions = expected_exceptions
        self.sensitive_arguments = kwargs.pop("sensitive_variables", ()) or sensitive_arguments
        super().__init__(**kwargs)

    def bind(self, container: Any, method_name: str = "", *args: Any) -> Self:
        """A copy that works for a container, for the method of this name."""
        bound = super().bind(container)
        bound.method_name = method_name
        return bound

    def route_entrypoint(self) -> Any:
        """What of micro_framework drives the method; None: `spawn_worker` alone does."""
        return None

    backoff: ClassVar[AsyncBackOff | None] = None
    """What is tried again, and when; ours, as ``route_entrypoint``."""

    def failed_with(self, error: BaseException, attempt: Attempt) -> BaseException:
        """What a call failed with that raised this in this attempt; ours."""
        return error

    def check_signature(self, args: Any, kwargs: Any) -> None:
        """Whether arguments fit the method.

        Raises:
            IncorrectSignature: They do not.
        """
        method = getattr(self.container.service_cls, self.method_name or "")
        try:
            inspect.getcallargs(method, None, *args, **kwargs)
        except TypeError as error:
            raise IncorrectSignature(str(error)) from error

    @classmethod
    def decorator(cls, *args: Any, **kwargs: Any) -> Any:
        """Use as ``@name`` or ``@name(...)``: the function stays what it is, and this entrypoint drives it."""
        if len(args) == 1 and not kwargs and isinstance(args[0], FunctionType):
            register_entrypoint(args[0], cls())
            return args[0]

        def registering(function: Callable[..., Any]) -> Callable[..., Any]:
            register_entrypoint(function, cls(*args, **kwargs))
            return function

        return registering

    def bound_to(self) -> str:
        """Service and method."""
        return f"[{self.container.service_name}.{self.method_name}]" if self.is_bound() else "[unbound]"


def is_extension(obj: object) -> bool:
    """Whether it is an extension."""
    return isinstance(obj, Extension)


def is_dependency(obj: object) -> bool:
    """Whether it is a dependency provider."""
    return isinstance(obj, DependencyProvider)


def is_entrypoint(obj: object) -> bool:
    """Whether it is an entrypoint."""
    return isinstance(obj, Entrypoint)


def iter_extensions(extension: Extension) -> Iterator[Extension]:
    """The sub-extensions of an extension, the innermost first."""
    for _, nested in inspect.getmembers(extension, is_extension):
        yield from iter_extensions(nested)
        yield nested
