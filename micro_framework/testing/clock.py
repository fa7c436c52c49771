"""`ManualClock`: a clock whose hands the test turns."""

import heapq
import itertools
import threading
from collections.abc import Callable

from micro_framework.clock import Alarm

__all__ = ["ManualClock"]


class ManualClock:
    """Stands still until `advance` is called; give it to a runner as ``clock=``. Thread safe.

    Args:
        now: What the clock shows at first, in seconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.time = now
        self.alarms: list[tuple[float, int, Alarm]] = []
        self.order = itertools.count()
        self.lock = threading.Lock()

    def now(self) -> float:
        """What the clock shows, in seconds."""
        return self.time

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
