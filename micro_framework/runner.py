"""`Runner`: starts services, waits for the end, and stops them in an order in which nothing is lost.

Start: every extension is set up before any starts, so the first message finds everything ready; nested extensions come
before those that hold them, dependencies before entrypoints.

Stop: entrypoints first, so nothing new comes; then the workers, who finish what runs (greedy: what waits too) while the
connections are still open; then dependencies; the connections close last, after the last acknowledgement. A connection
that closes earlier makes the broker deliver running calls again, and they run twice.
"""

import logging
import logging.config
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from micro_framework.assembly import Declared, RunnerContext, assemble
from micro_framework.clock import Clock, SystemClock
from micro_framework.config import Settings
from micro_framework.exceptions import CallsAbandoned, ConfigError, MicroFrameworkError, StartTimeout
from micro_framework.extensions import Extension, Lifecycle, in_start_order, perform
from micro_framework.routes import Observer
from micro_framework.signals import SignalWatch
from micro_framework.spawners.base import Spawner
from micro_framework.spawners.main_module import end_reading

__all__ = ["Runner", "RunnerContext"]

logger = logging.getLogger(__name__)


class Runner:
    """Runs services in this process.

    ``start()`` blocks until SIGTERM, SIGINT or `request_stop`; as a context manager the services are started and ready
    inside the block. A runner runs once. Building it checks everything that is declared; nothing connects before it
    starts.

    Args:
        services: Service classes, routes and contexts, mixed at will.
        config: The configuration, see the configuration reference.
        clock: What timers and pauses go by; tests give a manual one.

    Raises:
        ConfigError: With every problem of the configuration.
        DeclarationError: With every problem of the declarations.
    """

    def __init__(
        self, services: Iterable[Declared], config: Mapping[str, Any] | None = None, *, clock: Clock | None = None
    ) -> None:
        self.settings = Settings.from_mapping(config or {})
        self.clock = clock or SystemClock()
        self.lifecycle = Lifecycle()
        self.lifecycle.on_change(self.announce)
        self.observers: list[Observer] = []
        self.assembly = assemble(services, self.settings, self.clock, self.lifecycle, self.observers)
        self.started: list[Extension] = []
        self.taken = False
        self.begun = False
        self.endings: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.transition = threading.RLock()  # held while starting and while stopping; a start that fails stops
        self.announcement = threading.Lock()  # taken for good by the first announcement
        self.stopped = False

    @property
    def ready(self) -> bool:
        """Whether everything declared is connected and consuming right now, and nothing is stopping."""
        return self.begun and not self.stopped and all(part.is_ready() for part in self.parts())

    def parts(self) -> Iterator[Extension | Spawner]:
        """Everything that has to be ready."""
        yield from self.started
        yield from self.assembly.spawners.values()

    def start(self) -> None:
        """Run until told to stop; returns after a clean stop.

        SIGTERM and SIGINT stop it gracefully if this is the main thread; a second one ends the process at once, with
        exit code 128 + its number.

        Raises:
            SetupFailed: An extension could not be set up.
            BrokerRefused: The broker gave an answer that will not change.
            CallsAbandoned: Calls were still running after ``SHUTDOWN_TIMEOUT``.
        """
        self.lifecycle.on_failure(self.endings.put)
        with SignalWatch(self.request_stop):
            self.begin()
            self.stop_after(self.endings.get())

    def __enter__(self) -> Self:
        self.begin()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        # `start` raises a later failure; a block cannot be told, so at least the log is.
        self.lifecycle.on_failure(lambda error: logger.error("the services of this block run no more: %s", error))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def request_stop(self) -> None:
        """Let `start` stop and return. Thread safe."""
        self.endings.put(None)

    def wait_ready(self) -> None:
        """Wait until everything is connected and consuming.

        Raises:
            StartTimeout: Not within ``START_TIMEOUT``.
            BrokerRefused: The broker gave an answer that will not change.
        """
        seconds = self.settings.start_timeout
        if self.lifecycle.wait_until(lambda: self.ready, seconds):
            return
        if self.lifecycle.failure is not None:
            raise self.lifecycle.failure
        missing = [part for part in self.parts() if not part.is_ready()]
        raise StartTimeout(
            f"not ready within START_TIMEOUT ({seconds:g} s): {'; '.join(dict.fromkeys(map(str, missing)))}. "
            "Is the broker running and AMQP_URI right? The log has every attempt"
        )

    def begin(self) -> None:
        """Set up and start everything; whatever fails, what had begun is stopped."""
        end_reading()
        with self.transition:
            if self.taken or self.stopped:
                raise MicroFrameworkError("a runner runs once, and this one has run; build a new Runner")
            self.taken = True
            self.configure_logging()
            try:
                self.start_everything()
            except BaseException:
                self.stop()
                raise

    def start_everything(self) -> None:
        """The order of the start, see the top of this module."""
        ordered = in_start_order([*self.assembly.dependencies(), *self.assembly.entrypoints()])
        for extension in ordered:
            perform(extension, "setup")
        self.clock.start()
        for spawner in self.assembly.spawners.values():
            spawner.start()
        for extension in ordered:
            self.started.append(extension)
            perform(extension, "start")
        self.begun = True
        self.lifecycle.notify()
        self.announce()

    def announce(self) -> None:
        """Log one line when everything is ready for the first time; connections log their own comings and goings."""
        if self.ready and self.announcement.acquire(blocking=False):
            targets = Counter(route.service for route in self.assembly.routes)
            logger.info("ready: %s", ", ".join(f"{service} ({count} targets)" for service, count in targets.items()))
            self.lifecycle.all_ready()

    def configure_logging(self) -> None:
        """Apply ``LOGGING``, if it is given; without it logging is the user's own affair."""
        if self.settings.logging is None:
            return
        try:
            logging.config.dictConfig(dict(self.settings.logging))
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            problem = f"LOGGING is not what logging.config.dictConfig takes: {error}"
            raise ConfigError("the configuration cannot be used", [problem]) from error

    def stop(self) -> None:
        """Stop everything, in order; returns when it is done. Idempotent and thread safe.

        Raises:
            CallsAbandoned: Calls were still running after ``SHUTDOWN_TIMEOUT``; everything else was stopped anyway.
        """
        with self.transition:
            if self.stopped:
                return
            self.stopped = True
            self.endings.put(None)  # whoever stopped it, `start` returns
            if self.begun:
                logger.info("stopping; running calls have %g s to finish", self.settings.shutdown_timeout)
            abandoned = self.stop_everything()
            if self.begun:
                logger.info("stopped")
        if abandoned:
            raise CallsAbandoned(abandoned, self.settings.shutdown_timeout)

    def stop_after(self, failure: BaseException | None) -> None:
        """Stop because of a failure, which is raised afterwards, or because it was asked for."""
        try:
            self.stop()
        finally:
            if failure is not None:
                raise failure

    def stop_everything(self) -> list[str]:
        """The order of the stop, see the top of this module; returns the abandoned calls."""
        entrypoints = set(self.assembly.entrypoints())
        self.stop_extensions([extension for extension in self.started if extension in entrypoints])
        abandoned = self.stop_workers()
        self.clock.stop()
        self.stop_extensions([extension for extension in reversed(self.started) if extension not in entrypoints])
        return abandoned

    def stop_workers(self) -> list[str]:
        """Let running calls finish within ``SHUTDOWN_TIMEOUT``, all pools at the same time."""
        spawners = self.assembly.spawners.values()
        deadline = time.monotonic() + self.settings.shutdown_timeout
        for spawner in spawners:
            spawner.finish_waiting()
        return [label for spawner in spawners for label in spawner.stop(deadline)]

    def stop_extensions(self, extensions: Iterable[Extension]) -> None:
        """Stop each; one that fails is logged and does not keep the others from being stopped."""
        for extension in extensions:
            try:
                extension.stop()
            except Exception:
                logger.exception("%s could not be stopped cleanly", extension)
