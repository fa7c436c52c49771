"""A copy as its supervisor sees it: the process, what it has said, and the place it has among the others.

A `Seat` is there as long as the supervisor is; the `Child` in it is one process, and another one when that has died.
"""

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any

from micro_framework.channel import Channel, Message
from micro_framework.copies import CopyMain, copy_main, copy_name, failure_from
from micro_framework.exceptions import MicroFrameworkError
from micro_framework.signals import STOP_SIGNALS

__all__ = ["Child", "Seat", "pause_before_restart"]

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a copy that died is started again; doubled with each death in a row."""
STABLE_AFTER = 60.0
"""Seconds a copy must have lived for its death to be the first in a row, and its start not to have been in vain."""
STARTS_IN_VAIN = 5
"""Starts in a row after which a copy died before it was ready, that say that the next would fare no better."""

TOLD_TO_OTHERS = 255
"""In place of an exit code that the system has told somebody else."""


class Child:
    """The process of one copy. Only the thread that started it uses it, and the kernel ends it with that thread.

    Args:
        name: Its name.
        main: What it runs, see `CopyMain`.
        arguments: What that gets besides the `Copy`.
        now: ``time.monotonic()`` seconds, here and below.

    Raises:
        OSError: The system has no room for it.
    """

    def __init__(self, name: str, main: CopyMain, arguments: tuple[Any, ...], now: float) -> None:
        ours, theirs = socket.socketpair()
        self.name = name
        self.channel = Channel(ours, 0)
        spawning = multiprocessing.get_context("spawn")
        self.process: SpawnProcess = spawning.Process(
            target=copy_main, name=name, args=(name, os.getpid(), theirs, main, arguments)
        )
        try:
            with theirs, signals_held_back():
                self.process.start()
        except BaseException:
            self.channel.close()
            raise
        self.since = now
        self.asked = self.answered = now
        self.timers = 0
        self.started = self.ready = self.stopping = self.runs_timers = self.silent = self.killed = False
        self.error: MicroFrameworkError | None = None

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"

    def says(self, message: Message, now: float) -> None:
        """Note what it says."""
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

    def can_run_timers(self) -> bool:
        """Whether it has timers, and may be told to run them."""
        return self.started and not self.stopping and self.timers > 0

    def run_timers(self) -> None:
        """Tell it to run the timers."""
        self.runs_timers = True
        self.channel.send("timers")

    def ask(self, now: float) -> None:
        """Ask whether it is alive; again only when it has answered, so that nothing piles up if it does not read."""
        self.asked = now
        self.channel.send("answer")

    def owes_answer(self) -> bool:
        """Whether it has not said anything since it was asked."""
        return self.answered < self.asked

    def exit_code(self) -> int | None:
        """How it has ended, None while it lives.

        The system tells that once. If something else in this process has asked before (a program that waits for any
        child, a SIGCHLD that is ignored), the exit code is 255; macOS has a way to notice that from Python 3.13 on.
        """
        assert self.process.pid is not None
        code = self.process.exitcode
        if code is None and hasattr(os, "waitid"):
            try:
                # It only looks. To take the answer is left to `process`, which would not know of the end otherwise.
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return TOLD_TO_OTHERS
        return code

    def lived_to_be_of_use(self, now: float) -> bool:
        """Whether its start was not in vain."""
        return self.ready or self.lived_long(now)

    def lived_long(self, now: float) -> bool:
        """Whether its death has nothing to do with those before."""
        return now - self.since >= STABLE_AFTER

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.killed = True

    def close(self) -> None:
        """It is dead; give back what it took."""
        self.channel.close()
        with suppress(ValueError):  # the process cannot tell that it has ended, see `exit_code`
            self.process.close()


class Seat:
    """The place of one copy.

    Args:
        number: Counted from 1.
    """

    def __init__(self, number: int) -> None:
        self.name = copy_name(number)
        self.child: Child | None = None
        self.due: float | None = 0.0  # when a copy is to be started in it; None where there is one, or is to be none
        self.deaths = 0  # in a row
        self.in_vain = 0  # starts in a row after which the copy died before it was ready

    def lost(self, now: float, chance: float, *, long_lived: bool = False, of_use: bool = False) -> float:
        """Its copy has died, or could not be started; when the next one is due.

        Args:
            chance: A number from 0 to 1.
            long_lived: Whether this death begins a new row.
            of_use: Whether the start was not in vain.

        Returns:
            Seconds until then.
        """
        self.child = None
        self.deaths = 1 if long_lived else self.deaths + 1
        self.in_vain = 0 if of_use else self.in_vain + 1
        pause = pause_before_restart(self.deaths, chance)
        self.due = now + pause
        return pause

    def is_hopeless(self) -> bool:
        """Whether another start would fare no better than those before."""
        return self.in_vain >= STARTS_IN_VAIN


def pause_before_restart(deaths: int, chance: float) -> float:
    """Seconds to wait before a copy is started again.

    Args:
        deaths: How often it has died in a row, at least once.
        chance: A number from 0 to 1: copies that died together do not start together.
    """
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(deaths - 1, 20)) * (0.5 + chance / 2)


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
