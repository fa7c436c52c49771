"""Testing services: an instance with doubles, a running container that is called directly or waited for."""

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock

from nameko_compat.exceptions import ExtensionNotFound
from nameko_compat.extensions import DependencyProvider, Entrypoint, is_dependency
from nameko_compat.testing.utils import get_extension
from nameko_compat.testing.waiting import WaitResult

__all__ = [
    "EntrypointWaiterTimeout",
    "MockDependencyProvider",
    "Once",
    "dummy",
    "entrypoint_hook",
    "entrypoint_waiter",
    "once",
    "replace_dependencies",
    "restrict_entrypoints",
    "worker_factory",
]

WaiterCallback = Callable[[Any, Any, Any], object]


class EntrypointWaiterTimeout(Exception):
    """The entrypoint did not fire, or its call did not end, in time."""


class CallWatch:
    """Watches the calls of a container until one that is wanted has been torn down. Thread safe.

    Args:
        container: The container.
        wanted: Gets worker context, result and ``exc_info`` of each call that ends; whether it is the one.
    """

    def __init__(self, container: Any, wanted: WaiterCallback) -> None:
        self.container = container
        self.wanted = wanted
        self.result = WaitResult()
        self.over = threading.Event()
        self.guard = threading.RLock()
        self.worker_ctx: Any = None

    def __call__(self, what: str, worker_ctx: Any, result: Any, exc_info: Any) -> None:
        with self.guard:
            if what == "ended":
                self.over.set()
            elif what == "result" and self.worker_ctx is None and self.wanted(worker_ctx, result, exc_info):
                self.worker_ctx = worker_ctx
                self.result.send(result, exc_info)
            elif what == "teardown" and self.worker_ctx is worker_ctx:
                self.over.set()

    def __enter__(self) -> "CallWatch":
        self.container.watchers.append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.container.watchers.remove(self)

    def wait(self, deadline: float | None) -> bool:
        """Wait for it, until a time of ``time.monotonic()``; whether it was there, or the container ended."""
        return self.over.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))


def deadline_in(seconds: float | None) -> float | None:
    """When so many seconds have passed, by ``time.monotonic()``."""
    return None if seconds is None else time.monotonic() + seconds


def too_late(container: Any, method_name: str, seconds: float | None) -> EntrypointWaiterTimeout:
    """What is raised then."""
    return EntrypointWaiterTimeout(f"Timeout on {container.service_name}.{method_name} after {seconds} seconds")


