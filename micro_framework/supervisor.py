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
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from micro_framework.channel import Channel, Message
from micro_framework.config import Settings
from micro_framework.copies import UNGUARDED, CopyMain, copy_main, copy_name, failure_from
from micro_framework.exceptions import CallsAbandoned, CopyFailed, MicroFrameworkError
from micro_framework.signals import STOP_SIGNALS, SignalWatch, end_at_once

__all__ = ["Supervisor", "pause_before_restart"]

logger = logging.getLogger(__name__)

NAME = "supervisor"
"""The name of its process in logs."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a copy that died is started again; doubled with each death in a row."""
STABLE_AFTER = 60.0
"""Seconds a copy must have lived for its next death to be a first one."""
STARTS_IN_VAIN = 5
"""Starts in a row after which a copy died before it was ready, that end the whole: the next would fare no better."""

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

TOLD_TO_OTHERS = 255
"""In place of an exit code that the system has told somebody else."""

UNGUARDED_MAIN = (
    "the main module starts its services whenever it is imported, and the copies that PROCESSES asks for import it; "
    'put the start under `if __name__ == "__main__":`'
)


def pause_before_restart(deaths: int, chance: float) -> float:
    """Seconds to wait before a copy is started again.

    Args:
        deaths: How often it has died in a row, at least once.
        chance: A number from 0 to 1: copies that died together do not start together.
    """
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(deaths - 1, 20)) * (0.5 + chance / 2)


class Seat:
    """The place of one copy, and what is known of the process in it, if any.

    Args:
        number: Counted from 1.
    """

    def __init__(self, number: int) -> None:
        self.name = copy_name(number)
        self.deaths = 0  # in a row
        self.in_vain = 0  # starts in a row after which the copy was never ready
        self.due: float | None = 0.0  # when the next copy is to be started in it; None while there is one, or none is
        self.process: SpawnProcess | None = None
        self.channel: Channel | None = None

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})" if self.process else self.name

    def take(self, process: SpawnProcess, channel: Channel, now: float) -> None:
        """A copy has been started in it."""
        self.process, self.channel = process, channel
        self.due = None
        self.since = now
        self.timers = 0
        self.started = self.ready = self.stopping = self.runs_timers = self.silent = self.killed = False
        self.asked = self.answered = now
        self.error: MicroFrameworkError | None = None

    def leave(self) -> None:
        """The copy is dead and buried."""
        if self.process is not None and self.channel is not None:
            self.channel.close()
            with suppress(ValueError):  # it cannot tell whether it has ended, see `exit_code`
                self.process.close()
        self.process = self.channel = None

    def exit_code(self) -> int | None:
        """How its copy has ended, None while it lives.

        The system tells that once. If something else in this process has asked before (a program that waits for any
        child, a SIGCHLD that is ignored), the exit code is 255.
        """
        assert self.process is not None
        assert self.process.pid is not None
        if (code := self.process.exitcode) is not None:
            return code
        try:
            ended, status = os.waitpid(self.process.pid, os.WNOHANG)
        except ChildProcessError:
            return TOLD_TO_OTHERS
        return os.waitstatus_to_exitcode(status) if ended else None

    def kill(self) -> None:
        """End the copy at once."""
        if self.process is not None:
            self.process.kill()
            self.killed = True

    def says(self, message: Message, now: float) -> None:
        """Note what the copy says."""
        self.answered = now
        match message["name"]:
            case "started":
                self.started, self.timers = True, message["timers"]
            case "ready":
                self.ready = True
            case "stopping":
                self.stopping = True
            case "failed":
                self.error = failure_from(message)

    @property
    def can_run_timers(self) -> bool:
        """Whether it has a copy with timers that may be told to run them."""
        return self.process is not None and self.started and not self.stopping and self.timers > 0


