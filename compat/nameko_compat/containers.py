"""Nameko's containers: one service class with its extensions, on a runner of micro_framework."""

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSet
from typing import Any

from micro_framework.assembly import RunnerContext
from micro_framework.exceptions import SetupFailed
from micro_framework.extensions import Host
from micro_framework.routes import Route
from micro_framework.runner import Runner
from micro_framework.spawners.base import uses_processes
from nameko_compat import serialization
from nameko_compat.adapters import SpawnAdapter
from nameko_compat.constants import DEFAULT_MAX_WORKERS, MAX_WORKERS_CONFIG_KEY
from nameko_compat.exceptions import ConfigurationError, ContainerBeingKilled
from nameko_compat.extensions import ENTRYPOINT_EXTENSIONS_ATTR, Entrypoint, is_dependency, iter_extensions
from nameko_compat.lives import ContainerLife
from nameko_compat.managed import Killed, ManagedThread
from nameko_compat.utils import import_from_path
from nameko_compat.versions import api_of, chosen_config
from nameko_compat.workers import Firing, NamekoWorker, WorkerContext, finish, new_call_id

__all__ = [
    "ContainerRunner",
    "ExtensionSet",
    "ServiceContainer",
    "WorkerContext",
    "get_container_cls",
    "get_service_name",
    "new_call_id",
]

logger = logging.getLogger(__name__)

THREAD_SECONDS = 5.0
"""How long a managed thread may take to end when it is asked to."""


def get_service_name(service_cls: type) -> str:
    """The name of a service class.

    Raises:
        ConfigurationError: It has none.
    """
    where = f"{service_cls.__module__}.{service_cls.__name__}"
    name = getattr(service_cls, "name", None)
    if name is None:
        raise ConfigurationError(f'Service class must define a `name` attribute ({where}); write name = "..."')
    if not isinstance(name, str):
        raise ConfigurationError(f"Service name attribute must be a string ({where}.name), not {name!r}")
    return name


def get_container_cls(config: Mapping[str, Any] | None = None) -> Any:
    """The class of containers: what ``SERVICE_CONTAINER_CLS`` names, else `ServiceContainer`.

    Raises:
        ImportError: It names nothing.
    """
    return import_from_path(chosen_config(config).get("SERVICE_CONTAINER_CLS")) or ServiceContainer


class AllOf:
    """Calls a method of each: ``container.extensions.all.setup()``."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        def each(*args: Any, **kwargs: Any) -> list[Any]:
            return [getattr(item, name)(*args, **kwargs) for item in list(self.items)]

        return each


class ExtensionSet(MutableSet[Any]):
    """A set that keeps its order."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self.items: dict[Any, None] = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self.items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def add(self, value: Any) -> None:
        """Put one in."""
        self.items[value] = None

    def discard(self, value: Any) -> None:
        """Take one out, if it is there."""
        self.items.pop(value, None)

    def update(self, values: Iterable[Any]) -> None:
        """Put several in."""
        self.items.update(dict.fromkeys(values))

    @property
    def all(self) -> AllOf:
        """All of them at once."""
        return AllOf(self)


class ContainerRunner(Runner):
    """The runner of one container; urgent when that is killed."""

    urgent = False

    def stop_workers(self) -> list[str]:
        """Let running calls finish, unless it is urgent."""
        if not self.urgent:
            return super().stop_workers()
        spawners = self.assembly.spawners.values()
        for spawner in spawners:
            spawner.finish_waiting()
        return [label for spawner in spawners for label in spawner.stop(time.monotonic())]


