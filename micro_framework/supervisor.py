"""Several copies of a service, each a process of its own: started, watched, started again, stopped.

How a copy is started: as a new interpreter (``spawn``). A fork would take over whatever threads and locks the
supervisor's process has by then, and it has some whenever a copy that died is replaced; Python warns of that from 3.12
on. A fork server would be the copies' parent in the supervisor's place, and the kernel tells children only of their
parent's death. The price: a copy takes as long to start as the command does, imports everything for itself, and what it
runs must be importable.

How a copy ends with the supervisor: see `micro_framework.parentage` and `micro_framework.copies`.

What exists once: timers. One copy is told to run them; when it has died another one is. They never move from a copy
that lives, because a call of theirs might run on there.

Everything but the reading of signals is done by the one thread that called `Supervisor.run`; it is also the one that
starts the copies, because the kernel ends them when that thread ends.
"""

import logging
import multiprocessing
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from micro_framework.channel import Message
from micro_framework.config import Settings
from micro_framework.copies import UNGUARDED, CopyMain
from micro_framework.exceptions import CallsAbandoned, CopyFailed, MicroFrameworkError, WorkerDied
from micro_framework.observe.opening import server_for
from micro_framework.observe.watched import CopiesView
from micro_framework.seats import Child, Seat
from micro_framework.signals import SignalWatch, end_at_once

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

NAME = "supervisor"
"""The name of its process in logs."""

STOP_MARGIN = 15.0
"""Seconds a copy has beyond ``SHUTDOWN_TIMEOUT``, to cancel its consumers before and close its connections after."""
KILL_SECONDS = 5.0
"""Longest wait for a process that was sent SIGKILL."""

ASK_SECONDS = 5.0
"""How often a copy is asked whether it is alive."""
SILENT_AFTER = 30.0
"""Seconds without an answer after which that is logged, once."""

LONGEST_WAIT = 1.0
"""Seconds after which the supervisor looks at every copy even if nothing was reported: a process started by a copy may
hold open what would report the copy's death."""

UNGUARDED_MAIN = (
    "the main module starts its services whenever it is imported, and the copies that PROCESSES asks for import it; "
    'put the start under `if __name__ == "__main__":`'
)


