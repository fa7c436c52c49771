"""Routes: an entrypoint, a target, and the pipeline between them.

`Route` and `CallbackRoute` declare one; `route` declares one on a method. `BoundRoute` is the pipeline at work: it
takes an item from its entrypoint through translators, target, retries and callback to its verdict. It is built once, so
that a message only pays for what it needs itself.
"""

import inspect
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from micro_framework.backoff import (
    RetryPolicy,
    expected_delays,
    failed_attempt,
    next_attempt,
    next_delay,
    should_retry,
)
from micro_framework.calls import Attempt, Call, Happening, Outcome, Underway
from micro_framework.dependencies import Dependency
from micro_framework.entrypoints import Entrypoint, TargetDeclaration, declare, is_method
from micro_framework.exceptions import IncorrectSignature, TooManyCrashes, WorkerDied
from micro_framework.extensions import Host
from micro_framework.logs import call_fields, running_call
from micro_framework.lookout import Lookout
from micro_framework.parking import Failure, Reason
from micro_framework.retry import AsyncBackOff
from micro_framework.spawners.base import Spawner
from micro_framework.tracing import Spans, spans
from micro_framework.translators import MessageTranslator
from micro_framework.workers import Abandoned, DependencyFailure, Plan, Runs, RunsHere, Worker

__all__ = ["BoundRoute", "CallbackRoute", "Observer", "Route", "route"]

