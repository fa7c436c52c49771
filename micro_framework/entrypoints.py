"""Entrypoints: what makes a target run.

An entrypoint instance is itself the decorator: ``@EventListener("payments", "refunded")`` notes a `TargetDeclaration`
on the function and returns the function unchanged, so it stays an ordinary one and can carry several.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from micro_framework.calls import Attempt, Call, CallIdentity, FailedAttempt, Outcome
from micro_framework.clock import Alarm
from micro_framework.extensions import Extension
from micro_framework.identifiers import new_identifier
from micro_framework.parking import Failure
from micro_framework.schedule import next_on_grid
from micro_framework.wire.headers import new_call_id

__all__ = ["Entrypoint", "RouteHandle", "TargetDeclaration", "TimeEntrypoint", "declarations", "declare", "is_method"]

Function = TypeVar("Function", bound=Callable[..., Any])

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


def is_duration(value: object) -> bool:
    """Whether a value is a finite number greater than 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


class RouteHandle(Protocol):
    """The route as its entrypoint knows it."""

    @property
    def service(self) -> str:
        """The service's name."""

    @property
    def method(self) -> str:
        """The target's name, as it appears in queue names and call ids."""

    @property
    def max_retries(self) -> int | None:
        """The retries its backoff allows; None where there is no limit or no backoff."""

    @property
    def retries(self) -> bool:
        """Whether it has a backoff."""

    @property
    def dead_letter(self) -> bool:
        """Whether what failed for good is parked."""

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

    retryable: ClassVar[bool] = False
    """Whether `retry` is there, so that a route may have a backoff."""

    parkable: ClassVar[bool] = False
    """Whether `park` is there: whether its items can be kept for people to look at."""

    repeatable: ClassVar[bool] = False
    """Whether `run_again` is there, so that an item whose worker died is run again; else that is a failed call."""

    translatable: ClassVar[bool] = True
    """Whether its calls carry a message that translators can change."""

    arguments: ClassVar[tuple[str, ...] | None] = None
    """What its targets are called with, by position, so that their signatures can be checked; None: not known."""

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
            What it was and what became of it, for the log.
        """
        return repr(item)

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


class TimeEntrypoint(Entrypoint):
    """Calls the target at fixed intervals.

    Every replica of the service ticks. Ticks lie on a fixed grid from the start, so nothing drifts; a tick that comes
    due while the call before it still runs is left out, so a target never overlaps itself.

    Args:
        interval: Seconds between ticks, greater than 0.
        eager: Tick at the start as well, as soon as everything is ready, instead of first after one interval (Nameko's
            ``eager``).
        cron: Not built yet.
        timezone: Of ``cron``.
        cluster: Not built yet.
    """

    translatable = False
    arguments = ()

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
        """Arguments that do not fit, or ask for what is not built yet."""
        found = []
        if self.cron is not None:
            found.append("TimeEntrypoint(cron=...) is not built yet; use interval=, in seconds")
        elif not is_duration(self.interval):
            found.append(f"TimeEntrypoint needs interval=, seconds greater than 0, and got {self.interval!r}")
        if self.cluster:
            found.append("TimeEntrypoint(cluster=True) is not built yet; without it every replica ticks")
        return found

    def setup(self) -> None:
        """Forget any earlier run."""
        self.origin = 0.0
        self.alarm: Alarm | None = None
        self.stopped = False

    def start(self) -> None:
        """Set the first alarm; an eager one once everything is ready, so that what the call sends finds its queues."""
        self.origin = self.host.clock.now()
        if self.eager:
            self.host.lifecycle.when_ready(lambda: self.set_alarm(self.origin))
        else:
            self.set_alarm(self.next_due())

    def stop(self) -> None:
        """Tick no more; a call that runs may finish."""
        self.stopped = True
        if self.alarm is not None:
            self.alarm.cancel()

    def next_due(self) -> float:
        """The next point of the grid."""
        return next_on_grid(self.origin, self.interval or 0, self.host.clock.now())

    def set_alarm(self, due: float) -> None:
        """Ring at ``due``, unless stopped."""
        if not self.stopped:
            self.alarm = self.host.clock.call_at(due, lambda: self.route.submit(due))

    def to_call(self, item: float) -> Call:
        """A call without arguments, at the root of a new call id stack."""
        call_id = new_call_id(self.route.service, self.route.method, new_identifier())
        return Call(CallIdentity(self.route.service, self.route.method, (call_id,)), context={})

    def settle(self, item: float, outcome: Outcome) -> None:
        """Set the next alarm only now: that is what keeps a target from overlapping itself."""
        self.set_alarm(self.next_due())

    def hand_back(self, item: float) -> None:
        """A tick that was not run is left out."""
        self.set_alarm(self.next_due())