class Supervisor:
    """Keeps so many copies running until it is told to stop.

    Args:
        main: What each copy runs, see `CopyMain`.
        arguments: What it gets besides the `Copy`; they are pickled for each copy that is started. A socket among them
            (a port that all copies listen to) is passed on.
        settings: ``PROCESSES`` says how many copies, ``SHUTDOWN_TIMEOUT`` how long their running calls have at the end.
    """

    def __init__(self, main: CopyMain, arguments: tuple[Any, ...], settings: Settings) -> None:
        self.main = main
        self.arguments = arguments
        self.settings = settings
        self.shutdown_timeout = settings.shutdown_timeout
        self.view = CopiesView(settings.processes)
        self.seats = [Seat(number) for number in range(1, settings.processes + 1)]
        self.stop_wanted = threading.Event()
        self.forced: int | None = None  # the number of the second signal
        self.over = threading.Event()
        self.thread: threading.Thread | None = None
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        self.woken.setblocking(False)
        self.deadline: float | None = None  # of the stop, once the copies have been told
        self.failure: MicroFrameworkError | None = None  # the first reason why nothing can go on
        self.unclean: list[str] = []
        self.abandoned: list[str] = []
        self.announced = False

    # What any thread may ask.

    @property
    def ready(self) -> bool:
        """Whether every copy runs and has been ready."""
        return not self.stop_wanted.is_set() and all(seat.child and seat.child.ready for seat in self.seats)

    def request_stop(self) -> None:
        """Have `run` stop the copies and return. Thread safe."""
        self.stop_wanted.set()
        self.wake()

    def stop(self) -> None:
        """Stop the copies, and wait until that is done unless this is the thread that does it. Thread safe."""
        self.request_stop()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.over.wait(self.shutdown_timeout + STOP_MARGIN + KILL_SECONDS)

    def force(self, number: int) -> None:
        """A second signal: `run` kills the copies and ends the process; should it be stuck, this thread does."""
        self.forced = number
        self.wake()
        if not self.over.wait(KILL_SECONDS):
            end_at_once(number)

    def wake(self) -> None:
        """Let the supervisor look around now."""
        try:
            self.waker.send(b"\0")
        except OSError:
            pass  # full, so it wakes anyway; or closed, so it is over

    # The supervising thread.

    def run(self) -> None:
        """Start the copies and return when all have stopped cleanly; call it once.

        SIGTERM and SIGINT stop them, if this is the main thread; a second one kills them and ends the process with exit
        code 128 + its number.

        Raises:
            MicroFrameworkError: What a copy failed with, if starting it again would not change it; the others were
                stopped. `CallsAbandoned`: Calls still ran after ``SHUTDOWN_TIMEOUT``.
            CopyFailed: A copy died again and again when it started, or did not stop cleanly.
        """
        self.thread = threading.current_thread()
        with called(NAME), self.observed(), children_told_of(), SignalWatch(self.request_stop, self.force):
            try:
                while not self.finished():
                    self.start_due()
                    self.look_around()
                    self.act()
            finally:
                self.end()
            logger.info("stopped")
        self.report()

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Inside the block, the port for operators is open, if there is to be one: it exists once, whatever dies."""
        if not self.settings.enable_metrics:
            yield
            return
        server = server_for(self.settings, "", self.view.snapshot, self.view.health)
        server.start()
        try:
            yield
        finally:
            server.stop()

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        stopped = self.deadline is not None and not self.children()
        return stopped or self.forced is not None

    def children(self) -> list[Child]:
        """The copies that are there."""
        return [seat.child for seat in self.seats if seat.child is not None]

    def start_due(self) -> None:
        """Start the copies whose time has come."""
        for seat in self.seats:
            if seat.due is not None and seat.due <= time.monotonic() and not self.stop_wanted.is_set():
                self.start(seat)

    def start(self, seat: Seat) -> None:
        """Start a copy; a system that refuses it one more process counts as its death."""
        try:
            seat.child = Child(seat.name, self.main, self.arguments, time.monotonic())
        except OSError as error:
            self.start_again(seat, f"{seat.name} could not be started: {error}")
            return
        seat.due = None
        logger.info("%s has been started", seat.child)

    def look_around(self) -> None:
        """Wait until something is reported or due; then hear what the copies say, and bury the dead."""
        children = self.children()
        channels = [child.channel.fileno() for child in children if not child.channel.gone]
        sentinels = [child.process.sentinel for child in children]
        due = [seat.due for seat in self.seats if seat.due is not None]
        pause = min([LONGEST_WAIT, *(moment - time.monotonic() for moment in due)])
        wait([self.woken, *channels, *sentinels], max(0.0, pause))
        self.view.turned()
        self.drain_waker()
        for seat in self.seats:
            if seat.child is not None:
                self.attend(seat, seat.child)

    def drain_waker(self) -> None:
        """Take what woke it."""
        try:
            self.woken.recv(4096)
        except BlockingIOError:
            pass

    def attend(self, seat: Seat, child: Child) -> None:
        """Hear what a copy says; bury it if it is dead."""
        code = child.exit_code()  # asked first: what a dead copy has said is then complete
        while (messages := child.channel.receive()) is not None:
            for message in messages:
                self.hear(child, message)
        if code is not None:
            self.bury(seat, child, code)

    def hear(self, child: Child, message: Message) -> None:
        """Act on what a copy says."""
        child.says(message, time.monotonic())
        match message["name"]:
            case "ready" if self.announced:
                logger.info("%s is ready in the place of one that died", child)
            case "ready" if self.ready:
                self.announced = True
                logger.info("ready: %s in %s copies", message["what"], len(self.seats))
            case "measured":
                self.view.heard(str(child), message["snapshot"], message["health"])
            case "failed":
                self.failed(child, child.error)

    def failed(self, child: Child, error: MicroFrameworkError | None) -> None:
        """A copy says what it ends with; anything but calls that it abandoned would only be repeated by the next."""
        if not isinstance(error, CallsAbandoned):
            self.give_up(error)
        elif self.stop_wanted.is_set():
            self.abandoned += error.calls
        else:  # somebody has stopped this copy alone
            logger.error("%s: %s", child, error)

    def bury(self, seat: Seat, child: Child, code: int) -> None:
        """A copy is dead; whether that is a matter of course depends on what it was told and has told."""
        now = time.monotonic()
        what = f"{child} {WorkerDied.ending(code)} after {now - child.since:.1f} s"
        seat.child = None
        self.view.gone(str(child))
        child.close()
        if self.stop_wanted.is_set():
            if code and child.error is None:
                self.unclean.append(f"{what}, before it had stopped cleanly")
        elif code == UNGUARDED and not child.started:
            self.give_up(CopyFailed(UNGUARDED_MAIN))
        else:
            of_use, long_lived = child.lived_to_be_of_use(now), child.lived_long(now)
            self.start_again(seat, what, long_lived=long_lived, of_use=of_use)

    def start_again(self, seat: Seat, what: str, *, long_lived: bool = False, of_use: bool = False) -> None:
        """Start a copy again after a pause, unless it was started in vain so often that it always will be."""
        pause = seat.lost(time.monotonic(), random.random(), long_lived=long_lived, of_use=of_use)
        if seat.is_hopeless():
            self.give_up(CopyFailed(f"{what}; that is {seat.in_vain} times in a row that it did not live to be ready"))
        else:
            logger.warning("%s; it is started again in %.1f s", what, pause)

    def give_up(self, error: MicroFrameworkError | None) -> None:
        """Stop because of an error; the first one is told."""
        if self.failure is None:
            self.failure = error
        self.stop_wanted.set()

    def act(self) -> None:
        """Whatever does not follow from what a single copy says."""
        if not self.stop_wanted.is_set():
            self.appoint()
        elif self.deadline is None:
            self.stop_children()
        else:
            self.kill_late()
        self.ask()

    def stop_children(self) -> None:
        """Tell every copy to stop, and start none any more."""
        self.deadline = time.monotonic() + self.shutdown_timeout + STOP_MARGIN
        self.view.stopping()
        logger.info("stopping; running calls have %g s to finish", self.shutdown_timeout)
        for seat in self.seats:
            seat.due = None
        for child in self.children():
            child.channel.send("stop")

    def kill_late(self) -> None:
        """Kill the copies that have not stopped in time."""
        if self.deadline is None or time.monotonic() < self.deadline:
            return
        for child in self.children():
            if not child.killed:
                late = self.shutdown_timeout + STOP_MARGIN
                logger.error("%s has not stopped within %g s and is killed", child, late)
                child.kill()

    def appoint(self) -> None:
        """See that one copy runs the timers, one that is ready if there is any."""
        children = self.children()
        able = [child for child in children if child.can_run_timers()]
        if able and not any(child.runs_timers for child in children):
            chosen = next((child for child in able if child.ready), able[0])
            chosen.run_timers()
            logger.info("the timers run in %s from now on", chosen)

    def ask(self) -> None:
        """Ask every copy now and then whether it is alive; one that does not say so for long is only logged.

        It may be stopped, swap, or hold the interpreter in C; nobody can tell which, and to kill it would make the
        broker deliver its calls again, the one that keeps it busy included.
        """
        now = time.monotonic()
        for child in self.children():
            if child.owes_answer():
                if not child.silent and now - child.asked >= SILENT_AFTER:
                    child.silent = True
                    logger.warning(
                        "%s has not answered for %g s: it is stopped, or busy in C code", child, SILENT_AFTER
                    )
                continue
            if child.silent:
                child.silent = False
                logger.warning("%s answers again", child)
            if child.started and now - child.asked >= ASK_SECONDS:
                child.ask(now)

    def end(self) -> None:
        """Leave nothing behind, however `run` ends."""
        for child in self.children():
            child.kill()
        deadline = time.monotonic() + KILL_SECONDS
        for child in self.children():
            child.process.join(max(0.0, deadline - time.monotonic()))
            child.close()
        self.over.set()
        self.waker.close()
        self.woken.close()
        if self.forced is not None:
            end_at_once(self.forced)

    def report(self) -> None:
        """Raise what kept the copies from running, or from stopping cleanly."""
        if self.failure is not None:
            raise self.failure
        if self.unclean:
            raise CopyFailed("; ".join(self.unclean))
        if self.abandoned:
            raise CallsAbandoned(self.abandoned, self.shutdown_timeout)


@contextmanager
def called(name: str) -> Iterator[None]:
    """Give this process a name for logs, inside the block."""
    process = multiprocessing.current_process()
    before, process.name = process.name, name
    try:
        yield
    finally:
        process.name = before


@contextmanager
def children_told_of() -> Iterator[None]:
    """Inside the block, the system tells how children end; where SIGCHLD is ignored, maybe by a parent, it does not."""
    ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    changed = ignored and threading.current_thread() is threading.main_thread()
    if changed:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        if changed:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
