"""Entrypoints: what makes a target run.

An entrypoint instance is itself the decorator: ``@EventListener("payments", "refunded")`` notes a `TargetDeclaration`
on the function and returns the function unchanged, so it stays an ordinary one and can carry several.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import partial
from types import FunctionType
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

from micro_framework.calls import Attempt, Call, CallIdentity, FailedAttempt, Outcome, Underway
from micro_framework.cluster import ClusterLocks, ClusterTimer, cluster_locks
from micro_framework.extensions import Extension, Host
from micro_framework.identifiers import new_identifier
from micro_framework.lookout import Lookout
from micro_framework.parking import Failure
from micro_framework.schedule import cron_problem, next_in_cron, next_multiple
from micro_framework.timers import IntervalTimer, Timer, WallTimer
from micro_framework.wire.headers import new_call_id

__all__ = [
    "Entrypoint",
    "RouteHandle",
    "TargetDeclaration",
    "Tick",
    "TimeEntrypoint",
    "declarations",
    "declare",
    "is_method",
]

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

SHORTEST_SHARED = 0.001
"""Seconds: the grid of a cluster-wide interval is counted in whole microseconds."""

LONGEST_NAME = 255
"""Bytes of a queue's name: AMQP 0-9-1 sends it as a short string."""

DECLARED = "__micro_framework_routes__"


@dataclass(frozen=True, slots=True)
class TargetDeclaration:
    """What a decorator says about a function: an entrypoint, and the pipeline's options."""

    entrypoint: "Entrypoint"
    options: Mapping[str, Any] = field(default_factory=dict)


def declare(function: Function, declaration: TargetDeclaration) -> Function:
    """Note a declaration on a function and return it; the one nearest to the function comes first."""
    setattr(function, DECLARED, (*declarations(function), declaration))
    return function


def declarations(function: object) -> tuple[TargetDeclaration, ...]:
    """The declarations noted on a function."""
    # Looked for on every attribute of a class; some objects, mocks for one, claim to have any.
    found = getattr(function, DECLARED, ())
    return found if isinstance(found, tuple) else ()


def is_method(value: object) -> bool:
    """Whether a value is a function that takes ``self``: what a decorator in a class body gets."""
    return isinstance(value, FunctionType) and value.__code__.co_varnames[: value.__code__.co_argcount][:1] == ("self",)


class RouteHandle(Protocol):
    """The route as its entrypoint knows it."""

    @property
    def service(self) -> str:
        """The service's name."""

    @property
    def method(self) -> str:
        """The target's name, as it appears in queue names and call ids."""

    @property
    def label(self) -> str:
        """``Class.method`` or ``module.function``, for people."""

    @property
    def max_retries(self) -> int | None:
        """The retries its backoff allows; None where there is no limit or no backoff."""

    @property
    def retries(self) -> bool:
        """Whether it has a backoff."""

    def describe(self) -> Mapping[str, Any]:
        """What a caller wants to know of the target: ``name``, ``parameters``, ``doc``."""

    @property
    def expected_delays(self) -> Sequence[int]:
        """The milliseconds that its backoff can give, as far as they are known beforehand."""

    @property
    def dead_letter(self) -> bool:
        """Whether what failed for good is parked."""

    def underway(self) -> Sequence[Underway]:
        """The calls that are being run at this moment. Thread safe."""

    def ran_during(self, began: float, ended: float) -> Sequence[Underway]:
        """The calls that ran for most of a time of a second or more, between two ``time.monotonic()``. Thread safe."""

    @property
    def lookout(self) -> Lookout | None:
        """Its workers, where they can look out for input while they are idle."""

    def submit(self, item: Any) -> None:
        """Queue an item for a worker, which calls the entrypoint back with it; never waits. Thread safe."""


