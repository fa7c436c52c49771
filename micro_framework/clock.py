"""The clock: what time it is, and one thread that calls back when a time has come.

It shows two times: seconds that never jump, which everything waits by, and the wall clock's time, which somebody may
set and which runs on while the machine sleeps.

Everything that waits for a time (timers, messages held off) goes through the runner's one clock, so tests can turn its
hands (`micro_framework.testing.ManualClock`) and no timer needs a thread of its own.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Alarm", "Clock", "SystemClock"]

logger = logging.getLogger(__name__)

CROWD = 1000
"""Alarms that are kept at least before those taken back are looked for."""


LONGEST_TURN = 60.0
"""Seconds that an alarm may be late before the clock is taken for dead; callbacks return at once."""


def nothing() -> None:
    """The callback of an alarm that was taken back."""


class Alarm:
    """A callback that is due at a time; `cancel` takes it back."""

    __slots__ = ("callback", "cancelled", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call back, unless it is happening right now. Thread safe."""
        self.cancelled = True
        self.callback = nothing  # the clock may keep the alarm for long, and must not keep what it was about

    def ring(self) -> None:
        """Call back, once; an error is logged and goes no further."""
        if self.cancelled:
            return
        self.cancelled = True
        try:
            self.callback()
        except Exception:
            logger.exception("a callback of the clock failed: %r", self.callback)


class Clock(Protocol):
    """What the framework asks of a clock. Thread safe."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def utcnow(self) -> datetime:
        """The wall clock's time, aware UTC; it may jump in both directions."""

    def call_at(self, due: float, callback: Callable[[], None]) -> Alarm:
        """Call back on the clock's thread at ``due`` (seconds as of `now`); the callback must return at once."""

    def start(self) -> None:
        """Begin to call back. Idempotent."""

    def stop(self) -> None:
        """End; alarms still waiting ring no more. Idempotent."""


class SystemClock:
    """The real clock (``time.monotonic``), with one thread that sleeps until the next alarm.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str = "mf-clock") -> None:
        self.name = name
        self.alarms: list[tuple[float, int, Alarm]] = []
        self.order = itertools.count()
        self.changed = threading.Condition()
        self.crowded = CROWD
        self.stopped = False
        self.thread: threading.Thread | None = None

    def now(self) -> float:
        """``time.monotonic()`` seconds."""
        return time.monotonic()

    def utcnow(self) -> datetime:
        """The system's time."""
        return datetime.now(UTC)

    def call_at(self, due: float, callback: Callable[[], None]) -> Alarm:
        """Call back on the clock's thread at ``due``."""
        alarm = Alarm(due, callback)
        with self.changed:
            heapq.heappush(self.alarms, (due, next(self.order), alarm))
            if self.alarms[0][2] is alarm:  # the thread sleeps until the earliest; for later ones it need not wake
                self.changed.notify()
            if len(self.alarms) >= self.crowded:
                self.forget_cancelled()
        return alarm

    def forget_cancelled(self) -> None:
        """Drop what was taken back; called when the alarms have doubled, so that each costs the same on average."""
        self.alarms = [entry for entry in self.alarms if not entry[2].cancelled]
        heapq.heapify(self.alarms)
        self.crowded = max(CROWD, 2 * len(self.alarms))

    def start(self) -> None:
        """Start the thread, once."""
        with self.changed:
            if self.thread is None and not self.stopped:
                self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
                self.thread.start()

    def stop(self) -> None:
        """End the thread; a callback that is running may finish."""
        with self.changed:
            self.stopped = True
            self.changed.notify()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(5)

    @property
    def turns(self) -> bool:
        """Whether it does its work: no alarm is long overdue, and its thread has not ended by mistake."""
        with self.changed:
            if self.stopped or self.thread is None:
                return True
            overdue = bool(self.alarms) and time.monotonic() - self.alarms[0][0] > LONGEST_TURN
            return self.thread.is_alive() and not overdue

    def run(self) -> None:
        """The thread: sleep until the earliest alarm, ring it, again."""
        while (alarm := self.next_due()) is not None:
            alarm.ring()

    def next_due(self) -> Alarm | None:
        """Wait for the next alarm that is due; None when the clock has been stopped."""
        with self.changed:
            while not self.stopped:
                wait = self.alarms[0][0] - time.monotonic() if self.alarms else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self.alarms)[2]
                self.changed.wait(wait)
            return None