Function = TypeVar("Function", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds that a message is held off when its call could not be run; doubled while that goes on, from one round of
messages to the next: ten workers that meet the same trouble at once are one round."""


LONG_SECONDS, LONG_CALLS_KEPT = 0.5, 20
"""Calls of at least so many seconds are remembered for a while, the last so many."""


class Observer(Protocol):
    """Told of every finished call, on the worker's thread; must return at once and must not raise."""

    def __call__(self, route: "BoundRoute", call: Call, outcome: Outcome) -> None:
        """``outcome`` is that of this attempt."""


class Route:
    """Declares that an entrypoint drives a target.

    Args:
        target: A dotted path, a function, or a class (with ``method_name=``, else its ``__call__``).
        entrypoint: What makes it run.
        dependencies: Passed to the target as keyword arguments, those of them that its signature names.
        translators: Change the message before the target gets it, in this order.
        worker_class: A subclass of `Worker` to run the calls.
        backoff: Try failed calls again later.
        method_name: The method, where the target is a class.
        metric_label: The route's name in metrics, instead of the target's.
    """

    context: str | None = None
    service: str | None = None  # the service it belongs to, where that is not what SERVICE_NAME says
    dead_letter: bool | None = None
    callback: object | None = None
    callback_method: str | None = None

    def __init__(
        self,
        target: object,
        entrypoint: Entrypoint,
        dependencies: Mapping[str, Dependency[Any]] | None = None,
        translators: Sequence[MessageTranslator] | None = None,
        worker_class: type[Worker] | None = None,
        backoff: AsyncBackOff | None = None,
        method_name: str | None = None,
        metric_label: str | None = None,
    ) -> None:
        self.target = target
        self.entrypoint = entrypoint
        self.dependencies = dict(dependencies or {})
        self.translators = tuple(translators or ())
        self.worker_class = worker_class or Worker
        self.backoff = backoff
        self.method_name = method_name
        self.metric_label = metric_label


class CallbackRoute(Route):
    """A `Route` with a callback that is called once, after the last attempt failed.

    The callback gets the target's arguments, those of the dependencies that it names, and ``exception`` if it takes
    one. Its result is dropped.

    Args:
        callback_function_path: The callback's dotted path.
        callback_target: The callback itself, instead of its path.
        The rest: as `Route`.
    """

    def __init__(
        self,
        target: object,
        entrypoint: Entrypoint,
        dependencies: Mapping[str, Dependency[Any]] | None = None,
        translators: Sequence[MessageTranslator] | None = None,
        worker_class: type[Worker] | None = None,
        backoff: AsyncBackOff | None = None,
        method_name: str | None = None,
        metric_label: str | None = None,
        *,
        callback_function_path: str | None = None,
        callback_target: object | None = None,
    ) -> None:
        super().__init__(
            target, entrypoint, dependencies, translators, worker_class, backoff, method_name, metric_label
        )
        self.callback_function_path = callback_function_path
        self.callback = callback_target if callback_target is not None else callback_function_path


def route(
    *entrypoints: Entrypoint,
    backoff: AsyncBackOff | None = None,
    translators: Sequence[MessageTranslator] = (),
    on_failure: str | Callable[..., Any] | None = None,
    worker_class: type[Worker] | None = None,
    context: str | None = None,
    metric_label: str | None = None,
    dead_letter: bool | None = None,
) -> Callable[[Function], Function]:
    """Make a method a target of these entrypoints, with options for the pipeline between them.

    Args:
        entrypoints: What makes it run, one or more.
        backoff: Try failed calls again later.
        translators: Change the message before the target gets it, in this order.
        on_failure: Called once after the last attempt failed: a method name, a function, or a dotted path.
        worker_class: A subclass of `Worker` to run the calls.
        context: The pool of workers it runs in: the name of a `RunnerContext` or of a ``CONTEXTS`` key.
        metric_label: The route's name in metrics, instead of the method's.
        dead_letter: Park a message after its last failure instead of only acknowledging it, so that it can be looked
            at and replayed; None: as ``DEAD_LETTER`` says.

    Returns:
        A decorator that returns the method unchanged.

    Raises:
        TypeError: There is no entrypoint, so nothing would ever call the method.
    """
    if not entrypoints or is_method(entrypoints[0]):
        raise TypeError("route() needs an entrypoint, for instance route(EventListener('payments', 'refunded'))")
    options = {
        "backoff": backoff,
        "translators": tuple(translators),
        "on_failure": on_failure,
        "worker_class": worker_class,
        "context": context,
        "metric_label": metric_label,
        "dead_letter": dead_letter,
    }

    def note(function: Function) -> Function:
        for entrypoint in entrypoints:
            declare(function, TargetDeclaration(entrypoint, options))
        return function

    return note


class BoundRoute:
    """The pipeline at work. Made by the runner; all its workers share it.

    Args:
        plan: What every call has in common.
        entrypoint: The bound entrypoint.
        spawner: The pool its calls run in.
        worker_class: Runs the calls.
        policy: When to try again, None for never.
        callback: The plan of the callback, None for none.
        dead_letter: Whether what failed for good is parked.
        observers: Told of every finished attempt; the runner's one list.
        runs: Runs the calls instead of the worker class, for instance elsewhere.
    """

    def __init__(
        self,
        plan: Plan,
        entrypoint: Entrypoint,
        spawner: Spawner,
        *,
        worker_class: type[Worker] = Worker,
        policy: RetryPolicy | None = None,
        callback: Plan | None = None,
        dead_letter: bool = False,
        observers: Sequence[Observer] = (),
        runs: Runs | None = None,
    ) -> None:
        self.plan = plan
        self.entrypoint = entrypoint
        self.spawner = spawner
        self.runs = runs or RunsHere(worker_class)
        self.policy = policy
        self.callback = callback
        self.dead_letter = dead_letter
        self.max_crashes = plan.host.settings.max_crashes
        self.observers = observers
        self.service = plan.host.service
        self.method = plan.target.name
        self.label = plan.target.description
        self.pause = 0.0
        self.pause_ends = 0.0
        self.long_calls: deque[tuple[str, float, float]] = deque(maxlen=LONG_CALLS_KEPT)
        self.running: dict[int, tuple[Call, float]] = {}  # a call, and when it began, by its thread
        entrypoint.route = self

    @property
    def host(self) -> Host:
        """The host of the route."""
        return self.plan.host

    @property
    def retries(self) -> bool:
        """Whether it has a backoff."""
        return self.policy is not None

    @property
    def max_retries(self) -> int | None:
        """The retries its backoff allows; None for no limit, and where there is no backoff."""
        return self.policy.max_retries if self.policy else None

    def describe(self) -> Mapping[str, Any]:
        """What a caller wants to know of the target."""
        target = self.plan.target
        return {"name": self.method, "parameters": target.parameters(), "doc": inspect.getdoc(target.function) or ""}

    @property
    def expected_delays(self) -> Sequence[int]:
        """The milliseconds that its backoff can give, as far as they are known beforehand."""
        return expected_delays(self.policy) if self.policy else ()

    @property
    def lookout(self) -> Lookout | None:
        """Its pool, where idle workers can look out for input."""
        return self.spawner.lookout

    def submit(self, item: Any) -> None:
        """Queue an item for a worker."""
        self.spawner.submit(self, item)

    def comes_again(self, item: Any) -> bool:
        """Whether an item that is given back is not lost."""
        return self.entrypoint.comes_again(item)

    def hand_back(self, item: Any) -> None:
        """Give an item back that no worker has run."""
        self.entrypoint.hand_back(item)

    def process(self, item: Any) -> None:
        """One item, in a worker, from decoding to its verdict."""
        try:
            crashes = self.entrypoint.crashes(item)
            decoded = self.entrypoint.to_call(item) if crashes < self.max_crashes else None
        except BaseException as error:  # noqa: BLE001 - a decoder may raise anything, and the worker lives on
            self.refuse(item, error)
            return
        if decoded is None:
            self.give_up_unrun(item, crashes)
            return
        worker, began = threading.get_ident(), time.monotonic()
        self.running[worker] = decoded, began
        try:
            self.perform_as(decoded, item)
        finally:
            if (ended := time.monotonic()) - began >= LONG_SECONDS:
                self.long_calls.append((decoded.identity.call_id, began, ended))
            del self.running[worker]

    def perform_as(self, decoded: Call, item: Any) -> None:
        """As `perform`, known to be the running call, and traced where traces are wanted."""
        token = running_call.set(decoded)  # so that whatever is logged meanwhile carries the call's fields
        try:
            if (made := spans()) is None:
                self.perform(item, decoded)
            else:
                self.perform_traced(made, item, decoded)
        finally:
            running_call.reset(token)

    def perform_traced(self, made: Spans, item: Any, decoded: Call) -> None:
        """As `perform`, in a span."""
        with made.running(decoded, item, served=self.entrypoint.called_from_outside) as span:
            outcome = self.perform(item, decoded)
            if outcome.error is not None:
                made.failed(span, outcome.error)

    def perform(self, item: Any, decoded: Call) -> Outcome:
        """A decoded item, to its verdict; returns how this attempt ended."""
        call, outcome = self.attempt(decoded)
        if outcome.error is None:
            self.pause = 0.0
            self.entrypoint.settle(item, outcome)
        else:
            self.failed(item, call, outcome.error)
        if self.observers and not isinstance(outcome.error, Abandoned):
            self.tell(call, outcome)
        return outcome

    def underway(self) -> Sequence[Underway]:
        """The calls that are being run at this moment, callbacks included. Thread safe."""
        now = time.monotonic()
        running = tuple(self.running.values())
        return [Underway(self.label, call.identity.call_id, now - began) for call, began in running]

    def ran_during(self, began: float, ended: float) -> Sequence[Underway]:
        """The calls that ran for most of a time, ended or not; short ones are not kept. Thread safe."""
        now = time.monotonic()
        ran = {call.identity.call_id: (start, now) for call, start in tuple(self.running.values())}
        ran |= {call_id: (start, end) for call_id, start, end in tuple(self.long_calls)}
        return [
            Underway(self.label, call_id, end - start)
            for call_id, (start, end) in ran.items()
            if min(end, ended) - max(start, began) >= (ended - began) / 2
        ]

    def tell(self, call: Call, outcome: Outcome) -> None:
        """Tell the observers. The item has its verdict: one that raises must not bring it a second one."""
        for observer in tuple(self.observers):  # other threads add and remove some meanwhile
            try:
                observer(self, call, outcome)
            except Exception:
                logger.exception("%s: an observer raised, and observers must not", self.label)

    def happened(self, what: Happening, call: Call | None, error: BaseException | None = None) -> None:
        """For a subclass that wants to know; called on the worker's thread, and not for a call that succeeds."""

    def attempt(self, call: Call) -> tuple[Call, Outcome]:
        """Run the call once, unless the entrypoint's filter says it is not for this target."""
        try:
            prepared = self.entrypoint.prepare(call)
        except BaseException as error:  # noqa: BLE001 - translators and filters are the user's: a failure of the call
            self.happened(Happening.UNPREPARED, call, error)
            return call, Outcome(error=error)
        if prepared is None:
            self.happened(Happening.SKIPPED, call)
            return call, Outcome()
        return self.run(self.plan, prepared)

    def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
        """Run a call in a worker of its own; returns it as its target got it, and how it ended."""
        try:
            return self.runs.run(plan, call)
        except BaseException as error:  # noqa: BLE001 - the worker class may be the user's: a failure of the call
            return call, Outcome(error=error)

    def refuse(self, item: Any, error: BaseException) -> None:
        """Log what cannot be decoded with its identity; park it, or dispose of it by the entrypoint's convention."""
        self.happened(Happening.REFUSED, None, error)
        if self.dead_letter and self.entrypoint.parkable:
            self.park(item, None, Failure(Reason.UNDECODABLE, error, datetime.now(UTC)))
        elif what := self.entrypoint.refuse(item, error):
            logger.error("%s: %s: %s", self.label, what, error, extra=self.extra(None))

    def failed(self, item: Any, call: Call, error: BaseException) -> None:
        """Hold off, run again, try again later, or give up: what becomes of a call that raised."""
        if isinstance(error, Abandoned):
            self.entrypoint.hand_back(item)
        elif isinstance(error, DependencyFailure):
            self.hold_off(item, call, error, "a dependency could not be had, so it did not run")
        elif isinstance(error, WorkerDied):
            self.crashed(item, call, error)
        elif self.policy and self.is_worth_a_retry(self.policy, call, error):
            self.retry(item, call, error, self.policy)
        else:
            self.give_up(item, call, error)

    def is_worth_a_retry(self, policy: RetryPolicy, call: Call, error: BaseException) -> bool:
        """Whether the policy says so, and it is nothing that the caller must mend."""
        if isinstance(error, IncorrectSignature) and self.entrypoint.called_from_outside:
            return False
        return self.entrypoint.retryable and should_retry(policy, call.attempt, error)

    def retry(self, item: Any, call: Call, error: BaseException, policy: RetryPolicy) -> None:
        """Hand the message to the broker's delay; the original is settled only once the broker has the copy."""
        self.happened(Happening.RETRYING, call, error)
        try:
            delay = next_delay(policy, call.attempt, random.random(), error)
            now = datetime.now(UTC)
            due = now + timedelta(milliseconds=delay)
            attempt = next_attempt(policy, call.attempt, error, now=now, due=due)
            in_time = call.deadline is None or due.timestamp() < call.deadline
            if in_time:
                self.entrypoint.retry(item, attempt, delay)
        except Exception as reason:  # noqa: BLE001 - also what a callable interval raises
            self.log(logging.ERROR, call, error, "failed")
            self.hold_off(item, call, reason, "it failed and could not be put off")
            return
        if in_time:
            self.happened(Happening.RETRIED, call)
            self.log_retry(call, attempt, delay)
        else:  # nobody would wait for it any more
            self.give_up(item, call, error)

    def log_retry(self, call: Call, attempt: Attempt, delay: int) -> None:
        """One line, without a traceback: that comes once, with the last failure."""
        failure = attempt.history[-1]
        logger.warning(
            "%s: call %s failed: %s: %s; retry %s of %s in %g s",
            self.label,
            call.identity.call_id,
            failure.exc_type,
            failure.text,
            attempt.retry_count,
            "any number" if attempt.max_retries is None else attempt.max_retries,
            delay / 1000,
            extra=self.extra(call),
        )

    def crashed(self, item: Any, call: Call, error: BaseException) -> None:
        """A worker died of it: that counts against this item alone, which is run again until ``MAX_CRASHES``."""
        self.happened(Happening.CRASHED, call, error)
        crashes = self.entrypoint.crashes(item) + 1 if self.entrypoint.repeatable else None
        if crashes is None or crashes >= self.max_crashes:
            self.give_up(item, call, error, crashes)
            return
        try:
            self.entrypoint.run_again(item, crashes, failed_attempt(call.attempt.retry_count, error, datetime.now(UTC)))
        except Exception as reason:  # noqa: BLE001 - whatever keeps the copy from being there
            self.log(logging.ERROR, call, error, "failed")
            self.hold_off(item, call, reason, "its worker died and it could not be marked")
            return
        logger.warning(
            "%s: call %s failed: %s; it is run again (crash %s of %s)",
            self.label,
            call.identity.call_id,
            error,
            crashes,
            self.max_crashes,
            extra=self.extra(call),
        )

    def give_up_unrun(self, item: Any, crashes: int) -> None:
        """Too many workers, or whole services, have died of it, as far as counted: park it without running it."""
        error = TooManyCrashes(crashes, self.max_crashes)
        self.happened(Happening.UNRUN, None, error)
        self.park(item, None, Failure(Reason.CRASHED, error, datetime.now(UTC), crashes=crashes))

    def give_up(self, item: Any, call: Call, error: BaseException, crashes: int | None = None) -> None:
        """The last attempt failed: log it, run the callback, park or settle.

        Args:
            crashes: How many workers have died of it, where it is that what ends it.
        """
        self.happened(Happening.FAILED, call, error)
        self.log(self.entrypoint.severity(error), call, error, f"failed{self.entrypoint.shown(call)}")
        failure = self.run_callback(self.callback, call, error) if self.callback is not None else None
        if isinstance(failure, Abandoned):
            self.entrypoint.hand_back(item)
            return
        if isinstance(failure, DependencyFailure):
            self.hold_off(item, call, failure, "a dependency of its callback could not be had")
            return
        if failure is not None and self.callback is not None:
            self.log(logging.ERROR, call, failure, f"its callback {self.callback.target.description} failed")
        if self.entrypoint.parkable and (self.dead_letter or crashes is not None or failure is not None):
            self.park(item, call, self.failure_of(item, call, error, crashes, failure))
        else:
            self.entrypoint.settle(item, Outcome(error=error))

    def failure_of(
        self, item: Any, call: Call, error: BaseException, crashes: int | None, callback_error: BaseException | None
    ) -> Failure:
        """What is known of a call that has failed for good."""
        reason = Reason.FAILED if callback_error is None else Reason.CALLBACK_FAILED
        return Failure(
            reason if crashes is None else Reason.CRASHED,
            error,
            datetime.now(UTC),
            retries=call.attempt.retry_count,
            crashes=self.entrypoint.crashes(item) if crashes is None else crashes,
            call_id=call.identity.call_id,
            callback_error=callback_error,
        )

    def park(self, item: Any, call: Call | None, failure: Failure) -> None:
        """Keep it for people to look at; until that is sure, it stays where it is."""
        try:
            what = self.entrypoint.park(item, failure)
        except Exception as reason:  # noqa: BLE001 - whatever keeps the copy from being there
            self.hold_off(item, call, reason, f"it could not be parked ({failure.reason})")
            return
        self.happened(Happening.PARKED, call)
        logger.error("%s: %s: %s", self.label, what, failure.error, extra=self.extra(call))

    def run_callback(self, plan: Plan, call: Call, error: BaseException) -> BaseException | None:
        """Call the callback; returns what it raised."""
        kwargs = {**call.kwargs, "exception": error} if plan.target.takes("exception") else call.kwargs
        _, outcome = self.run(plan, replace(call, kwargs=kwargs))
        return outcome.error

    def hold_off(self, item: Any, call: Call | None, error: BaseException, what: str) -> None:
        """Give the message back after a pause that grows while this goes on, so that nothing loops hot.

        Until then it stays unacknowledged; if the process ends meanwhile, the broker takes it back.
        """
        self.happened(Happening.HELD_OFF, call, error)
        clock = self.host.clock
        pause = self.next_pause(clock.now())
        self.log(logging.ERROR, call, error, f"{what}; it is delivered again in {pause:g} s")
        clock.call_at(clock.now() + pause, lambda: self.entrypoint.hand_back(item))

    def next_pause(self, now: float) -> float:
        """How long to hold off: messages that fail at about the same time wait alike, only later ones wait longer.

        Workers may race here; one pause more or less does no harm.
        """
        if not self.pause or now >= self.pause_ends:
            self.pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self.pause))
            self.pause_ends = now + self.pause
        return self.pause

    def log(self, level: int, call: Call | None, error: BaseException, what: str) -> None:
        """One line with the call's identity, if there was one, and the error's traceback."""
        which = f"call {call.identity.call_id}" if call else "a message that was not run:"
        logger.log(level, "%s: %s %s", self.label, which, what, exc_info=error, extra=self.extra(call))

    def extra(self, call: Call | None) -> Mapping[str, Any]:
        """What log records of this route carry."""
        return call_fields(call.identity) if call else {"service": self.service, "method": self.method}
