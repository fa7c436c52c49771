"""`ManualClock`: a clock whose hands the test turns."""

import heapq
import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from micro_framework.clock import Alarm

__all__ = ["ManualClock"]


NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Stands still until `advance` is called; give it to a runner as ``clock=``. Thread safe.

    Args:
        now: What the clock shows at first, in seconds.
        utc: What its wall clock shows at first: an aware datetime; None: the beginning of 2026.
    """

    def __init__(self, now: float = 0.0, utc: datetime | None = None) -> None:
        self.time = now
        self.utc_at_zero = (utc or NEW_YEAR).astimezone(UTC) - timedelta(seconds=now)
        self.alarms: list[tuple[float, int, Alarm]] = []
        self.order = itertools.count()
        self.lock = threading.Lock()

    def now(self) -> float:
        """What the clock shows, in seconds."""
        return self.time

    def utcnow(self) -> datetime:
        """What the wall clock shows: it advances with the other hands, and `set_utc` sets it."""
        return self.utc_at_zero + timedelta(seconds=self.time)

    def set_utc(self, utc: datetime) -> None:
        """Set the wall clock alone, as an administrator or the end of a machine's sleep does; no time passes.

        Args:
            utc: An aware datetime.
        """
        self.utc_at_zero = utc.astimezone(UTC) - timedelta(seconds=self.time)

    def call_at(self, due: float, callback: Callable[[], None]) -> Alarm:
        """Ring when the hands pass ``due``; at once where they have passed it."""
        alarm = Alarm(due, callback)
        with self.lock:
            waiting = due > self.time
            if waiting:
                heapq.heappush(self.alarms, (due, next(self.order), alarm))
        if not waiting:
            alarm.ring()
        return alarm

    def advance(self, seconds: float) -> None:
        """Turn the hands forward; every alarm on the way rings at its own time, on this thread.

        An alarm that is set meanwhile (the next tick of a timer is, when the call of this one is over) rings with the
        next turn at the latest.
        """
        end = self.time + seconds
        while (alarm := self.next_until(end)) is not None:
            alarm.ring()
        self.time = end

    def next_until(self, end: float) -> Alarm | None:
        """Move on to the next alarm that is due by ``end``; None where there is none."""
        with self.lock:
            if not self.alarms or self.alarms[0][0] > end:
                return None
            due, _, alarm = heapq.heappop(self.alarms)
            self.time = max(self.time, due)
            return alarm

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Forget every alarm."""
        with self.lock:
            self.alarms.clear()
