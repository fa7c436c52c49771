"""Signals: the first one stops a run gracefully, the second one at once.

Python runs a signal's handler on the main thread, between two instructions. A signal that comes just before the main
thread begins to wait is noted and then slept over, for ever if the wait has no end. So nothing is left to the handler:
the interpreter writes each signal's number into a socket (``signal.set_wakeup_fd``) the moment it comes, and a thread
of its own reads it there, whatever the main thread is doing.

A forked child has that socket and those handlers too: a signal to the child would stop the parent, and the child would
not hear of it. So a child gets back what was there before.
"""

import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["STOP_SIGNALS", "SignalWatch", "end_at_once"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

SAME_SECONDS = 0.05
"""The same signal again within this time is the same request: coreutils' ``timeout`` and some supervisors signal the
process and its group, so that it arrives twice at once. Nobody presses Ctrl-C twice that fast."""

FAREWELL = b"second signal: ending at once; running calls are delivered again\n"


class SignalWatch:
    """Watches for SIGTERM and SIGINT inside its block; not outside of the main thread, where Python allows none of it.

    Args:
        on_stop: Called at the first signal, on the thread ``mf-signals``; must return at once.
        on_again: Called with its number at every later one, there too. None: the process ends with exit code 128 + the
            number, see `end_at_once`.
    """

    def __init__(self, on_stop: Callable[[], None], on_again: Callable[[int], None] | None = None) -> None:
        self.on_stop = on_stop
        self.on_again = on_again or end_at_once
        self.previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self.watching = threading.current_thread() is threading.main_thread()
        if self.watching:
            self.receiver, self.sender = socket.socketpair()
            self.sender.setblocking(False)
            self.thread = threading.Thread(target=self.watch, name="mf-signals", daemon=True)
            self.thread.start()
            self.previous_fd = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)
            self.previous = {number: signal.signal(number, noted) for number in STOP_SIGNALS}
            open_watches.add(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.watching:
            self.give_back()
            self.sender.close()
            self.thread.join(5)
            self.receiver.close()

    def give_back(self) -> None:
        """Put back the handlers and the socket that were there before."""
        open_watches.discard(self)
        self.watching = False
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.previous_fd)

    def watch(self) -> None:
        """The thread: reads the numbers of the signals that come, until the other end is closed."""
        first: tuple[int, float] | None = None
        while data := self.receiver.recv(1):
            number, now = data[0], time.monotonic()
            if number not in STOP_SIGNALS:
                continue  # the interpreter reports every signal that has a Python handler
            if first is None:
                first = (number, now)
                self.on_stop()
            elif number != first[0] or now - first[1] > SAME_SECONDS:
                self.on_again(number)


def end_at_once(number: int) -> None:
    """End the process because of a second signal, with exit code 128 + its number, and say so if anybody reads it."""
    try:
        os.write(sys.stderr.fileno(), FAREWELL)
    finally:
        os._exit(128 + number)


def noted(number: int, frame: FrameType | None) -> None:
    """The handler: without one the signal would do what it does by default; all else happens in `SignalWatch.watch`."""


open_watches: weakref.WeakSet[SignalWatch] = weakref.WeakSet()


def give_back_in_child() -> None:
    """A child of `os.fork` has no thread that watches, and its parent's socket."""
    for watch in list(open_watches):
        watch.give_back()


os.register_at_fork(after_in_child=give_back_in_child)
