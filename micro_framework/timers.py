"""When a timer's target is called: one tick at a time, on a grid.

A timer calls ``go`` when a tick is due and hears by `Timer.wait_for_next` that the call is over; only then does it look
for the next point of its grid. That is what keeps a target from overlapping itself, and why points that pass meanwhile
are left out.

`IntervalTimer` goes by the clock that never jumps. `WallTimer` goes by the wall clock, which may be set and runs on
while the machine sleeps: it looks at it every few seconds, however far away the next point is.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import RLock

from micro_framework.clock import Alarm, Clock
from micro_framework.schedule import next_on_grid

__all__ = ["IntervalTimer", "Timer", "WallTimer"]

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often the wall clock is looked at: as long a tick may be late when it was set forward or the machine slept."""

LARGEST_STEP_BACK = timedelta(hours=3)
"""A wall clock that was set back by less than this repeats no tick (as cron has it); by more, it was wrong before."""


class Timer:
    """What timers have in common: at most one alarm, and an end. Thread safe.

    Args:
        clock: The runner's clock.
        go: Starts the call of a tick; returns at once. `wait_for_next` follows when the call is over, however it ended.
    """

    def __init__(self, clock: Clock, go: Callable[[], None]) -> None:
        self.clock = clock
        self.go = go
        self.guard = RLock()  # reentrant: a clock that is turned by hand rings at once what is due already
        self.alarm: Alarm | None = None
        self.put_off = False  # whether `again` waits
        self.stopped = False

    def begin(self) -> None:
        """Fix the grid: no earlier point counts. Followed by `tick_now` or `wait_for_next`."""
        raise NotImplementedError

    def tick_now(self) -> None:
        """Tick once without waiting for the grid."""
        raise NotImplementedError

    def wait_for_next(self) -> None:
        """Nothing runs any more: tick at the next point."""
        raise NotImplementedError

    def again(self, seconds: float, go: Callable[[], None]) -> None:
        """Before `wait_for_next`: call ``go`` in so many seconds, unless stopped by then."""

        def ring() -> None:
            self.put_off = False
            go()

        self.put_off = True
        self.ring_in(seconds, ring)

    def ring_in(self, seconds: float, callback: Callable[[], None]) -> None:
        """Set the alarm, in place of one that is set."""
        with self.guard:
            if self.alarm is not None:
                self.alarm.cancel()
            if not self.stopped:
                self.alarm = self.clock.call_at(self.clock.now() + seconds, callback)

    def stop(self) -> None:
        """Tick no more; a call that runs may finish."""
        with self.guard:
            self.stopped = True
            if self.alarm is not None:
                self.alarm.cancel()


class IntervalTimer(Timer):
    """Ticks on the grid ``begin + n * interval``.

    Args:
        clock, go: As `Timer`.
        interval: Seconds, greater than 0.
    """

    def __init__(self, clock: Clock, go: Callable[[], None], interval: float) -> None:
        super().__init__(clock, go)
        self.interval = interval
        self.origin = 0.0

    def begin(self) -> None:
        self.origin = self.clock.now()

    def tick_now(self) -> None:
        self.ring_in(0, self.go)

    def wait_for_next(self) -> None:
        now = self.clock.now()
        self.ring_in(next_on_grid(self.origin, self.interval, now) - now, self.go)


class WallTimer(Timer):
    """Ticks at points of the wall clock's time.

    Where several points have passed unseen (the clock was set forward, the machine slept) it ticks once.

    Args:
        clock, go: As `Timer`.
        next_after: The first point after an aware datetime.
    """

    def __init__(self, clock: Clock, go: Callable[[], None], next_after: Callable[[datetime], datetime]) -> None:
        super().__init__(clock, go)
        self.next_after = next_after
        self.seen = self.due = clock.utcnow()
        self.busy = False

    def begin(self) -> None:
        self.see(self.clock.utcnow())

    def tick_now(self) -> None:
        with self.guard:
            self.busy = True
        self.ring_in(0, lambda: self.tick(self.clock.utcnow()))

    def wait_for_next(self) -> None:
        with self.guard:
            self.busy = False
            self.see(max(self.seen, self.clock.utcnow()))
        self.look()

    def see(self, moment: datetime) -> None:
        """Every point up to this moment has been dealt with."""
        with self.guard:
            self.seen = moment
            self.due = self.next_after(moment)

    def look(self) -> None:
        """Tick if a point has come, else look again when it does, or in a few seconds."""
        with self.guard:
            if self.busy or self.stopped:
                return
            now = self.clock.utcnow()
            if self.seen - now > LARGEST_STEP_BACK:
                logger.warning("the wall clock was set back from %s to %s; timers follow it", self.seen, now)
                self.see(now)
            if now < self.due:
                self.ring_in(min((self.due - now).total_seconds(), LOOK_SECONDS), self.look)
                return
            self.busy = True
        self.tick(now)

    def tick(self, now: datetime) -> None:
        """A point has come, the last of those up to now."""
        self.see(now)
        self.go()
