"""`Keeper`: the thread that starts, watches, replaces and ends the worker processes of one pool.

One thread does all of that, because the system counts a process as the child of the *thread* that started it: when the
keeper ends, for whatever reason, the system kills every worker process that is left (see `inside`). It waits for many
things at once and for nothing in particular: the end of a process, what a process has to tell, a time that comes, and
what other threads ask of it.

Which process runs the next call is for `Berths`; whoever took a berth gives it back.
"""

import contextlib
import logging
import math
import os
import pickle
import queue
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from micro_framework.exceptions import DeclarationError, MicroFrameworkError, SetupFailed, WorkerDied
from micro_framework.extensions import Lifecycle
from micro_framework.metrics.snapshots import Snapshot, Sources
from micro_framework.spawners.berths import Berths
from micro_framework.spawners.child import Berth, Child, shared_file
from micro_framework.spawners.failures import Failure, rebuilt
from micro_framework.spawners.work import END
from micro_framework.workers import Abandoned, DependencyFailure

__all__ = ["Keeper", "Limits", "never"]

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""How long a process that runs no call may take to stop its dependencies and end."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds before a process is started again that did not come to work; doubled while that goes on."""

PROBATION = 10.0
"""A process that ended within so many seconds, and not because of a call, did not come to work either."""

