"""`Runner`: starts services, waits for the end, and stops them in an order in which nothing is lost.

Start: every extension is set up before any starts, so the first message finds everything ready; nested extensions come
before those that hold them, dependencies before entrypoints.

Stop: entrypoints first, so nothing new comes; then the workers, who finish what runs (greedy: what waits too) while the
connections are still open; then dependencies; the connections close last, after the last acknowledgement. A connection
that closes earlier makes the broker deliver running calls again, and they run twice.

Copies: with ``PROCESSES`` the runner that `Runner.start` is called on runs nothing itself; its supervisor starts copies
of it, each in a process of its own, and there `Runner.start_as` does the work. What may run in one copy only, timers,
is set up in each and started where the supervisor says.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from micro_framework.assembly import Declared, RunnerContext, assemble
from micro_framework.clock import Clock, SystemClock
from micro_framework.config import Settings
from micro_framework.entrypoints import Entrypoint
from micro_framework.exceptions import CallsAbandoned, ConfigError, MicroFrameworkError, StartTimeout
from micro_framework.extensions import Extension, Lifecycle, in_start_order, perform
from micro_framework.routes import Observer, Route
from micro_framework.signals import SignalWatch
from micro_framework.spawners.base import Spawner
from micro_framework.spawners.main_module import end_reading

if TYPE_CHECKING:
    from micro_framework.copies import Copy
    from micro_framework.metrics.tallies import Tallies
    from micro_framework.observe.health import Stage
    from micro_framework.supervisor import Supervisor

__all__ = ["Runner", "RunnerContext", "run_copy"]

logger = logging.getLogger(__name__)


class Runner:
    """Runs services in this process, or in several copies of it.

    ``start()`` blocks until SIGTERM, SIGINT or `request_stop`; as a context manager the services are started and ready
    inside the block, in this process. A runner runs once. Building it checks everything that is declared; nothing
    connects before it starts.

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
        self.services = services if isinstance(services, type | Route | RunnerContext) else tuple(services)
        self.clock_given = clock is not None
        self.clock = clock or SystemClock()
        self.lifecycle = Lifecycle()
        self.lifecycle.on_change(self.announce)
        self.observers: list[Observer] = []
        self.tallies = tallies_for(self.settings)
        self.assembly = assemble(self.services, self.settings, self.clock, self.lifecycle, self.observers, self.tallies)
        self.observing: Observing | None = None
        self.supervisor: Supervisor | None = None  # where this process runs copies
        self.copy: Copy | None = None  # where this process is one
        self.started: list[Extension] = []
        self.taken = False
        self.begun = False
        self.endings: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.transition = threading.RLock()  # held while starting and while stopping; a start that fails stops
        self.announcement = threading.Lock()  # taken for good by the first announcement
        self.stopped = False

    @property
    def ready(self) -> bool:
        """Whether everything declared is connected and consuming right now, and nothing is stopping.

        Of copies: whether each has been ready, and runs.
        """
        if self.supervisor is not None:
            return self.supervisor.ready
        return self.begun and not self.stopped and all(part.is_ready() for part in self.parts())

    def parts(self) -> Iterator[Extension | Spawner]:
        """Everything that has to be ready."""
        yield from self.started
        yield from self.assembly.spawners.values()

    def start(self) -> None:
        """Run until told to stop; returns after a clean stop.

        SIGTERM and SIGINT stop it gracefully if this is the main thread; a second one ends the process at once, with
        exit code 128 + its number.

        With ``PROCESSES`` greater than 1 the services run in so many processes. Those import what they run, so this
        belongs under ``if __name__ == "__main__":`` in a script.

        Raises:
            SetupFailed: An extension could not be set up.
            BrokerRefused: The broker gave an answer that will not change.
            CallsAbandoned: Calls were still running after ``SHUTDOWN_TIMEOUT``.
            DeclarationError: A service cannot be handed to other processes.
            CopyFailed: A copy died whenever it was started, or did not stop cleanly.
        """
        if self.settings.processes > 1:
            self.start_copies()
        else:
            with SignalWatch(self.request_stop):
                self.serve()

    def start_copies(self) -> None:
        """Run copies of this runner in processes of their own until told to stop."""
        # Here, because a service without copies starts sooner without it.
        from micro_framework.copies import end_unguarded
        from micro_framework.parcels import pack
        from micro_framework.supervisor import Supervisor

        end_unguarded()
        with self.transition:
            self.take()
            if self.clock_given:
                raise self.no_copies("the clock that was given lives in one process; leave out clock=")
            parcel = pack(self.services, self.settings.raw)
            self.configure_logging()
            self.supervisor = supervisor = Supervisor(run_copy, (parcel,), self.settings)
        if not self.endings.empty():
            supervisor.request_stop()
        supervisor.run()

    def no_copies(self, reason: str) -> ConfigError:
        """What to raise where there can be no copies."""
        problem = f"PROCESSES is {self.settings.processes}, and {reason}"
        return ConfigError("the configuration cannot be used", [problem])

    def start_as(self, copy: "Copy") -> None:
        """Run as one of several copies, in this process, until told to stop.

        Raises:
            MicroFrameworkError: As `start`.
        """
        self.copy = copy
        copy.serving(self.request_stop)
        self.serve()

    def serve(self) -> None:
        """Run in this process until told to stop."""
        self.lifecycle.on_failure(self.endings.put)
        self.begin()
        if self.copy is not None:
            self.copy.started(len(self.held_back()), self.start_held_back)
        self.stop_after(self.endings.get())

    def __enter__(self) -> Self:
        if self.settings.processes > 1:
            raise self.no_copies(
                "`with Runner(...)` runs the services in this one; call Runner(...).start(), or set PROCESSES: 1"
            )
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
        if self.supervisor is not None:
            self.supervisor.request_stop()

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
            self.take()
            self.configure_logging()
            try:
                self.start_observing()
                self.start_everything()
            except BaseException:
                self.stop()
                raise

    def start_observing(self) -> None:
        """With ``ENABLE_METRICS``: open the port for operators, or, in a copy, report to whoever has it."""
        if self.tallies is None:
            return
        # Here, because most services start without.
        from micro_framework.metrics.reporting import Reporting
        from micro_framework.observe.opening import server_for
        from micro_framework.observed import ServicesView

        view = ServicesView(self.assembly, self.tallies, self.clock, self.lifecycle, self.parts, self.stage)
        if self.copy is None:
            self.observing = server_for(self.settings, view.what, view.snapshot, view.health)
        else:
            tell = self.copy.measured
            self.observing = Reporting(lambda: tell(view.snapshot().plain(), view.health().plain()))
        self.observing.start()

    def stage(self) -> "Stage":
        """What it is about; it runs once everything has started, and was ready."""
        if self.stopped:
            return "stopping"
        return "running" if self.begun else "starting"

    def take(self) -> None:
        """Note that this runner has been started."""
        if self.taken or self.stopped:
            raise MicroFrameworkError("a runner runs once, and this one has run; build a new Runner")
        self.taken = True

    def start_everything(self) -> None:
        """The order of the start, see the top of this module."""
        ordered = in_start_order([*self.assembly.dependencies(), *self.assembly.entrypoints()])
        for extension in ordered:
            perform(extension, "setup")
        self.clock.start()
        for spawner in self.assembly.spawners.values():
            spawner.start()
        held_back = self.held_back()
        for extension in ordered:
            if extension not in held_back:
                self.started.append(extension)
                perform(extension, "start")
        self.begun = True
        self.lifecycle.notify()
        self.announce()

    def held_back(self) -> list[Entrypoint]:
        """The entrypoints that this process starts only if it is the one copy that runs them."""
        routes = self.assembly.routes if self.copy is not None else ()
        return [route.entrypoint for route in routes if route.entrypoint.runs_in_one_copy()]

    def start_held_back(self) -> None:
        """This is the one copy that runs them. Returns at once; while a stop is under way they do not start."""
        if not self.transition.acquire(blocking=False):
            return
        try:
            for entrypoint in () if self.stopped else self.held_back():
                self.started.append(entrypoint)
                perform(entrypoint, "start")
        except MicroFrameworkError as error:
            self.lifecycle.fail(error)
        finally:
            self.transition.release()

    def announce(self) -> None:
        """Tell once that everything is ready, in one line; connections log their own comings and goings."""
        if self.ready and self.announcement.acquire(blocking=False):
            targets = Counter(route.service for route in self.assembly.routes)
            what = ", ".join(f"{service} ({count} targets)" for service, count in targets.items())
            if self.copy is not None:
                self.copy.ready(what)
            else:
                logger.info("ready: %s", what)
            self.lifecycle.all_ready()

    def configure_logging(self) -> None:
        """Apply ``LOGGING``, if it is given; without it logging is the user's own affair."""
        if self.settings.logging is None:
            return
        import logging.config  # here, because it costs every start

        try:
            logging.config.dictConfig(dict(self.settings.logging))
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            problem = f"LOGGING is not what logging.config.dictConfig takes: {error}"
            raise ConfigError("the configuration cannot be used", [problem]) from error

    def stop(self) -> None:
        """Stop everything, in order; returns when it is done. Idempotent and thread safe.

        Raises:
            CallsAbandoned: Calls were still running after ``SHUTDOWN_TIMEOUT``; everything else was stopped anyway.
                (Of copies, `start` raises that.)
        """
        if self.supervisor is not None:
            self.supervisor.stop()
            return
        with self.transition:
            if self.stopped:
                return
            self.stopped = True
            self.endings.put(None)  # whoever stopped it, `start` returns
            if self.copy is not None:
                self.copy.stopping()
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
        if self.observing is not None:
            self.observing.stop()
        return abandoned

    def stop_workers(self) -> list[str]:
        """Let running calls finish within ``SHUTDOWN_TIMEOUT``, all pools at the same time."""
        spawners = self.assembly.spawners.values()
        deadline = self.lifecycle.stop_by = time.monotonic() + self.settings.shutdown_timeout
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


class Observing(Protocol):
    """What lets operators look on."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End, within seconds."""


def tallies_for(settings: Settings) -> "Tallies | None":
    """Where things are counted, with ``ENABLE_METRICS``."""
    if not settings.enable_metrics:
        return None
    from micro_framework.metrics.tallies import Tallies  # here, because most services start without

    return Tallies(secrets_of(settings))


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Texts of the configuration that nobody may see."""
    passwords = (part.partition("@")[0].rpartition(":")[2] for part in (settings.amqp_uri or "").split("//")[1:])
    token = settings.websocket.token
    # What is shorter is part of any text, and no secret.
    return tuple(each for each in (*passwords, token) if each and len(each) >= 6)


def run_copy(copy: "Copy", parcel: bytes) -> None:
    """What each copy of a runner runs that was made in a program.

    Args:
        copy: The copy.
        parcel: The services and the configuration, see `parcels`.
    """
    from micro_framework.parcels import unpack

    services, config = unpack(parcel)
    Runner(services, config).start_as(copy)
