"""Inside a worker process: what runs from its birth to its end.

It is told what to build, imports the service, sets up its dependencies once, and then runs one call after the other on
its main thread. Its life hangs on its service: when the channel ``control`` closes, the service is gone, and the
process ends at once, whatever it is doing. On Linux the system kills it too, which also ends one that never lets its
other threads run. Signals that go to a whole group of processes do not concern it: its service says when it ends.
"""

import contextlib
import ctypes
import faulthandler
import logging
import mmap
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, NamedTuple

from micro_framework.calls import Call, Outcome
from micro_framework.clock import SystemClock
from micro_framework.dependencies import Dependency
from micro_framework.exceptions import NotPicklable
from micro_framework.extensions import Extension, Host, Lifecycle, SharedExtensions, in_start_order, perform
from micro_framework.logs import running_call
from micro_framework.metrics.reporting import Reporting
from micro_framework.metrics.tallies import Tallies
from micro_framework.spawners.blueprint import Birth, Blueprint, RoutePlan
from micro_framework.spawners.channel import Channel
from micro_framework.spawners.crossing import Request, pack_answer, unpack_call, unpack_request
from micro_framework.spawners.failures import failure_of, rebuilt
from micro_framework.spawners.log_mirror import drop_doubles, repeat_logging
from micro_framework.spawners.main_module import read_main_module
from micro_framework.spawners.work import BERTHS, Work
from micro_framework.targets import FoundTargets, Target, close_event_loop, find_targets, raised_in
from micro_framework.tracing import within
from micro_framework.workers import Plan, Worker

__all__ = ["main"]

logger = logging.getLogger(__name__)

NOT_SET_UP = 1
"""Exit code of a process that has told why it could not be set up."""

ORPHANED = 3
"""Exit code of a process whose service is gone."""

PR_SET_PDEATHSIG = 1

SIGNALS_OF_THE_SERVICE: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""Signals that come to the service and its processes together, with the handlers that Python begins with."""


class Problems(Exception):
    """What is wrong with the service's targets.

    Args:
        problems: A sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(self.problems)


def main() -> None:
    """The process; `child.launched` wrote its arguments."""
    name, service, *descriptors = sys.argv[1:]
    requests, *berths, control, marker, birth = map(int, descriptors)
    for descriptor in map(int, descriptors):
        os.set_inheritable(descriptor, False)  # they are nothing for the programs that a target starts
    bear_signals()
    die_with_service(int(service))
    channels = [Channel(socket.socket(fileno=each)) for each in berths]
    work = Work(socket.socket(fileno=requests), channels, mmap.mmap(marker, BERTHS))
    live(name, work, Channel(socket.socket(fileno=control)), birth)


def bear_signals() -> None:
    """Let pass the signals that mean the service, and say where a crash happened."""
    for number in SIGNALS_OF_THE_SERVICE:
        # A handler of our own, not SIG_IGN: programs that a target starts would inherit that.
        signal.signal(number, passed)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS_OF_THE_SERVICE)
    os.register_at_fork(before=forks.hold, after_in_parent=forks.let_go, after_in_child=forks.bear_no_more)
    with contextlib.suppress(Exception):  # there may be no stderr
        faulthandler.enable(all_threads=False)


class Forks(threading.local):
    """Processes that a target forks, with multiprocessing for one, are ended by those signals, from their beginning.

    Until their handlers are what they should be, signals are held back.
    """

    mask: Iterable[int] = ()

    def hold(self) -> None:
        """Before a fork."""
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_OF_THE_SERVICE)

    def let_go(self) -> None:
        """After it, here."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def bear_no_more(self) -> None:
        """After it, in the new process."""
        for number, handler in SIGNALS_OF_THE_SERVICE.items():
            signal.signal(number, handler)
        self.let_go()


forks = Forks()


def passed(number: int, frame: FrameType | None) -> None:
    """The handler: the service has the same signal, and says what follows from it."""


def die_with_service(service: int) -> None:
    """Have the system kill this process when the thread that started it ends, where the system can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != service:  # it was too late for that
        os._exit(ORPHANED)


def live(name: str, work: Work, control: Channel, birth: int) -> None:
    """From the birth to the end."""
    threading.current_thread().name = name
    multiprocessing.current_process().name = name  # which is %(processName)s in log lines
    reporter = Reporter(name, control)
    threading.Thread(target=end_with, args=[control], name="mf-service-watch", daemon=True).start()
    try:
        inhabitants = Inhabitants(born(read_all(birth)), reporter)
        inhabitants.start()
    except Problems as error:
        reporter.tell("problems", error.problems)
        sys.exit(NOT_SET_UP)
    except BaseException as error:  # noqa: BLE001 - the service raises it, and says where it comes from
        reporter.tell("failed", tuple(failure_of(error)))
        sys.exit(NOT_SET_UP)
    serve(inhabitants, work)
    inhabitants.stop()


