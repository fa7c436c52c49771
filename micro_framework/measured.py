"""`MeasuredRoute`: the pipeline of a service with ``ENABLE_METRICS``, which counts what becomes of every call.

A service without it has `BoundRoute`, and pays nothing. The numbers add up: ``received`` is
``started + refused + skipped + handed_back`` and what waits; ``started`` is ``succeeded + failed + undone`` and what
runs.
"""

from bisect import bisect_left
from threading import get_ident
from time import perf_counter
from typing import Any

from micro_framework.calls import Attempt, Call, Outcome
from micro_framework.exceptions import TooManyCrashes
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
from micro_framework.parking import Failure
from micro_framework.routes import BoundRoute
from micro_framework.workers import Abandoned, DependencyFailure

__all__ = ["MeasuredRoute"]


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

    def attempt(self, call: Call) -> tuple[Call, Outcome]:
        """Run the call once, unless the entrypoint's filter says it is not for this target; count what comes of it."""
        cell = self.cells.get(get_ident()) or self.tally.mine()
        try:
            prepared = self.entrypoint.prepare(call)
        except BaseException as raised:  # noqa: BLE001 - as in `BoundRoute.attempt`
            cell[STARTED] += 1
            cell[FAILED] += 1
            return call, Outcome(error=raised)
        if prepared is None:
            cell[SKIPPED] += 1
            return call, Outcome()
        cell[STARTED] += 1
        began = perf_counter()
        ended = self.run(self.plan, prepared)
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

    def refuse(self, item: Any, error: BaseException) -> None:
        """It cannot be decoded."""
        self.tally.mine()[REFUSED] += 1
        self.note(None, "refused", error)
        super().refuse(item, error)

    def give_up_unrun(self, item: Any, crashes: int) -> None:
        """Workers died of it too often."""
        self.tally.mine()[REFUSED] += 1
        self.note(None, "not run again", TooManyCrashes(crashes, self.max_crashes))
        super().give_up_unrun(item, crashes)

    def log_retry(self, call: Call, attempt: Attempt, delay: int) -> None:
        """It has been put off, and is tried again."""
        self.tally.mine()[RETRIED] += 1
        super().log_retry(call, attempt, delay)

    def retry(self, item: Any, call: Call, error: BaseException, policy: Any) -> None:
        """Try again later."""
        self.note(call, "failed, and is tried again", error)
        super().retry(item, call, error, policy)

    def crashed(self, item: Any, call: Call, error: BaseException) -> None:
        """A worker died of it."""
        self.note(call, "its worker died", error)
        super().crashed(item, call, error)

    def give_up(self, item: Any, call: Call, error: BaseException, crashes: int | None = None) -> None:
        """The last attempt failed."""
        self.note(call, "failed", error)
        super().give_up(item, call, error, crashes)

    def hold_off(self, item: Any, call: Call | None, error: BaseException, what: str) -> None:
        """It could not be run, put off or parked."""
        self.note(call, "is held off", error)
        super().hold_off(item, call, error, what)

    def log_parked(self, what: str, call: Call | None, failure: Failure) -> None:
        """It has been parked."""
        self.tally.mine()[PARKED] += 1
        super().log_parked(what, call, failure)

    def note(self, call: Call | None, what: str, error: BaseException) -> None:
        """Note an error for people who look."""
        call_id = call.identity.call_id if call is not None else None
        self.recent.note(self.service, self.route_label, call_id, what, error)