STARTING_AT_ONCE = max(1, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
"""How many processes may be importing and setting up at the same time: more of them only take longer each."""

KEEPER_SECONDS = 5.0
"""How long the keeper itself may take to see that something has been due."""

POLL_SECONDS = 0.5
"""How often ended processes are looked for where the system has no descriptors of processes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pool allows its processes.

    Args:
        start_timeout: Seconds for being set up.
        task_timeout: Seconds for a call, None for no limit.
        max_tasks: Calls after which a process is replaced, None for no limit.
    """

    start_timeout: float
    task_timeout: float | None = None
    max_tasks: int | None = None


def never() -> bool:
    """The default of ``unless``."""
    return False


class Keeper:
    """The processes of one pool. `launch` first, `end` last; `take` from any thread in between.

    Args:
        context: The pool's name; the processes are called ``mf-process-<context>-<n>``.
        size: How many processes.
        limits: What they are allowed.
        lifecycle: Where readiness and failures are reported.
    """

    def __init__(self, context: str, size: int, limits: Limits, lifecycle: Lifecycle) -> None:
        self.context = context
        self.size = size
        self.limits = limits
        self.lifecycle = lifecycle
        self.berths = Berths(limits.max_tasks)
        self.thread = threading.Thread(target=self.run, name=f"mf-keeper-{context}", daemon=True)
        self.changed = threading.Condition()
        self.requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        self.abandoning = False
        self.sources = Sources()  # what the processes have counted
        # Below: the keeper's thread alone.
        self.children: list[Child] = []
        self.worked: set[int] = set()  # slots of which a process has come to work
        self.were_ready: set[int] = set()  # slots of which a process has been ready
        self.births: dict[int, float] = {}  # slots without a process, and when they get one
        self.pauses: dict[int, float] = {}
        self.deadlines: dict[Child, float] = {}  # of processes that have been told to end
        self.warned: set[str] = set()
        self.stopping = False

    def __str__(self) -> str:
        return f"worker processes of context {self.context!r}"

    # -- for other threads

    def launch(self, birth: bytes, path: Sequence[str]) -> None:
        """Start every process, and return when all are set up.

        Args:
            birth: What each of them is told first.
            path: Where they import from.

        Raises:
            DeclarationError: What they found wrong with the service's targets.
            SetupFailed: One could not be set up, or not in time.
        """
        self.path = tuple(path)
        self.birth = shared_file(birth)
        self.selector = selectors.DefaultSelector()
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        self.woken.setblocking(False)
        self.selector.register(self.woken, selectors.EVENT_READ, self.answer_requests)
        self.births = dict.fromkeys(range(self.size), 0.0)
        self.thread.start()
        # Each has its own time, see `look_after`; all together this many times as much, and some for the keeper itself.
        seconds = self.limits.start_timeout * math.ceil(self.size / STARTING_AT_ONCE) + KEEPER_SECONDS
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self.complete, seconds)
        if self.failure is not None:
            raise self.failure
        if not self.complete:
            raise SetupFailed(f"{self}: {len(self.worked)} of {self.size} were set up within {seconds:g} s")

    @property
    def complete(self) -> bool:
        """Whether every process has been set up once."""
        return len(self.worked) == self.size

    @property
    def ready(self) -> bool:
        """Whether every process has been ready once, with its dependencies connected."""
        return len(self.were_ready) == self.size

    def take(self, *, ahead: bool = False, unless: Callable[[], bool] = never) -> Berth:
        """A berth at a process for one call; waits for one if need be.

        Args:
            ahead: Whether the call may be sent to a process that runs another one.
            unless: Whether to give up waiting.

        Raises:
            DependencyFailure: No process came within ``START_TIMEOUT``; the log says why.
            Abandoned: The pool ends, or ``unless`` says so.
        """
        berth = self.berths.take(self.limits.start_timeout, ahead=ahead, unless=unless)
        if berth is not None:
            return berth
        if self.abandoning or unless():
            raise Abandoned
        raise DependencyFailure(f"none of the {self} was free within START_TIMEOUT ({self.limits.start_timeout:g} s)")

    def replace(self, child: Child) -> None:
        """Have another process in the place of one that is worn out."""
        self.ask(lambda: self.retire(child))

    def abandon(self) -> None:
        """Kill every process that runs a call; whoever waits for it, or for a process, gets `Abandoned`."""
        self.abandoning = True
        self.berths.end()
        for child in tuple(self.children):
            child.abandon()

    def end(self) -> None:
        """Let every process stop its dependencies and end, and wait for that. No call may be running. Idempotent."""
        if self.thread.is_alive():
            self.ask(self.stop)
            self.thread.join(STOP_SECONDS + 5)

    def ask(self, request: Callable[[], None]) -> None:
        """Have something done by the keeper's thread."""
        self.requests.put(request)
        with contextlib.suppress(OSError):  # it has enough to wake up for, or has ended
            self.waker.send(b".")

    # -- the keeper's thread

    def run(self) -> None:
        """The thread."""
        # Processes inherit this, so that a signal to the whole group cannot end one that is not yet able to bear it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            while self.children or not self.stopping:
                self.look_after()
                for key, _ in self.selector.select(self.pause()):
                    key.data()
        except BaseException as error:
            logger.exception("the keeper of the %s failed; they end", self)
            self.fail(error)
            self.lifecycle.fail(error)
        finally:
            self.close()

    def fail(self, error: BaseException) -> None:
        """What `launch` raises, if it still waits; the first failure counts."""
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()

    def close(self) -> None:
        """Kill what is left, and close everything."""
        self.abandoning = True
        self.berths.end()
        for child in tuple(self.children):
            child.process.kill()
            self.bury(child)
        self.selector.close()
        self.waker.close()
        self.woken.close()
        os.close(self.birth)

    def pause(self) -> float | None:
        """Seconds until something is due; None: nothing will be, unless something happens."""
        now = time.monotonic()
        due = [*self.deadlines.values(), *(child.born_at + self.limits.start_timeout for child in self.starting)]
        if self.births and len(self.starting) < STARTING_AT_ONCE:
            due.append(min(self.births.values()))
        if (limit := self.limits.task_timeout) is not None:
            # A call that begins later than this moment is not due before the next look.
            due += [
                now + limit,
                *(
                    began + limit
                    for child in self.children
                    for berth in child.berths
                    if (began := berth.began_at) is not None
                ),
            ]
        if not all(child.pidfd is not None for child in self.children):
            due.append(now + POLL_SECONDS)
        return max(0.0, min(due) - now) if due else None

    def look_after(self) -> None:
        """Do what is due by now."""
        now = time.monotonic()
        for child in self.starting:
            if now - child.born_at >= self.limits.start_timeout:
                self.too_slow(child)
        for slot in [slot for slot, due in self.births.items() if due <= now]:
            if len(self.starting) < STARTING_AT_ONCE:
                del self.births[slot]
                self.bear(slot)
        for child in [child for child, due in self.deadlines.items() if due <= now]:
            logger.warning("%s did not end within %g s and is killed", child, STOP_SECONDS)
            self.deadlines[child] = now + STOP_SECONDS
            child.process.kill()
        if self.limits.task_timeout is not None:
            for child in self.children:
                child.kill_overdue(self.limits.task_timeout, now)
        for child in [child for child in self.children if child.pidfd is None and child.process.poll() is not None]:
            self.died(child)

    @property
    def starting(self) -> list[Child]:
        """The processes that are importing and setting up."""
        return [child for child in self.children if not child.working and not child.retired]

    def too_slow(self, child: Child) -> None:
        """A process has had its time for being set up."""
        seconds = self.limits.start_timeout
        self.give_up(
            child,
            SetupFailed(
                f"{child} was not set up within START_TIMEOUT ({seconds:g} s); give it more time, or look at what the "
                "service does when it is imported and set up"
            ),
        )
        child.process.kill()

    def answer_requests(self) -> None:
        """Do what other threads asked for."""
        with contextlib.suppress(BlockingIOError):
            self.woken.recv(4096)
        while True:
            try:
                request = self.requests.get_nowait()
            except queue.Empty:
                return
            request()

    def bear(self, slot: int) -> None:
        """Start a process."""
        name = f"mf-process-{self.context}-{slot}"
        try:
            child = Child(name, slot, self.birth, self.path)
        except OSError as error:
            self.not_working(slot, SetupFailed(f"{name} cannot be started: {error}"))
            return
        self.children.append(child)
        if child.pidfd is not None:
            self.selector.register(child.pidfd, selectors.EVENT_READ, lambda: self.died(child))
        self.selector.register(child.control, selectors.EVENT_READ, lambda: self.listen(child))

    def listen(self, child: Child) -> None:
        """A process has something to tell, or its channel has ended."""
        if child.ended.is_set():  # which was seen a moment ago, together with this
            return
        if not child.control.fill():
            self.selector.unregister(child.control)
        self.hear(child)

    def hear(self, child: Child) -> None:
        """Take note of all that a process has told."""
        while (frame := child.control.take()) is not None:
            self.take_note(child, pickle.loads(frame))  # noqa: S301 - built-in types only, see `inside.Reporter`

    def take_note(self, child: Child, report: tuple[str, Any]) -> None:
        """What a process tells."""
        match report:
            case ("started", warnings):
                self.started(child, warnings)
            case ("metrics", plain):
                self.sources.heard(str(child), Snapshot.of(plain))
            case ("ready", _):
                self.were_ready.add(child.slot)
                self.lifecycle.notify()
            case ("problems", problems):
                self.give_up(child, DeclarationError("the service cannot run as it is declared", problems))
            case ("failed", failure):
                self.give_up(child, as_setup_failure(child, rebuilt(Failure(*failure), where=str(child))))
            case ("refused", failure):
                self.lifecycle.fail(rebuilt(Failure(*failure), where=str(child)))

    def started(self, child: Child, warnings: Sequence[str]) -> None:
        """A process is set up and can be given calls."""
        for warning in warnings:
            if warning not in self.warned:  # all processes of the pool have the same to say
                self.warned.add(warning)
                logger.warning("%s", warning)
        child.working = True
        self.berths.add(child)
        with self.changed:
            self.worked.add(child.slot)
            self.changed.notify_all()

    def give_up(self, child: Child, error: BaseException) -> None:
        """A process says why it could not be set up; it ends by itself."""
        child.retire()
        self.dismiss(child)
        self.not_working(child.slot, error)

    def not_working(self, slot: int, error: BaseException) -> None:
        """A process could not be set up: at the start that is the failure of the start, later it is tried again."""
        if not self.complete:
            self.births.clear()
            self.fail(error)
        else:
            pause = self.plan_birth(slot, failed=True)
            logger.error("%s: process %s could not be set up; next try in %g s: %s", self, slot, pause, error)

    def plan_birth(self, slot: int, *, failed: bool) -> float:
        """Have a process started for a slot: at once, or after a pause if the one before did not come to work.

        Returns:
            The pause in seconds.
        """
        if self.stopping or self.abandoning or slot in self.births:
            return self.pauses.get(slot, 0.0)
        pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self.pauses.get(slot, 0.0))) if failed else 0.0
        self.pauses[slot] = pause
        self.births[slot] = time.monotonic() + pause
        return pause

    def died(self, child: Child) -> None:
        """A process has ended."""
        while child.control.fill():  # its last words may have come together with its end
            pass
        self.hear(child)
        self.bury(child)
        self.sources.gone(str(child))
        how = WorkerDied.ending(child.process.returncode)
        if child.retired:
            return
        if not child.working:
            self.not_working(child.slot, SetupFailed(f"{child} {how} while it was set up"))
            return
        if not child.going:
            logger.warning("%s %s; another one takes its place", child, how)
        useless = not child.count and not child.began and time.monotonic() - child.born_at < PROBATION
        self.plan_birth(child.slot, failed=useless)

    def bury(self, child: Child) -> None:
        """Forget a process that has ended."""
        for item in (child.pidfd, child.control):
            with contextlib.suppress(KeyError, ValueError):  # not registered, or not any more
                self.selector.unregister(item)  # type: ignore[arg-type]
        self.children.remove(child)
        self.deadlines.pop(child, None)
        child.died()

    def retire(self, child: Child) -> None:
        """Let a process end, and start the next one meanwhile."""
        self.dismiss(child)
        self.plan_birth(child.slot, failed=False)

    def dismiss(self, child: Child) -> None:
        """Tell a process to end; it is killed if it does not."""
        child.put(END)
        self.deadlines.setdefault(child, time.monotonic() + STOP_SECONDS)

    def stop(self) -> None:
        """Dismiss every process; one that is not yet set up has nothing to finish."""
        self.stopping = True
        self.births.clear()
        for child in self.children:
            child.retire()
            if child.working:
                self.dismiss(child)
            else:
                child.process.kill()


def as_setup_failure(child: Child, error: BaseException) -> MicroFrameworkError:
    """What kept a process from being set up, as an error of the framework."""
    if isinstance(error, MicroFrameworkError):
        return error
    failed = SetupFailed(f"{child} could not be set up: {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
