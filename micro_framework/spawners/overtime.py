"""``TASK_TIMEOUT`` where workers are threads: they cannot be killed, so a call that takes too long is only reported.

One thread looks, at most as often as the limit is long, so a call costs no more than noting when it began and ended.
"""

import logging
import sys
import threading
import time
import traceback
from dataclasses import dataclass

from micro_framework.calls import Call, Outcome
from micro_framework.workers import Plan, Runs

__all__ = ["Overtime", "TimedRuns"]

logger = logging.getLogger(__name__)

END_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class TimedCall:
    """A call that runs.

    Args:
        thread: The identifier of its thread.
        plan: What it is a call of.
        call: The call.
        began: When it began, ``time.monotonic()`` seconds.
        reported: Whether it has been reported.
    """

    thread: int
    plan: Plan
    call: Call
    began: float
    reported: bool = False


class Overtime:
    """Reports calls that run longer than a limit, each once. Thread safe.

    Args:
        context: The pool's name; the thread is called ``mf-overtime-<context>``.
        limit: Seconds.
    """

    def __init__(self, context: str, limit: float) -> None:
        self.limit = limit
        self.running: dict[TimedCall, None] = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch, name=f"mf-overtime-{context}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """End the thread."""
        self.stopped.set()
        if self.thread.is_alive():
            self.thread.join(END_SECONDS)

    def begins(self, plan: Plan, call: Call) -> TimedCall:
        """Note that the calling thread begins a call; give what is returned to `ends`."""
        timed = TimedCall(threading.get_ident(), plan, call, time.monotonic())
        self.running[timed] = None
        return timed

    def ends(self, timed: TimedCall) -> None:
        """Note that a call has ended."""
        del self.running[timed]

    def watch(self) -> None:
        """The thread: look when the next call may be due. One that begins after a look is not due before the next."""
        while not self.stopped.wait(self.look()):
            pass

    def look(self) -> float:
        """Report what is overdue; returns the seconds until something can be."""
        now = time.monotonic()
        due = now + self.limit
        for timed in tuple(self.running):
            if timed.reported:
                continue
            if timed.began + self.limit <= now:
                timed.reported = True
                self.report(timed)
            else:
                due = min(due, timed.began + self.limit)
        return max(0.0, due - now)

    def report(self, timed: TimedCall) -> None:
        """One warning, with what the call is doing right now."""
        identity = timed.call.identity
        frame = sys._current_frames().get(timed.thread)
        stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "it is not known where it is"
        logger.warning(
            "%s: call %s has been running for longer than TASK_TIMEOUT (%g s); a worker thread cannot be ended, so it "
            "goes on:\n%s",
            timed.plan.target.description,
            identity.call_id,
            self.limit,
            stack,
            extra={"service": identity.service, "method": identity.method, "call_id": identity.call_id},
        )


class TimedRuns:
    """Has calls run, and notes when.

    Args:
        runs: Runs them, in the calling thread.
        overtime: Where they are noted.
    """

    def __init__(self, runs: Runs, overtime: Overtime) -> None:
        self.runs = runs
        self.overtime = overtime

    def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
        """Run one call."""
        timed = self.overtime.begins(plan, call)
        try:
            return self.runs.run(plan, call)
        finally:
            self.overtime.ends(timed)