class Entrypoint(Extension):
    """Base class of entrypoints.

    A bound entrypoint receives *items* (a delivery, a tick) on some thread of its own and hands them to
    ``self.route.submit(item)``. A worker then calls, in its thread, `to_call` and at the end exactly one of `settle`,
    `retry`, `park`, `run_again`, `refuse` or `hand_back` with that item; after one of them that raised, `hand_back`.
    """

    route: RouteHandle
    """The route it drives, once bound."""

    retryable: bool = False
    """Whether `retry` is there, so that a route may have a backoff."""

    parkable: ClassVar[bool] = False
    """Whether `park` is there: whether its items can be kept for people to look at."""

    repeatable: ClassVar[bool] = False
    """Whether `run_again` is there, so that an item whose worker died is run again; else that is a failed call."""

    translatable: ClassVar[bool] = True
    """Whether its calls carry a message that translators can change."""

    called_from_outside: ClassVar[bool] = False
    """Whether a caller chooses the arguments: they are checked before each call, and translators get the `Call`."""

    arguments: ClassVar[tuple[str, ...] | None] = None
    """What its targets are called with, by position, so that their signatures can be checked; None: not known."""

    result_needed: ClassVar[bool] = True
    """Whether a call has failed whose result cannot be had, in process modes one that cannot be pickled; False where
    nobody is told the result."""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Refuse ``@EventListener`` without arguments, which would put an entrypoint in the method's place."""
        if len(args) == 1 and not kwargs and is_method(args[0]):
            method = getattr(args[0], "__qualname__", args[0])
            raise TypeError(f"@{cls.__name__} on {method} has no arguments; write @{cls.__name__}(...)")
        return super().__new__(cls)

    def __call__(self, function: Function) -> Function:
        """Use as a decorator: the function becomes a target of this entrypoint.

        Raises:
            TypeError: It is a class.
        """
        if isinstance(function, type):
            raise TypeError(f"{self} decorates methods, not the class {function.__name__}; put it on the method to run")
        return declare(function, TargetDeclaration(self))

    def runs_in_one_copy(self) -> bool:
        """Whether only one of the copies that ``PROCESSES`` asks for starts it, and another when that one has died."""
        return False

    def described_dependencies(self) -> list[dict[str, Any]]:
        """What its calls use besides the target's dependencies, as plain data for ``micro-framework routes``."""
        return []

    def claim(self) -> str | None:
        """What no second target of the runner may be driven by, in words; None: it shares everything."""
        return None

    def parking_problem(self) -> str | None:
        """Why ``dead_letter=True`` makes no sense here, with what to do; None where it does."""
        return None if self.parkable else f"{type(self).__name__} cannot park; leave out dead_letter="

    def crashes(self, item: Any) -> int:
        """How many workers have died of an item, as far as known; asked before `to_call`."""
        return 0

    def to_call(self, item: Any) -> Call:
        """Decode an item.

        Raises:
            Exception: It cannot be decoded; `refuse` is called.
        """
        raise NotImplementedError(f"{type(self).__name__} must define to_call(item)")

    def prepare(self, call: Call) -> Call | None:
        """Translate and filter a decoded call; None: not for this target, settle it without running.

        Raises:
            Exception: A failure of the call.
        """
        return call

    def settle(self, item: Any, outcome: Outcome) -> None:
        """The call is over, with its retries and its callback: acknowledge, answer."""

    def refuse(self, item: Any, error: BaseException) -> str:
        """Dispose of an item that cannot be decoded.

        Returns:
            What it was and what became of it, for the log; empty where there is nothing to log.
        """
        return repr(item)

    def severity(self, error: BaseException) -> int:
        """The level (of `logging`) at which the last failure of a call is logged."""
        return logging.ERROR

    def shown(self, call: Call) -> str:
        """What the log says of a failed call beside its id; empty for nothing."""
        return ""

    def comes_again(self, item: Any) -> bool:
        """Whether an item that is handed back is not lost; if it would be, it is finished at the stop instead."""
        return True

    def hand_back(self, item: Any) -> None:
        """The item was not run, or its run does not count: give it back to where it came from."""

    def retry(self, item: Any, attempt: Attempt, delay: int) -> None:
        """Have the item delivered again as this attempt in ``delay`` milliseconds, then settle the original.

        Raises:
            Exception: It could not be handed over for sure; the original is untouched.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot retry")

    def run_again(self, item: Any, crashes: int, failed: FailedAttempt) -> None:
        """A worker died of an item: have it delivered again at once, marked with the number of crashes, then settle it.

        Raises:
            Exception: It could not be handed over for sure; the original is untouched.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot run an item again")

    def park(self, item: Any, failure: Failure) -> str:
        """Keep an item that has failed for good, with what is known of that, then settle the original.

        Returns:
            What it was and where it is now, for the log.

        Raises:
            Exception: It could not be kept for sure; the original is untouched.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot park")


class Tick(NamedTuple):
    """The item of a timer: which attempt of its tick this is."""

    attempt: Attempt


class TimeEntrypoint(Entrypoint):
    """Calls the target at fixed intervals, or when a cron expression is due.

    Every replica of the service ticks; of several copies (``PROCESSES``) one does. Ticks lie on a fixed grid, so
    nothing drifts; a tick that comes due while the call before it still runs is left out, so a target never overlaps
    itself. An interval's grid begins with the service and goes by a clock that never jumps; cron goes by the wall
    clock, and ticks once where several points were slept through.

    With ``cluster``, one replica ticks for all: they agree through the broker, and another one goes on where the one
    before was when that ends, dies or hangs (within ten seconds). The grid of an interval is then the wall clock's:
    the multiples of the interval since 1970, UTC.

    A route's ``backoff`` keeps the failed tick in this process: until it is over no other tick comes, and a restart
    forgets it.

    Args:
        interval: Seconds, greater than 0.
        eager: Whether to tick at the start too.
        cron: Five fields, as Debian's cron has them: ``*/5 * * * *``.
        timezone: The IANA name of the time zone that ``cron`` is meant in.
        cluster: Whether one replica ticks for all.
    """

    retryable = True
    translatable = False
    result_needed = False
    arguments = ()
    locks: ClusterLocks
    """Who says which replica ticks, once bound with ``cluster``."""

    def __init__(
        self,
        interval: float | None = None,
        eager: bool = False,
        *,
        cron: str | None = None,
        timezone: str = "UTC",
        cluster: bool = False,
    ) -> None:
        self.interval = interval
        self.eager = eager
        self.cron = cron
        self.timezone = timezone
        self.cluster = cluster

    def problems(self) -> list[str]:
        """Arguments that do not fit, and a broker that is missing."""
        found = [*timing_problems(self.interval, self.cron), *zone_problems(self.timezone, self.cron)]
        return [*found, *self.cluster_problems()] if self.cluster else found

    def cluster_problems(self) -> Iterator[str]:
        """What keeps the replicas from agreeing."""
        if self.interval is not None and is_duration(self.interval) and self.interval < SHORTEST_SHARED:
            yield f"TimeEntrypoint(cluster=True) needs an interval of at least {SHORTEST_SHARED} s, not {self.interval}"
        if hasattr(self, "host") and not self.host.settings.amqp_uri:
            yield "TimeEntrypoint(cluster=True) needs AMQP_URI: replicas agree through the broker which of them ticks"
        if hasattr(self, "route") and (size := len(self.lock_name.encode())) > LONGEST_NAME:
            yield f"the name of its lock has {size} bytes and AMQP takes {LONGEST_NAME}; shorten service or method"

    @property
    def lock_name(self) -> str:
        """What the replicas agree on; the same in all of them."""
        return f"mf-timer.{self.route.service}.{self.route.method}"

    def claim(self) -> str | None:
        """A lock belongs to one method."""
        return f"the lock {self.lock_name!r}" if self.cluster else None

    def bind(self, host: Host) -> Self:
        """A cluster-wide timer shares the locks of the process."""
        bound = super().bind(host)
        if self.cluster:
            bound.locks = host.shared.get(cluster_locks(), host)
        return bound

    def described(self) -> dict[str, Any]:
        """Its interval."""
        return {**super().described(), "interval": self.interval, "eager": self.eager}

    def runs_in_one_copy(self) -> bool:
        """The copies of a runner are one replica."""
        return not self.cluster

    def setup(self) -> None:
        """Make the timer; forget any earlier run."""
        self.timer = self.make_timer()

    def make_timer(self) -> Timer:
        """What decides when to tick."""
        clock, interval, cron = self.host.clock, self.interval, self.cron
        if cron is not None:
            next_after = partial(next_in_cron, cron, zone_called(self.timezone))
        elif self.cluster:
            next_after = partial(next_multiple, interval or 0)
        else:
            return IntervalTimer(clock, self.go, interval or 0)
        if self.cluster:
            return ClusterTimer(clock, self.go, next_after, self.locks, self.lock_name)
        return WallTimer(clock, self.go, next_after)

    def start(self) -> None:
        """Begin to tick; an eager one ticks once everything is ready, so that what the call sends finds its queues."""
        self.timer.begin()
        if self.eager:
            self.host.lifecycle.when_ready(self.timer.tick_now)
        else:
            self.timer.wait_for_next()

    def stop(self) -> None:
        """Tick no more; a call that runs may finish, and if it fails now it is not tried again."""
        self.retryable = False
        self.timer.stop()
        if self.timer.put_off:
            where = f"{self.route.service}.{self.route.method}"
            logger.warning("%s: a failed tick waited to be tried again, and is left out: the service ends", where)

    def go(self) -> None:
        """Have the target called: the first attempt of a tick."""
        self.submit(Attempt(max_retries=self.route.max_retries))

    def submit(self, attempt: Attempt) -> None:
        """Queue an attempt for a worker."""
        self.route.submit(Tick(attempt))

    def to_call(self, item: Tick) -> Call:
        """A call without arguments, at the root of a new call id stack."""
        call_id = new_call_id(self.route.service, self.route.method, new_identifier())
        identity = CallIdentity(self.route.service, self.route.method, (call_id,))
        return Call(identity, context={}, attempt=item.attempt)

    def settle(self, item: Tick, outcome: Outcome) -> None:
        """Look for the next point only now: that is what keeps a target from overlapping itself."""
        self.timer.wait_for_next()

    def hand_back(self, item: Tick) -> None:
        """A tick that was not run is left out."""
        self.timer.wait_for_next()

    def retry(self, item: Tick, attempt: Attempt, delay: int) -> None:
        """Call again in ``delay`` milliseconds; the timer waits for that."""
        self.timer.again(delay / 1000, lambda: self.submit(attempt))


def is_duration(value: object) -> bool:
    """Whether a value is a finite number greater than 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def timing_problems(interval: object, cron: object) -> Iterator[str]:
    """What is wrong with what says when a timer ticks."""
    if cron is None:
        if not is_duration(interval):
            yield f"TimeEntrypoint needs interval=, seconds greater than 0, or cron=, and got {interval!r}"
        return
    if interval is not None:
        yield f"TimeEntrypoint takes interval= or cron=, and got both: {interval!r} and {cron!r}"
    if not isinstance(cron, str):
        yield f"TimeEntrypoint: cron must be text such as '*/5 * * * *', not {cron!r}"
    elif problem := cron_problem(cron):
        yield f"TimeEntrypoint: cron={cron!r} cannot be used: {problem}; every five minutes is '*/5 * * * *'"


def zone_called(name: str) -> tzinfo:
    """The time zone of an IANA name.

    Raises:
        Exception: There is none.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # here, because it costs the start

    return ZoneInfo(name)


def zone_problems(name: object, cron: object) -> Iterator[str]:
    """What is wrong with a timer's time zone."""
    if cron is None and name != "UTC":
        yield f"TimeEntrypoint: timezone={name!r} says nothing to an interval; leave it out, or use cron="
    elif not isinstance(name, str) or not is_zone(name):
        yield f"TimeEntrypoint: there is no time zone {name!r}; use a name such as 'UTC' or 'Europe/Berlin'"


def is_zone(name: str) -> bool:
    """Whether there is a time zone of this name."""
    try:
        zone_called(name)
    except (KeyError, ValueError, OSError):  # unknown, no name at all, a folder of the zone database
        return False
    return True