def read_all(descriptor: int) -> bytes:
    """The content of a file that other processes read too."""
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size, 0)
    os.close(descriptor)
    return content


def end_with(control: Channel) -> None:
    """The thread ``mf-service-watch``: the service never sends anything here, so what comes is the end."""
    control.receive()
    os._exit(ORPHANED)


class Reporter:
    """Tells the service what it did not ask for. Thread safe.

    A report is a pickled tuple of built-in types: ``("started", warnings)``, ``("ready", None)``, ``("problems",
    texts)``, ``("metrics", snapshot)``, ``("failed", failure)`` for a set-up that raised, ``("refused", failure)`` for
    what ends the service.

    Args:
        name: The name of this process.
        control: The channel.
    """

    def __init__(self, name: str, control: Channel) -> None:
        self.name = name
        self.control = control
        self.lock = threading.Lock()

    def tell(self, kind: str, content: object = None) -> None:
        """Send a report."""
        with self.lock, contextlib.suppress(OSError):  # without a service this process has ended in a moment
            self.control.send(pickle.dumps((kind, content)))


def born(birth: bytes) -> Blueprint:
    """Become like the service as far as its code can tell, and import that.

    Raises:
        Problems: It cannot be imported here.
    """
    told: Birth = pickle.loads(birth)  # noqa: S301 - from the service of this process
    sys.argv[:] = told.argv
    try:
        if told.main is not None:
            read_main_module(told.main)
        if told.logging is not None:
            import logging.config  # here, because it costs every start

            logging.config.dictConfig(pickle.loads(told.logging))  # noqa: S301 - likewise
        added = repeat_logging(told.loggers)
        blueprint = Blueprint.unpack(told.blueprint)
    except BaseException as error:
        raise Problems([f"a worker process cannot import what the service is made of: {raised_in(error)}"]) from error
    drop_doubles(added)
    return blueprint


class Bound(NamedTuple):
    """A route as it runs here.

    Args:
        plans: What to run, by `Role`; None for a callback that there is not.
        worker_class: Runs it.
    """

    plans: tuple[Plan, Plan | None]
    worker_class: type[Worker]