class Supervisor:
    """Keeps so many copies running until it is told to stop.

    Args:
        main: What each copy runs, see `CopyMain`.
        arguments: What it gets besides the `Copy`; they are pickled for each copy that is started.
        settings: ``PROCESSES`` says how many copies, ``SHUTDOWN_TIMEOUT`` how long their running calls have at the end.
    """

    def __init__(self, main: CopyMain, arguments: tuple[Any, ...], settings: Settings) -> None:
        self.main = main
        self.arguments = arguments
        self.shutdown_timeout = settings.shutdown_timeout
        self.seats = [Seat(number) for number in range(1, settings.processes + 1)]
        self.stop_wanted = threading.Event()
        self.forced: int | None = None  # the number of the second signal
        self.over = threading.Event()
        self.thread: threading.Thread | None = None
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        self.woken.setblocking(False)
        self.deadline: float | None = None  # of the stop
        self.failure: MicroFrameworkError | None = None  # the first reason why nothing can go on
        self.unclean: list[str] = []
        self.abandoned: list[str] = []
        self.announced = False

    # What any thread may ask.

    @property
    def ready(self) -> bool:
        """Whether every copy runs and has been ready."""
        return self.deadline is None and all(seat.process is not None and seat.ready for seat in self.seats)

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
        with called(NAME), children_told_of(), SignalWatch(self.request_stop, self.force):
            try:
                while not self.finished():
                    self.start_due()
                    self.look_around()
                    self.act()
            finally:
                self.end()
            logger.info("stopped")
        self.report()

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        stopped = self.deadline is not None and not self.occupied()
        return stopped or self.forced is not None

    def occupied(self) -> list[Seat]:
        """The seats that have a copy."""
        return [seat for seat in self.seats if seat.process is not None]

    def start_due(self) -> None:
        """Start the copies whose time has come."""
        for seat in self.seats:
            if seat.due is not None and seat.due <= time.monotonic() and not self.stop_wanted.is_set():
                self.start(seat)

    def start(self, seat: Seat) -> None:
        """Start a copy; a system that refuses it one more process counts as its death."""
        ours, theirs = socket.socketpair()
        arguments = (seat.name, os.getpid(), theirs, self.main, self.arguments)
        process = multiprocessing.get_context("spawn").Process(target=copy_main, name=seat.name, args=arguments)
        with theirs:
            try:
                with signals_held_back():
                    process.start()
            except OSError as error:
                ours.close()
                self.died(seat, f"{seat.name} could not be started: {error}", time.monotonic(), was_ready=False)
                return
        seat.take(process, Channel(ours, 0), time.monotonic())
        logger.info("%s has been started", seat)

    def look_around(self) -> None:
        """Wait until something is reported or due; then hear what the copies say, and bury the dead."""
        occupied = self.occupied()
        channels = [seat.channel.fileno() for seat in occupied if seat.channel is not None and not seat.channel.gone]
        sentinels = [seat.process.sentinel for seat in occupied if seat.process is not None]
        due = [seat.due for seat in self.seats if seat.due is not None]
        pause = min([LONGEST_WAIT, *(moment - time.monotonic() for moment in due)])
        wait([self.woken, *channels, *sentinels], max(0.0, pause))
        self.drain_waker()
        for seat in occupied:
            self.attend(seat)

    def drain_waker(self) -> None:
        """Take what woke it."""
        try:
            self.woken.recv(4096)
        except BlockingIOError:
            pass

    def attend(self, seat: Seat) -> None:
        """Hear what a copy says; bury it if it is dead."""
        assert seat.channel is not None
        code = seat.exit_code()  # asked first: what a dead copy has said is then complete
        while (messages := seat.channel.receive()) is not None:
            for message in messages:
                self.hear(seat, message)
        if code is not None:
            self.bury(seat, code)

    def hear(self, seat: Seat, message: Message) -> None:
        """Act on what a copy says."""
        now = time.monotonic()
        seat.says(message, now)
        match message["name"]:
            case "ready" if self.announced:
                logger.info("%s is ready in the place of one that died", seat)
            case "ready" if self.ready:
                self.announced = True
                logger.info("ready: %s in %s copies", message["what"], len(self.seats))
            case "failed" if isinstance(seat.error, CallsAbandoned) and self.deadline is not None:
                self.abandoned += seat.error.calls
            case "failed" if isinstance(seat.error, CallsAbandoned):  # somebody has stopped this copy alone
                logger.error("%s: %s", seat, seat.error)
            case "failed":
                self.give_up(seat.error)

    def bury(self, seat: Seat, code: int) -> None:
        """A copy is dead; whether that is a matter of course depends on what it was told and has told."""
        now = time.monotonic()
        what = f"{seat} {how_it_ended(code)} after {now - seat.since:.1f} s"
        told, stable = seat.error is not None, now - seat.since >= STABLE_AFTER
        was_ready = seat.ready or stable
        seat.leave()
        if self.deadline is not None:
            if code and not told:
                self.unclean.append(f"{what}, before it had stopped cleanly")
        elif code == UNGUARDED and not seat.started:
            self.give_up(CopyFailed(UNGUARDED_MAIN))
        else:
            seat.deaths = 0 if stable else seat.deaths
            self.died(seat, what, now, was_ready=was_ready)

    def died(self, seat: Seat, what: str, now: float, *, was_ready: bool) -> None:
        """Start a copy again after a pause, unless it was started in vain so often that it always will be."""
        seat.deaths += 1
        seat.in_vain = 0 if was_ready else seat.in_vain + 1
        if seat.in_vain >= STARTS_IN_VAIN:
            self.give_up(CopyFailed(f"{what}; that is {seat.in_vain} times in a row that it did not live to be ready"))
            return
        pause = pause_before_restart(seat.deaths, random.random())
        seat.due = now + pause
        logger.warning("%s; it is started again in %.1f s", what, pause)

    def give_up(self, error: MicroFrameworkError | None) -> None:
        """Stop because of an error; the first one is told."""
        if self.failure is None:
            self.failure = error
        self.stop_wanted.set()

    def act(self) -> None:
        """Whatever does not follow from what a single copy says."""
        if self.stop_wanted.is_set():
            self.stop_copies()
        else:
            self.appoint()
        self.ask()

    def stop_copies(self) -> None:
        """Tell every copy to stop; kill those that have not when their time is over."""
        now = time.monotonic()
        if self.deadline is None:
            self.deadline = now + self.shutdown_timeout + STOP_MARGIN
            logger.info("stopping; running calls have %g s to finish", self.shutdown_timeout)
            for seat in self.seats:
                seat.due = None
                if seat.channel is not None:
                    seat.channel.send("stop")
        elif now >= self.deadline:
            for seat in [seat for seat in self.occupied() if not seat.killed]:
                logger.error("%s has not stopped within %g s and is killed", seat, self.shutdown_timeout + STOP_MARGIN)
                seat.kill()

    def appoint(self) -> None:
        """See that one copy runs the timers, one that is ready if there is any."""
        able = [seat for seat in self.seats if seat.can_run_timers]
        if able and not any(seat.runs_timers for seat in self.occupied()):
            chosen = next((seat for seat in able if seat.ready), able[0])
            assert chosen.channel is not None
            chosen.runs_timers = True
            chosen.channel.send("timers")
            logger.info("the timers run in %s from now on", chosen)

    def ask(self) -> None:
        """Ask every copy now and then whether it is alive; one that does not say so for long is only logged.

        It may be stopped, swap, or hold the interpreter in C; nobody can tell which, and to kill it would make the
        broker deliver its calls again, the one that keeps it busy included.
        """
        now = time.monotonic()
        for seat in self.occupied():
            assert seat.channel is not None
            if seat.silent and seat.answered > seat.asked:
                seat.silent = False
                logger.warning("%s answers again", seat)
            elif not seat.silent and seat.answered < seat.asked and now - seat.asked >= SILENT_AFTER:
                seat.silent = True
                logger.warning("%s has not answered for %g s: it is stopped, or busy in C code", seat, SILENT_AFTER)
            if seat.started and seat.answered >= seat.asked and now - seat.asked >= ASK_SECONDS:
                seat.asked = now
                seat.channel.send("answer")

    def end(self) -> None:
        """Leave nothing behind, however `run` ends."""
        for seat in self.occupied():
            seat.kill()
        deadline = time.monotonic() + KILL_SECONDS
        for seat in self.occupied():
            assert seat.process is not None
            seat.process.join(max(0.0, deadline - time.monotonic()))
            seat.leave()
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


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


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


@contextmanager
def signals_held_back() -> Iterator[None]:
    """What is started inside the block keeps SIGTERM and SIGINT waiting until it is able to heed them.

    Only this thread does not take them meanwhile; `SignalWatch` has one that does.
    """
    # It unblocks both when it starts its process, which must not happen inside the block.
    resource_tracker.ensure_running()
    before: Iterable[int] = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