class ServiceContainer:
    """One service class with its extensions.

    It runs by itself (`start`, `stop`), or as one of several in a runner that takes its `context`.

    Args:
        service_cls: The service class.
        config: The configuration (2.x); None: ``nameko_compat.config`` (3.x).

    Raises:
        ConfigurationError: The class has no name, or the configuration cannot be used.
        ValueError: The configuration asks for the behaviour of an unknown version.
    """

    config: Mapping[str, Any]

    def __init__(self, service_cls: type, config: Mapping[str, Any] | None = None) -> None:
        self.service_cls = service_cls
        self.config = chosen_config(config)
        self.service_name = get_service_name(service_cls)
        self.max_workers: int = self.config.get(MAX_WORKERS_CONFIG_KEY) or DEFAULT_MAX_WORKERS
        self.api = api_of(self.config)
        self.serializer, self.accept = serialization.setup(self.config)
        self.shared_extensions: dict[Any, Any] = {}
        self.entrypoints = ExtensionSet()
        self.dependencies = ExtensionSet()
        self.subextensions = ExtensionSet()
        self.adapters: dict[Any, Any] = {}
        self.host: Host | None = None
        self.runner: ContainerRunner | None = None
        self.started = False
        self.being_killed = False
        self.stopped_entrypoints: set[Any] = set()
        self.closed = False  # whether it takes no more calls
        self.guard = threading.RLock()
        self._worker_threads: dict[WorkerContext, threading.Thread] = {}  # running calls; extensions count them
        self.managed: dict[ManagedThread, str] = {}
        self.died = threading.Event()
        self.failure: BaseException | None = None
        self.reason: BaseException | None = None  # why it is being killed
        self.watchers: list[Callable[..., None]] = []
        self.bind_extensions()

    def bind_extensions(self) -> None:
        """Bind what the class declares."""
        for name, dependency in inspect.getmembers(self.service_cls, is_dependency):
            bound = dependency.bind(self.interface, name)
            self.dependencies.add(bound)
            self.subextensions.update(iter_extensions(bound))
        for name, method in inspect.getmembers(self.service_cls, inspect.isfunction):
            for entrypoint in getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()):
                bound = entrypoint.bind(self.interface, name)
                self.entrypoints.add(bound)
                self.subextensions.update(iter_extensions(bound))

    @property
    def interface(self) -> "ServiceContainer":
        """What extensions are bound to."""
        return self

    @property
    def extensions(self) -> ExtensionSet:
        """All of them."""
        return ExtensionSet([*self.entrypoints, *self.dependencies, *self.subextensions])

    @property
    def stop_seconds(self) -> float:
        """How long what runs may take to finish at the stop."""
        return self.host.settings.shutdown_timeout if self.host is not None else 30.0

    # -- the runner's view

    def context(self) -> RunnerContext:
        """Its routes in a pool of workers of its own, for a runner. Call once.

        Raises:
            ConfigurationError: The configuration asks for workers that a Nameko service cannot have.
        """
        mode = self.config.get("WORKER_MODE", "thread")
        if uses_processes(str(mode)):
            raise ConfigurationError(
                f"WORKER_MODE {mode} is not for Nameko services, whose extensions live in the service's process; "
                "leave it out, and set PROCESSES to use several processors"
            )
        life = ContainerLife(self, self.extensions)
        routes = [self.route(entrypoint, life) for entrypoint in self.entrypoints]
        if not routes:
            routes = [self.idle_route(life)]
        workers = self.config.get("MAX_WORKERS") or self.max_workers
        return RunnerContext(routes, name=self.service_name, max_workers=workers, worker_mode=mode)

    def route(self, entrypoint: Any, life: ContainerLife) -> Route:
        """The route of an entrypoint."""
        adapter = entrypoint.route_entrypoint() or SpawnAdapter()
        method = entrypoint.method_name
        route = Route(
            self.service_cls,
            adapter.serve(entrypoint, life),
            method_name=method,
            worker_class=NamekoWorker,
            backoff=entrypoint.backoff,
        )
        route.service = self.service_name
        return route

    def idle_route(self, life: ContainerLife) -> Route:
        """A route that nothing drives: a service may have dependencies alone."""
        idle = Entrypoint()
        idle.container, idle.method_name = self, "idle"
        route = Route(do_nothing, SpawnAdapter().serve(idle, life), worker_class=NamekoWorker)
        route.service = self.service_name
        return route

    def call_hook(self, extension: Any, hook: str) -> None:
        """Call a hook that ends something; what it raises is logged."""
        try:
            getattr(extension, hook)()
        except Exception:
            logger.exception("%r: %s failed", extension, hook)

    def stop_entrypoint(self, entrypoint: Any) -> None:
        """Stop one; when the last is stopped, no call is spawned any more: the workers are about to end."""
        if not self.being_killed:
            self.call_hook(entrypoint, "stop")
        with self.guard:
            self.stopped_entrypoints.add(entrypoint)
            self.closed = self.stopped_entrypoints >= self.adapters.keys()

    def set_up_extensions(self) -> None:
        """The hook ``setup`` of all: of the innermost first, so that each finds ready what it uses."""
        for extension in (*self.subextensions, *self.dependencies, *self.entrypoints):
            extension.setup()

    def start_extensions(self) -> None:
        """The hook ``start`` of all."""
        self.started = True
        for extension in (*self.subextensions, *self.dependencies, *self.entrypoints):
            extension.start()

    def stop_extensions(self) -> None:
        """Stop dependencies, then sub-extensions, then the threads that are left.

        Where the start failed, adapters have not been started, and do not stop their entrypoints either.
        """
        if not self.being_killed:
            entrypoints = [each for each in self.entrypoints if each not in self.stopped_entrypoints]
            for extension in (*entrypoints, *self.dependencies, *self.subextensions):
                self.call_hook(extension, "stop")
        self.end_managed_threads()
        self.started = False
        self.end(None)

    # -- by itself

    def start(self) -> None:
        """Start, and return once everything is connected and consuming.

        Raises:
            Exception: What an extension raised in ``setup`` or ``start``; nothing is left running.
            MicroFrameworkError: Everything else that keeps it from starting.
        """
        self.runner = runner = ContainerRunner([self.context()], dict(self.config))
        runner.observers.append(finish)
        try:
            runner.begin()
            runner.wait_ready()
        except SetupFailed as error:
            runner.stop()
            raise (error.__cause__ or error) from None
        except BaseException:
            runner.stop()
            raise
        runner.lifecycle.on_failure(self.failed)

    def failed(self, error: BaseException) -> None:
        """The runner cannot go on; returns at once."""
        self.end(error)
        threading.Thread(target=self.stop, name=f"mf-stopping-{self.service_name}", daemon=True).start()

    def stop(self) -> None:
        """Stop: entrypoints, then workers once they have finished, then dependencies and everything else."""
        try:
            if self.runner is not None:
                self.runner.stop()
        finally:
            self.end(None)

    def kill(self, exc_info: Any = None) -> None:
        """Stop at once: running calls are not waited for, and what came with a message is delivered again.

        Args:
            exc_info: Why, as ``sys.exc_info()`` has it; `wait` raises that.
        """
        with self.guard:
            if self.being_killed or self.died.is_set():
                return
            self.being_killed = True
        self.reason = error = exc_info[1] if exc_info else None
        logger.info("killing %r%s", self, f" due to {error}" if error else "")
        for extension in (*self.entrypoints, *self.dependencies, *self.subextensions):
            self.call_hook(extension, "kill")
        if self.host is not None and error is not None:
            self.host.lifecycle.fail(error)  # whoever waits for it to be ready, or runs it among others, is told
        if self.runner is not None:
            self.runner.urgent = True
            self.call_hook(self.runner, "stop")
        self.end_managed_threads()
        self.end(error)

    def wait(self) -> None:
        """Wait for the end.

        Raises:
            BaseException: Why it was killed.
        """
        self.died.wait()
        if self.failure is not None:
            raise self.failure

    def end(self, error: BaseException | None) -> None:
        """Note the end; the first one counts."""
        with self.guard:
            if not self.died.is_set():
                self.failure = error or self.reason
                self.died.set()
        for watcher in tuple(self.watchers):
            watcher("ended", None, None, None)

    # -- calls

    def spawn_worker(
        self,
        entrypoint: Any,
        args: Any,
        kwargs: Any,
        context_data: Any = None,
        handle_result: Callable[..., tuple[Any, Any]] | None = None,
    ) -> WorkerContext:
        """Have the method of an entrypoint called by a worker; returns at once.

        Args:
            entrypoint: One of this container's.
            args: The method's arguments.
            kwargs: Likewise.
            context_data: The call's context data, perhaps with the call id stack of what caused it.
            handle_result: Called with worker context, result and ``exc_info``; returns result and ``exc_info`` as
                dependencies are to see them.

        Raises:
            ContainerBeingKilled: It takes no more calls.
            RuntimeError: It has not been started.
        """
        adapter = self.adapters.get(entrypoint)
        if adapter is None:
            raise RuntimeError(f"{self!r} has not been started, or {entrypoint!r} is not one of its entrypoints")
        data = {} if context_data is None else dict(context_data)
        context = WorkerContext(self, self.service_cls(), entrypoint, args, kwargs, data)
        with self.guard:
            if self.being_killed or self.closed:
                raise ContainerBeingKilled(f"{self!r} takes no more calls: it is being stopped")
            adapter.route.submit(Firing(context, handle_result))
        return context

    def spawn_managed_thread(self, fn: Callable[[], Any], identifier: str | None = None) -> ManagedThread:
        """Run a function in a thread of its own; an error that it raises kills the container.

        Args:
            fn: The function; it should end when its extension is stopped.
            identifier: What the thread is called in logs; None: as the function.
        """
        name = identifier or str(getattr(fn, "__name__", "<unknown>"))
        thread = ManagedThread(fn, name=f"mf-managed-{self.service_name}-{name}")
        self.managed[thread] = name
        thread.link(self.managed_thread_ended)
        return thread.start()

    def managed_thread_ended(self, thread: ManagedThread) -> None:
        """One has ended, in its own thread."""
        name = self.managed.pop(thread, None)
        error = thread.error
        if error is not None and not isinstance(error, Killed):
            logger.critical("managed thread %s of %r ended with an error", name, self, exc_info=error)
            self.kill((type(error), error, error.__traceback__))

    def end_managed_threads(self) -> None:
        """Ask the managed threads to end, and wait a little."""
        left = list(self.managed.items())
        for thread, _ in left:
            thread.kill()
        deadline = time.monotonic() + THREAD_SECONDS
        for thread, name in left:
            if thread.thread is threading.current_thread():
                continue
            if not thread.finished.wait(max(0.0, deadline - time.monotonic())):
                logger.warning("managed thread %s of %r does not end; it is left behind", name, self)

    # -- around each call

    def _inject_dependencies(self, worker_ctx: WorkerContext) -> None:
        """Have every dependency give something."""
        for provider in self.dependencies:
            dependency = provider.get_dependency(worker_ctx)
            worker_ctx.given.append(provider)
            setattr(worker_ctx.service, provider.attr_name, dependency)

    def _worker_setup(self, worker_ctx: WorkerContext) -> None:
        """The hook ``worker_setup`` of all."""
        for provider in self.dependencies:
            provider.worker_setup(worker_ctx)

    def _worker_result(self, worker_ctx: WorkerContext, result: Any = None, exc_info: Any = None) -> None:
        """The hook ``worker_result`` of all, and those who wait for the call."""
        for provider in worker_ctx.given:
            self.hook_after(provider, "worker_result", worker_ctx, result, exc_info)
        for watcher in tuple(self.watchers):
            watcher("result", worker_ctx, result, exc_info)

    def _worker_teardown(self, worker_ctx: WorkerContext) -> None:
        """The hook ``worker_teardown`` of all that gave something, and those who wait for the call."""
        for provider in worker_ctx.given:
            self.hook_after(provider, "worker_teardown", worker_ctx)
        for watcher in tuple(self.watchers):
            watcher("teardown", worker_ctx, None, None)

    def hook_after(self, provider: Any, hook: str, *args: Any) -> None:
        """A hook after the call; what it raises is logged, the others are called all the same."""
        try:
            getattr(provider, hook)(*args)
        except Exception:
            logger.exception("%r: %s failed", provider, hook)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.service_name}] at 0x{id(self):x}>"


def do_nothing() -> None:
    """The target of a service without entrypoints."""