class Inhabitants:
    """The targets and dependencies that live in this process.

    Args:
        blueprint: What they are built from.
        reporter: Tells the service.

    Raises:
        Problems: With every problem of the targets.
    """

    def __init__(self, blueprint: Blueprint, reporter: Reporter) -> None:
        self.blueprint = blueprint
        self.reporter = reporter
        self.clock = SystemClock()
        self.lifecycle = Lifecycle()
        self.shared = SharedExtensions()
        self.tallies = Tallies() if blueprint.settings.enable_metrics else None
        self.reporting = Reporting(self.report)
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.announced = threading.Lock()  # taken for good by the first announcement
        self.routes = [self.bound(route) for route in blueprint.routes]
        for extension in self.shared.bound.values():
            self.problems += extension.problems()
        if self.problems:
            raise Problems(list(dict.fromkeys(self.problems)))
        self.ordered = in_start_order(d for route in self.routes if route for d in dependencies_of(route))
        self.begun: list[Extension] = []
        self.is_up = False

    def bound(self, route: RoutePlan) -> Bound | None:
        """A route with its dependencies bound; None if something is wrong with it."""
        found = find_targets(route.wanted)
        problems = found.problems + list(name_problems(route, found))
        self.problems += [f"{route.where}: {problem}" for problem in problems]
        if found.target is None or problems:
            return None
        self.warnings += unused_warnings(route, found)
        host = self.host(route.service)
        callback = None if found.callback is None else self.plan(host, found.callback)
        plan = self.plan(host, found.target, route.translators, called_from_outside=route.called_from_outside)
        return Bound((plan, callback), route.worker_class)

    def plan(
        self, host: Host, target: Target, translators: tuple[Any, ...] = (), *, called_from_outside: bool = False
    ) -> Plan:
        """A plan with its dependencies bound."""

        def bind(dependency: Dependency[Any]) -> Dependency[Any]:
            return self.shared.get(dependency, host)

        return Plan.of(host, target.bound(bind), translators, called_from_outside=called_from_outside)

    def host(self, service: str) -> Host:
        """Where the extensions of a service are bound."""
        of = self.blueprint
        return Host(
            of.settings,
            service,
            of.context,
            of.workers,
            of.prefetch,
            self.clock,
            self.lifecycle,
            self.shared,
            self.reporter.name,
            self.tallies,
        )

    def start(self) -> None:
        """Set up and start the dependencies, and tell the service.

        Raises:
            Exception: What a hook raised.
        """
        self.lifecycle.on_change(self.announce)
        self.lifecycle.on_failure(lambda error: self.reporter.tell("refused", tuple(failure_of(error))))
        for extension in self.ordered:
            perform(extension, "setup")
        self.clock.start()
        for extension in self.ordered:
            self.begun.append(extension)
            perform(extension, "start")
        self.is_ready()  # one that raises, raises here for the first time
        self.reporter.tell("started", self.warnings)
        self.is_up = True
        self.announce()
        if self.tallies is not None:
            self.reporting.start()

    def is_ready(self) -> bool:
        """Whether everything is connected right now."""
        return all(extension.is_ready() for extension in self.begun)

    def announce(self) -> None:
        """Tell the service when everything is connected for the first time."""
        if self.is_up and self.is_ready() and self.announced.acquire(blocking=False):
            self.reporter.tell("ready")
            self.lifecycle.all_ready()

    def stop(self) -> None:
        """Stop the dependencies; one that fails is logged and does not keep the others from it."""
        self.clock.stop()
        for extension in reversed(self.begun):
            try:
                extension.stop()
            except Exception:
                logger.exception("%s could not be stopped cleanly", extension)
        self.reporting.stop()  # last: what the extensions did at their end counts too

    def report(self) -> None:
        """Tell the service what has been counted here."""
        if self.tallies is not None:
            self.reporter.tell("metrics", self.tallies.snapshot().plain())

    def run(self, request: Request) -> bytes:
        """Run what is asked for; the answer, whatever happens."""
        received = left = None
        try:
            received = left = unpack_call(request.call)
        except Exception as error:  # noqa: BLE001 - whatever a user's class raises
            outcome = Outcome(error=NotPicklable(f"an argument cannot be unpickled in a worker process: {error!r}"))
        else:
            left, outcome = self.call(request, received)
        return pack_answer(request, received, left, outcome)

    def call(self, request: Request, call: Call) -> tuple[Call, Outcome]:
        """Run a call in a `Worker` of its own."""
        route = self.routes[request.route]
        plan = route.plans[request.role] if route is not None else None
        if route is None or plan is None:  # never, but for an error of ours
            return call, Outcome(error=LookupError(f"there is no {request}"))
        if request.failure is not None and plan.target.takes("exception"):
            kwargs = {**call.kwargs, "exception": rebuilt(request.failure, where=None)}
            call = Call(call.identity, call.args, kwargs, call.context, call.attempt)
        token = running_call.set(call)  # so that whatever is logged meanwhile carries the call's fields
        try:
            with within(call.context):
                worker = route.worker_class(plan, call)
                outcome = worker.run()
        except BaseException as error:  # noqa: BLE001 - the worker class may be the user's: a failure of the call
            return call, Outcome(error=error)
        finally:
            running_call.reset(token)
        return worker.call, outcome


def dependencies_of(route: Bound) -> list[Extension]:
    """The dependencies of a route's target and callback."""
    plans = [plan for plan in route.plans if plan is not None]
    return [dependency for plan in plans for _, dependency in (*plan.target.attributes, *plan.target.keywords)]


def name_problems(route: RoutePlan, found: FoundTargets) -> list[str]:
    """A target that calls itself something else than the path that names it."""
    if found.target is None or found.target.name == route.name:
        return []
    text = (
        f"the target calls itself {found.target.name!r} and would have other queues in a thread mode, where that name "
        f"counts; let it be called {route.name!r} (functools.wraps does that for a decorated function)"
    )
    return [text]


def unused_warnings(route: RoutePlan, found: FoundTargets) -> list[str]:
    """One for each dependency that neither target nor callback names."""
    text = "its signature does not name the dependency"
    return [f"{route.where}: {text} {name!r}, so it is not passed" for name in found.unused(route.wanted)]


def serve(inhabitants: Inhabitants, work: Work) -> None:
    """Run one call after the other, until the service sends no more."""
    try:
        while (found := work.next()) is not None:
            number, frame = found
            # From here on the process dies of this call, if it dies; a shared byte, since a message costs much more.
            work.marker[number] = 1
            work.berths[number].send(inhabitants.run(unpack_request(frame)))
    finally:
        close_event_loop()