@contextmanager
def entrypoint_hook(
    container: Any, method_name: str, context_data: Any = None, timeout: float | None = 30
) -> Iterator[Callable[..., Any]]:
    """Call a method of a running container as its entrypoint would: gives a function with the method's arguments.

    Args:
        container: The container.
        method_name: The method.
        context_data: The call's context data.
        timeout: Seconds that a call may take; None: any time.

    Raises:
        ExtensionNotFound: Nothing drives a method of that name.
    """
    entrypoint = get_extension(container, Entrypoint, method_name=method_name)
    if entrypoint is None:
        raise ExtensionNotFound(f"No entrypoint for '{method_name}' found on container {container}.")

    def hook(*args: Any, **kwargs: Any) -> Any:
        deadline, mine = deadline_in(timeout), object()

        def handle_result(worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
            worker_ctx.hook = mine
            return result, exc_info

        def is_mine(worker_ctx: Any, result: Any, exc_info: Any) -> bool:
            return getattr(worker_ctx, "hook", None) is mine

        with CallWatch(container, is_mine) as watch:
            container.spawn_worker(entrypoint, args, kwargs, context_data=context_data, handle_result=handle_result)
            if not watch.wait(deadline):
                raise too_late(container, method_name, timeout)
        if not watch.result.has_result:
            container.wait()
        return watch.result.get()

    yield hook


@contextmanager
def wait_for_entrypoint(
    container: Any, method_name: str, timeout: float | None = 30, callback: WaiterCallback | None = None
) -> Iterator[WaitResult]:
    """Wait at the end of the block until a call of a method, begun in it, has been torn down.

    Args:
        container: The running container.
        method_name: The method.
        timeout: Seconds, from the beginning of the block; None: any time.
        callback: Gets worker context, result and ``exc_info`` of each call; whether it is the one.

    Raises:
        EntrypointWaiterTimeout: There was none.
        RuntimeError: Nothing drives a method of that name.
    """
    if get_extension(container, Entrypoint, method_name=method_name) is None:
        raise RuntimeError(f"{container.service_name} has no entrypoint `{method_name}`")

    def wanted(worker_ctx: Any, result: Any, exc_info: Any) -> object:
        if worker_ctx.entrypoint.method_name != method_name:
            return False
        return callback is None or callback(worker_ctx, result, exc_info)

    deadline = deadline_in(timeout)
    with CallWatch(container, wanted) as watch:
        yield watch.result
        if not watch.wait(deadline):
            raise too_late(container, method_name, timeout)


class EntrypointWaiter:
    """`wait_for_entrypoint` by Nameko's name, with the error that it raises as its ``Timeout``."""

    Timeout = EntrypointWaiterTimeout

    def __call__(
        self, container: Any, method_name: str, timeout: float | None = 30, callback: WaiterCallback | None = None
    ) -> Any:
        return wait_for_entrypoint(container, method_name, timeout, callback)


entrypoint_waiter = EntrypointWaiter()


def worker_factory(service_cls: type, **dependencies: Any) -> Any:
    """An instance of a service class with doubles for its dependencies.

    Args:
        service_cls: The class.
        dependencies: What to put in a dependency's place; the others become ``MagicMock``.

    Raises:
        ExtensionNotFound: The class has no dependency of that name.
    """
    names = [name for name, _ in inspect.getmembers(service_cls, is_dependency)]
    if unknown := sorted(dependencies.keys() - set(names)):
        raise ExtensionNotFound(f"DependencyProvider(s) '{', '.join(unknown)}' not found on {service_cls}.")
    service = service_cls()
    for name in names:
        setattr(service, name, dependencies[name] if name in dependencies else MagicMock())
    return service


class MockDependencyProvider(DependencyProvider):
    """Gives a double.

    Args:
        attr_name: The dependency in whose place it is.
        dependency: The double; None: a ``MagicMock``.
    """

    def __init__(self, attr_name: str, dependency: Any = None) -> None:
        self.attr_name = attr_name
        self.dependency = MagicMock() if dependency is None else dependency

    def get_dependency(self, worker_ctx: Any) -> Any:
        """The double."""
        return self.dependency


def replace_dependencies(container: Any, *dependencies: str, **dependency_map: Any) -> Any:
    """Put doubles in the place of dependencies, before the container is started.

    Args:
        container: The container.
        dependencies: Names whose place a ``MagicMock`` takes.
        dependency_map: Names and their doubles.

    Returns:
        The mock, where one name was given; else an iterator over the mocks.

    Raises:
        RuntimeError: The container has been started, or a name is given twice.
        ExtensionNotFound: There is no dependency of that name.
    """
    if container.started:
        raise RuntimeError("You must replace dependencies before the container is started.")
    if twice := set(dependencies) & dependency_map.keys():
        raise RuntimeError(f"Cannot replace the same dependency via both args and kwargs: {', '.join(sorted(twice))}")
    mocks = {name: MagicMock() for name in dependencies}
    providers = {provider.attr_name: provider for provider in container.dependencies}
    doubles = {**dependency_map, **mocks}
    if missing := sorted(doubles.keys() - providers.keys()):
        raise ExtensionNotFound(f"Dependency(s) '{', '.join(missing)}' not found on {container}.")
    for name, double in doubles.items():
        container.dependencies.remove(providers[name])
        container.dependencies.add(MockDependencyProvider(name, dependency=double))
    return next(iter(mocks.values())) if len(mocks) == 1 else iter(mocks.values())


def restrict_entrypoints(container: Any, *entrypoints: str) -> None:
    """Leave a container only the entrypoints of these methods, before it is started.

    Raises:
        RuntimeError: The container has been started.
        ExtensionNotFound: Nothing drives a method of that name.
    """
    if container.started:
        raise RuntimeError("You must restrict entrypoints before the container is started.")
    found = list(container.entrypoints)
    if missing := sorted(set(entrypoints) - {entrypoint.method_name for entrypoint in found}):
        raise ExtensionNotFound(f"Entrypoint(s) '{', '.join(missing)}' not found on {container}.")
    for entrypoint in found:
        if entrypoint.method_name not in entrypoints:
            container.entrypoints.remove(entrypoint)


class Once(Entrypoint):
    """Calls the method once, when the container starts, with these arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = ("expected_exceptions", "sensitive_arguments", "sensitive_variables")
        options = {name: kwargs.pop(name) for name in names if name in kwargs}
        self.args = args
        self.kwargs = kwargs
        super().__init__(**options)

    def start(self) -> None:
        """Call it."""
        self.container.spawn_worker(self, self.args, self.kwargs)


once = Once.decorator

dummy = Entrypoint.decorator
