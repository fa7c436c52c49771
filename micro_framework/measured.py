"""`MeasuredRoute`: the pipeline of a service with ``ENABLE_METRICS``, which counts what becomes of every call.

A service without it has `BoundRoute`, and pays nothing. The numbers add up: ``received`` is
``started + refused + skipped + handed_back`` and what waits; ``started`` is ``succeeded + failed + undone`` and what
runs.
"""

from bisect import bisect_left
from threading import get_ident
from time import perf_counter
from typing import Any

from micro_framework.calls import Call, Happening, Outcome
from micro_framework.metrics.recent import RecentErrors
from micro_framework.metrics.snapshots import (
    BUCKETS,
    FAILED,
    HANDED_BACK,
    PARKED,
    RECEIVED,
    REFUSED,
    RETRIED,
    RUN_BUCKETS,
    RUN_SUM,
    SKIPPED,
    STARTED,
    SUCCEEDED,
    UNDONE,
    WAIT_BUCKETS,
    WAIT_SUM,
)
from micro_framework.metrics.tallies import RouteTally
from micro_framework.routes import BoundRoute
from micro_framework.workers import Abandoned, DependencyFailure, Plan

__all__ = ["MeasuredRoute"]


COUNTED = {
    Happening.REFUSED: (REFUSED,),
    Happening.UNRUN: (REFUSED,),
    Happening.SKIPPED: (SKIPPED,),
    Happening.UNPREPARED: (STARTED, FAILED),
    Happening.RETRIED: (RETRIED,),
    Happening.PARKED: (PARKED,),
}

NOTED = {
    Happening.REFUSED: "refused",
    Happening.UNRUN: "not run again",
    Happening.RETRYING: "failed, and is tried again",
    Happening.CRASHED: "its worker died",
    Happening.FAILED: "failed",
    Happening.HELD_OFF: "is held off",
}
"""What people who look at the latest errors are told."""

Waiting = tuple[Any, float]
"""An item that waits for a worker, and since when (``time.perf_counter()``)."""


class MeasuredJob:
    """What workers are given in the route's place: its items have their time of receipt with them.

    Args:
        route: The route.
    """

    def __init__(self, route: "MeasuredRoute") -> None:
        self.route = route
        self.label = route.label

    def process(self, item: Waiting) -> None:
        """Run it, in a worker."""
        what, since = item
        seconds = perf_counter() - since
        route = self.route
        cell = route.cells.get(get_ident()) or route.tally.mine()
        cell[WAIT_SUM] += seconds
        cell[WAIT_BUCKETS + bisect_left(BUCKETS, seconds)] += 1
        route.process(what)

    def comes_again(self, item: Waiting) -> bool:
        """Whether an item that is given back is not lost."""
        return self.route.comes_again(item[0])

    def hand_back(self, item: Waiting) -> None:
        """Give it back without having run it."""
        self.route.tally.mine()[HANDED_BACK] += 1
        self.route.hand_back(item[0])


class MeasuredRoute(BoundRoute):
    """A route that counts; from `measured_by` on, which is before anything runs."""

    tally: RouteTally
    cells: dict[int, list[float]]
    recent: RecentErrors
    route_label: str

    def measured_by(self, tally: RouteTally, recent: RecentErrors, label: str) -> None:
        """Count here from now on.

        Args:
            tally: Where.
            recent: Where errors are noted.
            label: The route's name in metrics.
        """
        self.tally = tally
        self.cells = tally.cells
        self.recent = recent
        self.route_label = label
        self.job = MeasuredJob(self)

    # These two and `MeasuredJob.process` are run for every message. Their steps are written out, for here a function
    # costs as much as what it does.

    def submit(self, item: Any) -> None:
        """Queue an item for a worker."""
        (self.cells.get(get_ident()) or self.tally.mine())[RECEIVED] += 1
        self.spawner.submit(self.job, (item, perf_counter()))

    def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
        """Run a call, and count what comes of it; a callback is no call of its own."""
        if plan is not self.plan:
            return super().run(plan, call)
        cell = self.cells.get(get_ident()) or self.tally.mine()
        cell[STARTED] += 1
        began = perf_counter()
        ended = super().run(plan, call)
        seconds = perf_counter() - began
        cell[RUN_SUM] += seconds
        cell[RUN_BUCKETS + bisect_left(BUCKETS, seconds)] += 1
        error = ended[1].error
        if error is None:
            cell[SUCCEEDED] += 1
        elif isinstance(error, Abandoned | DependencyFailure):
            cell[UNDONE] += 1
        else:
            cell[FAILED] += 1
        return ended

    def happened(self, what: Happening, call: Call | None, error: BaseException | None = None) -> None:
        """Count what it is counted as, and note the error for people who look."""
        cell = self.tally.mine()
        for number in COUNTED.get(what, ()):
            cell[number] += 1
        if error is not None and (words := NOTED.get(what)) is not None:
            call_id = call.identity.call_id if call is not None else None
            self.recent.note(self.service, self.route_label, call_id, words, error)
