"""Extensions: what a service declares, and the bound copies that work for it.

A *declaration* is plain data: an entrypoint in a decorator, a dependency on a class, an extension as an attribute of
another. It is never changed. When a runner is built, every declaration is *bound*: copied, told its `Host`, and its
nested extensions bound with it. An extension that is nested in others is shared: all that declare the same one, or one
with the same `sharing_key`, get the same bound copy.

Hooks are synchronous and few, and called by the runner once per process: ``setup()`` (get ready, connect nothing),
``start()`` (begin), ``stop()`` (end, within seconds). A nested extension is set up and started before those that hold
it, and stopped after them.
"""

import copy
import math
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from micro_framework.clock import Clock
from micro_framework.config import Settings
from micro_framework.exceptions import MicroFrameworkError, SetupFailed

if TYPE_CHECKING:  # a service without metrics starts sooner without
    from micro_framework.metrics.tallies import Tallies

__all__ = [
    "Extension",
    "Host",
    "Lifecycle",
    "SharedExtensions",
    "in_start_order",
    "nested_extensions",
    "perform",
]

E = TypeVar("E", bound="Extension")


class Lifecycle:
    """Where extensions report what the runner waits for: that something became ready, or failed for good."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.failure: BaseException | None = None
        self.listener: Callable[[BaseException], None] | None = None
        self.watcher: Callable[[], None] | None = None
        self.waiting_for_ready: list[Callable[[], None]] | None = []  # None once everything was ready
        self.stop_by = -math.inf
        """Once running calls are given time to finish: until when, on ``time.monotonic()``."""

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` once everything is ready for the first time, now if it was; it must return at once."""
        with self.changed:
            if self.waiting_for_ready is not None:
                self.waiting_for_ready.append(callback)
                return
        callback()

    def all_ready(self) -> None:
        """Everything is ready for the first time."""
        with self.changed:
            callbacks, self.waiting_for_ready = self.waiting_for_ready or [], None
        for callback in callbacks:
            callback()

    def on_change(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher()`` after every `notify`, on the thread that notifies; it must return at once."""
        self.watcher = watcher

    def on_failure(self, listener: Callable[[BaseException], None]) -> None:
        """Call ``listener(error)`` for the first failure, at once if it has happened; it must return at once."""
        with self.changed:
            self.listener = listener
            failure = self.failure
        if failure is not None:
            listener(failure)

    def notify(self) -> None:
        """Something became ready or stopped being it; thread safe, returns at once."""
        with self.changed:
            self.changed.notify_all()
        if self.watcher is not None:
            self.watcher()

    def fail(self, error: BaseException) -> None:
        """Something failed in a way that will not change: the runner stops with this error; the first one counts."""
        with self.changed:
            if self.failure is not None:
                return
            self.failure = error
            self.changed.notify_all()
            listener = self.listener
        if listener is not None:
            listener(error)

    def wait_until(self, condition: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until the condition holds or something failed.

        Args:
            condition: Looked at after every report.
            seconds: At most this long, None for ever.

        Returns:
            Whether the condition holds.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or condition(), seconds)
        return self.failure is None and condition()


@dataclass(frozen=True, slots=True)
class Host:
    """Where an extension is bound.

    Args:
        settings: The service's configuration.
        service: The service's name.
        context: The name of the worker pool its calls run in.
        workers: How many workers that pool has.
        prefetch: How many deliveries a consumer of that context may hold unacknowledged.
        clock: The runner's clock.
        lifecycle: Where to report readiness and failures.
        shared: The runner's shared extensions.
        process: The name of the worker process it is in, empty in the service's own; for names of connections.
        tallies: Where things are counted, None without ``ENABLE_METRICS``.
    """

    settings: Settings
    service: str
    context: str
    workers: int
    prefetch: int
    clock: Clock
    lifecycle: Lifecycle
    shared: "SharedExtensions"
    process: str = ""
    tallies: "Tallies | None" = None


class Extension:
    """Base class of everything a service can declare."""

    host: Host
    """Where it is bound; a declaration has none."""

    def __str__(self) -> str:
        """What it is called in messages to people."""
        return type(self).__name__

    def bind(self, host: Host) -> Self:
        """A copy that works for a host, its nested extensions bound and shared."""
        bound = copy.copy(self)
        bound.host = host
        for name, nested in nested_extensions(self):
            bound.__dict__[name] = host.shared.get(nested, host)
        return bound

    def sharing_key(self, host: Host) -> Hashable:
        """What makes two nested declarations the same one; by default only being the same object.

        Args:
            host: Where it would be bound; part of the key if it is to be shared within a context or service only.
        """
        return id(self)

    def described(self) -> dict[str, Any]:
        """What this bound declaration is, as plain data for ``micro-framework routes``; ``kind`` and what it names."""
        return {"kind": type(self).__name__}

    def problems(self) -> list[str]:
        """What is wrong with this bound declaration, one sentence each with its fix; asked before anything connects."""
        return []

    def setup(self) -> None:
        """Get ready; connect nothing. An error ends the start with a message that names this extension."""

    def start(self) -> None:
        """Begin to work. Returns at once; what has to be waited for is told by `is_ready`."""

    def stop(self) -> None:
        """End what `start` began, within seconds. Called once, also when the start failed half way."""

    def is_ready(self) -> bool:
        """Whether it does its work right now; changes are reported to ``host.lifecycle``."""
        return True


def nested_extensions(extension: Extension) -> Iterator[tuple[str, Extension]]:
    """The extensions that another one holds as attributes, of its class or its own, as (name, declaration)."""
    seen = {"host"}
    for namespace in (vars(extension), *(vars(cls) for cls in type(extension).__mro__)):
        for name, value in namespace.items():
            if name not in seen and isinstance(value, Extension):
                yield name, value
            seen.add(name)


def in_start_order(extensions: Iterable[Extension]) -> list[Extension]:
    """Every extension once, each after those nested in it."""
    ordered: dict[Extension, None] = {}
    for extension in extensions:
        nested = in_start_order(inner for _, inner in nested_extensions(extension))
        ordered |= dict.fromkeys([*nested, extension])
    return list(ordered)


def perform(extension: Extension, hook: str) -> None:
    """Call a hook; what it raises ends the start with a message that names the extension.

    Raises:
        SetupFailed: The hook raised something else than an error of the framework.
    """
    try:
        getattr(extension, hook)()
    except MicroFrameworkError:
        raise
    except Exception as error:
        raise SetupFailed(f"{extension}: {hook} failed: {type(error).__name__}: {error}") from error


class SharedExtensions:
    """The bound copies of nested extensions in one runner, each bound once."""

    def __init__(self) -> None:
        self.bound: dict[tuple[type[Extension], Hashable], Extension] = {}
        self.declarations: list[Extension] = []

    def get(self, declaration: E, host: Host) -> E:
        """The one bound copy for a declaration."""
        key = (type(declaration), declaration.sharing_key(host))
        if key not in self.bound:
            # Held so that an id() used as a key is not given to another declaration.
            self.declarations.append(declaration)
            self.bound[key] = declaration.bind(host)
        return cast(E, self.bound[key])
