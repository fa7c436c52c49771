"""The pipeline of one item: decoding, filter, translators, target, retries, callback, verdict.

The entrypoint here writes down its verdicts and the items are processed on the test's own thread; brokers come in with
the tests of the AMQP entrypoints.
"""

import logging
from dataclasses import replace
from typing import Any

import pytest

from micro_framework.calls import Attempt, Call, CallIdentity, FailedAttempt, Outcome
from micro_framework.dependencies import CallContext, CallInfo, Dependency, RunningCall
from micro_framework.entrypoints import Entrypoint
from micro_framework.exceptions import PublishTimeout, TaskTimeout, WorkerDied
from micro_framework.parking import Failure, Reason
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import BoundRoute, CallbackRoute, Route, route
from micro_framework.runner import Runner
from micro_framework.testing import ManualClock
from micro_framework.translators import MessageTranslator
from micro_framework.workers import Abandoned, Plan, Worker


class Feed(Entrypoint):
    """Takes items from the test; each verdict is a tuple that begins with its name."""

    retryable = True
    parkable = True
    repeatable = True

    def __init__(self) -> None:
        self.verdicts: list[tuple[Any, ...]] = []
        self.attempt = Attempt()
        self.retry_error: BaseException | None = None
        self.parking_error: BaseException | None = None
        self.crashed = 0

    def crashes(self, item: Any) -> int:
        if item == "unreadable":
            raise ValueError("not a header table")
        return self.crashed

    def to_call(self, item: Any) -> Call:
        if item == "undecodable":
            raise ValueError("not valid application/json")
        identity = CallIdentity(self.route.service, self.route.method, ("orders.handle.1",))
        return Call(identity, (item,), {}, {"user_id": 7}, self.attempt)

    def prepare(self, call: Call) -> Call | None:
        if call.args == ("unfilterable",):
            raise LookupError("the filter failed")
        return None if call.args == ("filtered",) else call

    def settle(self, item: Any, outcome: Outcome) -> None:
        self.verdicts.append(("settle", item, outcome))

    def refuse(self, item: Any, error: BaseException) -> str:
        self.verdicts.append(("refuse", item, error))
        return f"dropped {item!r}"

    def hand_back(self, item: Any) -> None:
        self.verdicts.append(("hand_back", item))

    def retry(self, item: Any, attempt: Attempt, delay: int) -> None:
        if self.retry_error is not None:
            raise self.retry_error
        self.verdicts.append(("retry", item, attempt, delay))

    def run_again(self, item: Any, crashes: int, failed: FailedAttempt) -> None:
        if self.parking_error is not None:
            raise self.parking_error
        self.verdicts.append(("run_again", item, crashes, failed))

    def park(self, item: Any, failure: Failure) -> str:
        if self.parking_error is not None:
            raise self.parking_error
        self.verdicts.append(("park", item, failure))
        return f"parked {item!r}"


class Timer(Feed):
    """Like a timer, it has nothing to park and nothing to run again."""

    parkable = False
    repeatable = False


class Answering(Feed):
    """Its items can be parked, but are not run again when a worker died of them."""

    repeatable = False


class Flaky(Dependency[str]):
    """Cannot be had as long as it has an error."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def get_dependency(self, worker: RunningCall) -> str:
        if self.errors:
            raise self.errors.pop()
        return "had"


class Double(MessageTranslator):
    def translate_message(self, message: Any) -> Any:
        return message * 2


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def feed() -> Feed:
    return Feed()


def bound(route: Route, clock: ManualClock | None = None, **config: Any) -> BoundRoute:
    """The pipeline of a route that is not started."""
    (found,) = Runner([route], {"SERVICE_NAME": "orders", **config}, clock=clock).assembly.routes
    return found


def echo(payload: Any) -> Any:
    return payload


def failing(error: BaseException) -> Any:
    def handle(payload: Any) -> None:
        raise error

    return handle


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_call_that_succeeds_is_settled_with_its_result(feed: Feed) -> None:
    bound(Route(echo, feed)).process("p")
    assert feed.verdicts == [("settle", "p", Outcome("p"))]


def test_the_declaration_is_left_alone(feed: Feed) -> None:
    route = bound(Route(echo, feed))
    assert route.entrypoint is not feed
    assert not hasattr(feed, "route")


def test_translators_run_in_order_before_the_target(feed: Feed) -> None:
    bound(Route(echo, feed, translators=[Double(), Double()])).process("ab")
    assert feed.verdicts == [("settle", "ab", Outcome("abababab"))]


def test_what_is_filtered_out_is_settled_without_a_call(feed: Feed) -> None:
    ran: list[Any] = []
    bound(Route(ran.append, feed)).process("filtered")
    assert (ran, feed.verdicts) == ([], [("settle", "filtered", Outcome())])


def test_what_cannot_be_decoded_is_refused_and_logged(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    bound(Route(echo, feed)).process("undecodable")
    assert [verdict[:2] for verdict in feed.verdicts] == [("refuse", "undecodable")]
    label = f"{echo.__module__}.echo"
    assert messages(caplog) == [(logging.ERROR, f"{label}: dropped 'undecodable': not valid application/json")]
    assert (caplog.records[0].service, caplog.records[0].method) == ("orders", "echo")  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_a_call_that_fails_is_logged_with_its_identity_and_settled(
    feed: Feed, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    bound(Route(failing(error), feed)).process("p")
    assert feed.verdicts == [("settle", "p", Outcome(None, error))]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith("handle: call orders.handle.1 failed")
    assert record.call_id == "orders.handle.1"  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    ("item", "translators"), [("unfilterable", []), (None, [Double()])], ids=["payload filter", "translator"]
)
def test_errors_before_the_target_are_failures_of_the_call(
    feed: Feed, item: Any, translators: list[MessageTranslator]
) -> None:
    ran: list[Any] = []
    policy = AsyncBackOff(1, 50)
    bound(Route(ran.append, feed, translators=translators, backoff=policy)).process(item)
    assert [verdict[0] for verdict in feed.verdicts] == ["retry"]
    assert ran == []


# -- calls that run elsewhere


class Elsewhere:
    """Runs calls as it is told to."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.calls: list[Call] = []

    def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
        self.calls.append(call)
        if (error := self.errors.pop(0)) is not None:
            raise error
        return call, Outcome("elsewhere")


def test_a_call_may_run_elsewhere(feed: Feed) -> None:
    found = bound(Route(failing(OSError()), feed))
    found.runs = Elsewhere(None)
    found.process("p")
    assert feed.verdicts == [("settle", "p", Outcome("elsewhere"))]


def test_what_is_raised_there_is_a_failure_of_the_call(feed: Feed) -> None:
    found = bound(Route(echo, feed))
    found.runs = Elsewhere(error := TaskTimeout("orders.handle.1", 1.0))
    found.process("p")
    assert feed.verdicts == [("settle", "p", Outcome(None, error))]


@pytest.mark.parametrize("errors", [[Abandoned()], [OSError("no"), Abandoned()]], ids=["target", "callback"])
def test_an_abandoned_call_goes_back_and_counts_for_nothing(feed: Feed, errors: list[BaseException]) -> None:
    told: list[Outcome] = []
    found = bound(CallbackRoute(echo, feed, callback_target=echo))
    found.observers = [lambda route, call, outcome: told.append(outcome)]
    found.runs = Elsewhere(*errors)
    found.process("p")
    assert feed.verdicts == [("hand_back", "p")]
    assert not any(isinstance(outcome.error, Abandoned) for outcome in told)


# -- retries


def test_a_retry_hands_over_the_next_attempt_with_its_delay(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    bound(Route(failing(OSError("down")), feed, backoff=AsyncBackOff(3, 1500))).process("p")
    ((verdict, item, attempt, delay),) = feed.verdicts
    assert (verdict, item, delay) == ("retry", "p", 1500)
    assert (attempt.retry_count, attempt.max_retries) == (1, 3)
    (failed,) = attempt.history
    assert (failed.attempt, failed.exc_type, failed.text) == (0, "OSError", "down")
    assert (attempt.last_retry - failed.when).total_seconds() == 1.5
    assert messages(caplog)[0][0] == logging.WARNING
    assert messages(caplog)[0][1].endswith("call orders.handle.1 failed: OSError: down; retry 1 of 3 in 1.5 s")


@pytest.mark.parametrize(
    ("backoff", "retry_count", "error", "verdict"),
    [
        (AsyncBackOff(3, 1), 2, OSError(), "retry"),
        (AsyncBackOff(3, 1), 3, OSError(), "settle"),
        (AsyncBackOff(0, 1), 0, OSError(), "settle"),
        (AsyncBackOff(None, 1), 500, OSError(), "retry"),
        (AsyncBackOff(3, 1, [OSError]), 0, ConnectionError(), "retry"),
        (AsyncBackOff(3, 1, ["builtins.OSError"]), 0, ConnectionError(), "retry"),
        (AsyncBackOff(3, 1, [OSError]), 0, ValueError(), "settle"),
        (AsyncBackOff(3, 1), 0, SystemExit(), "settle"),
        (AsyncBackOff(3, 1, [SystemExit]), 0, SystemExit(), "retry"),
        (None, 0, OSError(), "settle"),
    ],
)
def test_whether_a_call_is_tried_again(
    feed: Feed, backoff: AsyncBackOff | None, retry_count: int, error: BaseException, verdict: str
) -> None:
    feed.attempt = Attempt(retry_count, max_retries=backoff.policy.max_retries if backoff else None)
    bound(Route(failing(error), feed, backoff=backoff)).process("p")
    assert [found[0] for found in feed.verdicts] == [verdict]


def broken_interval(failed: Attempt) -> float:
    raise ZeroDivisionError("no interval")


@pytest.mark.parametrize(
    ("retry_error", "interval"),
    [(PublishTimeout("no answer"), 1), (None, broken_interval), (None, lambda failed: "soon")],
    ids=["not handed over", "interval raises", "interval is no number"],
)
def test_what_cannot_be_put_off_is_held_off(
    feed: Feed, clock: ManualClock, retry_error: BaseException | None, interval: Any, caplog: pytest.LogCaptureFixture
) -> None:
    feed.retry_error = retry_error
    bound(Route(failing(OSError("down")), feed, backoff=AsyncBackOff(3, interval)), clock).process("p")
    assert feed.verdicts == []
    clock.advance(0.1)
    assert feed.verdicts == [("hand_back", "p")]
    assert "down" in caplog.text, "the call's own error is not lost"
    assert "it failed and could not be put off; it is delivered again in 0.1 s" in caplog.text


# -- a dependency that cannot be had


def needs(payload: Any, flaky: str) -> str:
    return flaky


def test_a_message_is_held_off_with_a_growing_pause(
    feed: Feed, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    flaky, pauses = Flaky(), list[float]()
    route = bound(Route(needs, feed, {"flaky": flaky}, backoff=AsyncBackOff(3, 1)), clock)
    flaky.errors += [ConnectionError("database down")] * 9
    for _ in range(9):
        route.process("p")
        assert feed.verdicts == [], "neither settled nor retried: the broker still has it"
        ((due, _, _),) = clock.alarms
        pauses.append(round(due - clock.now(), 3))
        clock.advance(pauses[-1])
        assert feed.verdicts == [("hand_back", "p")]
        feed.verdicts.clear()
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    first = messages(caplog)[0][1]
    assert "a dependency could not be had, so it did not run; it is delivered again in 0.1 s" in first
    assert "flaky (Flaky): ConnectionError: database down" in caplog.text


def test_messages_that_fail_together_wait_alike(feed: Feed, clock: ManualClock) -> None:
    flaky = Flaky()
    route = bound(Route(needs, feed, {"flaky": flaky}), clock)
    flaky.errors += [ConnectionError()] * 10
    for number in range(10):
        route.process(number)
    assert {due for due, _, _ in clock.alarms} == {0.1}
    clock.advance(0.1)
    assert [item for _, item in feed.verdicts] == list(range(10))


def test_a_callback_whose_dependency_cannot_be_had_is_not_skipped(feed: Feed, clock: ManualClock) -> None:
    flaky, called = Flaky(), list[Any]()

    def callback(payload: Any, flaky: str) -> None:
        called.append(payload)

    declared = CallbackRoute(failing(OSError("down")), feed, {"flaky": flaky}, callback_target=callback)
    route = bound(declared, clock)
    flaky.errors.append(ConnectionError("database down"))
    route.process("p")
    assert (feed.verdicts, called) == ([], []), "the message is still the broker's"
    clock.advance(0.1)
    assert feed.verdicts == [("hand_back", "p")]
    route.process("p")
    assert (feed.verdicts[-1][0], called) == ("settle", ["p"])


def test_the_pause_is_short_again_after_a_success(feed: Feed, clock: ManualClock) -> None:
    flaky = Flaky()
    route = bound(Route(needs, feed, {"flaky": flaky}), clock)
    flaky.errors += [ConnectionError()] * 2
    for _ in range(3):
        route.process("p")
    assert feed.verdicts == [("settle", "p", Outcome("had"))]
    flaky.errors.append(ConnectionError())
    clock.advance(10)
    feed.verdicts.clear()
    route.process("q")
    clock.advance(0.1)
    assert feed.verdicts == [("hand_back", "q")]


def test_successes_in_between_make_no_failure_come_back_at_once(feed: Feed, clock: ManualClock) -> None:
    flaky = Flaky()
    route = bound(Route(needs, feed, {"flaky": flaky}), clock)
    for _ in range(3):
        flaky.errors.append(ConnectionError())
        route.process("p")
        route.process("q")
    assert [due for due, _, _ in clock.alarms] == [0.1, 0.1, 0.1]
    assert ("hand_back", "p") not in feed.verdicts


# -- the callback


class Callback:
    """A callback that writes down what it gets."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.got: list[dict[str, Any]] = []

    def __call__(self, payload: Any, retry: Attempt, context: CallInfo, exception: BaseException) -> str:
        self.got.append({"payload": payload, "retry": retry, "context": context, "exception": exception})
        if self.error is not None:
            raise self.error
        return "dropped"


def with_callback(feed: Feed, callback: Any, error: BaseException, **options: Any) -> BoundRoute:
    dependencies = {"retry": BackOffData(), "context": CallContext()}
    return bound(CallbackRoute(failing(error), feed, dependencies, callback_target=callback, **options))


def test_the_callback_gets_arguments_dependencies_and_the_error(feed: Feed) -> None:
    callback, error = Callback(), OSError("down")
    feed.attempt = Attempt(5, max_retries=5)
    with_callback(feed, callback, error, backoff=AsyncBackOff(5, 1), translators=[Double()]).process("p")
    (got,) = callback.got
    assert (got["payload"], got["exception"], got["retry"].retry_count) == ("pp", error, 5)
    assert (got["context"].call_id, got["context"].data) == ("orders.handle.1", {"user_id": 7})
    assert feed.verdicts == [("settle", "p", Outcome(None, error))], "the caller gets the original error"


@pytest.mark.parametrize(
    ("backoff", "error", "called"),
    [
        (AsyncBackOff(5, 1), OSError(), False),
        (AsyncBackOff(5, 1, [OSError]), ValueError(), True),
        (AsyncBackOff(0, 1), OSError(), True),
        (None, OSError(), True),
        (None, SystemExit(), True),
    ],
)
def test_when_the_callback_is_called(
    feed: Feed, backoff: AsyncBackOff | None, error: BaseException, called: bool
) -> None:
    callback = Callback()
    with_callback(feed, callback, error, backoff=backoff).process("p")
    assert len(callback.got) == called


@pytest.mark.parametrize("callback_error", [ValueError("callback broken"), SystemExit("callback broken")])
def test_a_failing_callback_is_logged_and_the_message_parked(
    feed: Feed, callback_error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    error = OSError("down")
    with_callback(feed, Callback(callback_error), error).process("p")
    assert parked(feed).error is error
    assert "its callback" in messages(caplog)[1][1]
    assert "callback broken" in caplog.text


def test_a_callback_that_takes_no_exception_gets_none(feed: Feed) -> None:
    got: list[Any] = []
    with_callback(feed, got.append, OSError()).process("p")
    assert got == ["p"]


# -- worker classes and observers


class Loud(Worker):
    def run(self) -> Outcome:
        outcome = super().run()
        return Outcome(f"{outcome.result}!")


class BrokenRun(Worker):
    def run(self) -> Outcome:
        raise ZeroDivisionError("run broken")


class BrokenInit(Worker):
    def __init__(self, plan: Plan, call: Call) -> None:
        raise ZeroDivisionError("init broken")


def test_a_worker_class_can_change_how_calls_are_run(feed: Feed) -> None:
    bound(Route(echo, feed, worker_class=Loud)).process("p")
    assert feed.verdicts == [("settle", "p", Outcome("p!"))]


@pytest.mark.parametrize("worker_class", [BrokenRun, BrokenInit])
def test_a_broken_worker_class_is_a_failure_of_the_call(feed: Feed, worker_class: type[Worker]) -> None:
    callback = Callback()
    route = bound(CallbackRoute(echo, feed, worker_class=worker_class, callback_target=callback))
    route.process("p")
    ((_, _, outcome),) = feed.verdicts
    assert isinstance(outcome.error, ZeroDivisionError)


def test_observers_hear_of_every_finished_attempt(feed: Feed) -> None:
    route = bound(Route(echo, feed, translators=[Double()]))
    heard: list[tuple[Any, Any, Any]] = []
    assert isinstance(route.observers, list)
    route.observers.append(lambda *told: heard.append(told))
    route.process("p")
    ((observed, call, outcome),) = heard
    assert (observed, call.args, outcome) == (route, ("pp",), Outcome("pp"))


def test_an_observer_may_go_while_the_others_are_told(feed: Feed) -> None:
    route, heard = bound(Route(echo, feed)), list[str]()
    observers = route.observers
    assert isinstance(observers, list)

    def leaves(*told: Any) -> None:
        observers.remove(leaves)

    observers += [leaves, lambda *told: heard.append("second")]
    route.process("p")
    assert heard == ["second"]


def test_route_without_parentheses_is_refused() -> None:
    def refund(self: object, payload: object) -> None: ...

    with pytest.raises(TypeError, match="needs an entrypoint"):
        route(refund)  # type: ignore[arg-type]


def test_an_observer_that_raises_brings_no_second_verdict(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    """A tick that is settled and then handed back would set two alarms, and the timer tick twice from then on."""
    route, heard = bound(Route(echo, feed)), list[str]()
    assert isinstance(route.observers, list)
    route.observers += [lambda *told: 1 / 0, lambda *told: heard.append("second")]
    route.process("p")
    assert feed.verdicts == [("settle", "p", Outcome("p"))]
    assert heard == ["second"]
    assert "tests.test_routes.echo: an observer raised, and observers must not" in caplog.text


# -- parking


def parking(declared: Route) -> Route:
    declared.dead_letter = True
    return declared


def parked(feed: Feed, item: Any = "p") -> Failure:
    ((verdict, found, failure),) = feed.verdicts
    assert (verdict, found) == ("park", item)
    assert isinstance(failure, Failure)
    return failure


def test_a_call_that_failed_for_good_is_parked_with_what_is_known(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    feed.attempt, feed.crashed = Attempt(3, max_retries=3), 1
    error = OSError("down")
    bound(parking(Route(failing(error), feed, backoff=AsyncBackOff(3, 1)))).process("p")
    failure = parked(feed)
    assert failure == Failure(
        Reason.FAILED, error, failure.when, retries=3, crashes=1, call_id="orders.handle.1", callback_error=None
    )
    assert failure.when.tzinfo is not None
    texts = [text for _, text in messages(caplog)]
    assert texts[0].endswith("call orders.handle.1 failed")
    assert texts[1].endswith("parked 'p': down")


def test_a_call_is_retried_before_it_is_parked(feed: Feed) -> None:
    bound(parking(Route(failing(OSError()), feed, backoff=AsyncBackOff(1, 1)))).process("p")
    assert [verdict[0] for verdict in feed.verdicts] == ["retry"]


def test_a_call_that_succeeds_is_not_parked(feed: Feed) -> None:
    bound(parking(Route(echo, feed))).process("p")
    assert feed.verdicts == [("settle", "p", Outcome("p"))]


def test_the_callback_runs_before_a_message_is_parked(feed: Feed) -> None:
    told: list[str] = []
    bound(parking(CallbackRoute(failing(OSError()), feed, callback_target=told.append))).process("p")
    assert told == ["p"]
    assert parked(feed).reason is Reason.FAILED


@pytest.mark.parametrize("dead_letter", [False, True])
def test_a_message_whose_callback_failed_is_parked_whatever_the_route_says(feed: Feed, dead_letter: bool) -> None:
    error, broken = OSError("down"), KeyError("mail")
    declared = CallbackRoute(failing(error), feed, callback_target=failing(broken))
    declared.dead_letter = dead_letter
    bound(declared).process("p")
    failure = parked(feed)
    assert (failure.reason, failure.error, failure.callback_error) == (Reason.CALLBACK_FAILED, error, broken)


def test_what_cannot_be_decoded_is_parked_where_the_route_parks(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    bound(parking(Route(echo, feed))).process("undecodable")
    failure = parked(feed, "undecodable")
    assert (failure.reason, failure.call_id) == (Reason.UNDECODABLE, None)
    ((level, text),) = messages(caplog)
    assert level == logging.ERROR
    assert text.endswith("echo: parked 'undecodable': not valid application/json")


@pytest.mark.parametrize("item", ["p", "undecodable"])
def test_what_cannot_be_parked_is_held_off(
    feed: Feed, clock: ManualClock, item: str, caplog: pytest.LogCaptureFixture
) -> None:
    feed.parking_error = PublishTimeout("no answer")
    route = bound(parking(Route(failing(OSError("down")), feed)), clock)
    for pause in (0.1, 0.2, 0.4):
        route.process(item)
        assert feed.verdicts == [], "neither settled nor refused: the broker still has it"
        clock.advance(pause)
        assert feed.verdicts == [("hand_back", item)]
        feed.verdicts.clear()
    assert "could not be parked" in caplog.text
    assert "it is delivered again in 0.4 s" in caplog.text


# -- workers that die


DEATH = WorkerDied("orders.handle.1", -9)


def dying(payload: Any) -> None:
    raise DEATH


def test_a_worker_that_died_counts_against_its_message_which_is_run_again(
    feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    feed.crashed = 1
    feed.attempt = Attempt(2, max_retries=3)
    bound(Route(dying, feed, backoff=AsyncBackOff(3, 1))).process("p")
    ((verdict, item, crashes, failed),) = feed.verdicts
    assert (verdict, item, crashes) == ("run_again", "p", 2)
    assert (failed.attempt, failed.exc_type, failed.text) == (2, "WorkerDied", str(DEATH))
    ((level, text),) = messages(caplog)
    assert level == logging.WARNING
    assert text.endswith(f"failed: {DEATH}; it is run again (crash 2 of 3)")


@pytest.mark.parametrize("dead_letter", [None, False, True])
def test_a_message_is_parked_at_the_last_crash_whatever_the_route_says(feed: Feed, dead_letter: bool | None) -> None:
    feed.crashed = 2
    told: list[str] = []
    declared = CallbackRoute(dying, feed, backoff=AsyncBackOff(None, 1), callback_target=told.append)
    declared.dead_letter = dead_letter
    bound(declared).process("p")
    failure = parked(feed)
    assert (failure.reason, failure.crashes, type(failure.error)) == (Reason.CRASHED, 3, WorkerDied)
    assert told == ["p"]


def test_max_crashes_is_configured(feed: Feed) -> None:
    bound(Route(dying, feed), MAX_CRASHES=1).process("p")
    assert parked(feed).crashes == 1


def test_where_nothing_can_be_parked_a_crash_is_a_failure_that_is_not_retried() -> None:
    timer = Timer()
    bound(Route(dying, timer, backoff=AsyncBackOff(3, 1))).process("p")
    ((verdict, _, outcome),) = timer.verdicts
    assert verdict == "settle"
    assert isinstance(outcome.error, WorkerDied)


@pytest.mark.parametrize("dead_letter", [False, True])
def test_where_nothing_is_run_again_one_crash_is_a_failure_like_others(dead_letter: bool) -> None:
    answering = Answering()
    declared = Route(dying, answering, backoff=AsyncBackOff(3, 1))
    declared.dead_letter = dead_letter
    bound(declared).process("p")
    assert [verdict[0] for verdict in answering.verdicts] == ["park" if dead_letter else "settle"]


def test_where_nothing_can_be_parked_a_failed_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    timer = Timer()
    bound(CallbackRoute(failing(OSError()), timer, callback_target=failing(KeyError("mail")))).process("p")
    assert [verdict[0] for verdict in timer.verdicts] == ["settle"]
    assert "its callback" in caplog.text


def test_a_crash_that_cannot_be_counted_is_held_off(
    feed: Feed, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    feed.parking_error = PublishTimeout("no answer")
    bound(Route(dying, feed), clock).process("p")
    assert feed.verdicts == []
    clock.advance(0.1)
    assert feed.verdicts == [("hand_back", "p")]
    assert str(DEATH) in caplog.text
    assert "its worker died and it could not be marked" in caplog.text


def test_what_has_crashed_too_often_is_parked_without_being_run(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[Any] = []
    feed.crashed = 3
    bound(Route(ran.append, feed)).process("undecodable")
    failure = parked(feed, "undecodable")
    assert (failure.reason, failure.crashes, ran) == (Reason.CRASHED, 3, [])
    ((level, text),) = messages(caplog)
    assert level == logging.ERROR
    assert "parked 'undecodable': not run any more: 3 times" in text
    assert "MAX_CRASHES is 3" in text


def test_headers_that_cannot_be_read_are_a_message_that_cannot_be_decoded(feed: Feed) -> None:
    bound(Route(echo, feed)).process("unreadable")
    assert [verdict[:2] for verdict in feed.verdicts] == [("refuse", "unreadable")]


class Killed(Worker):
    """A worker class whose worker dies, as a pool of processes tells it."""

    def run(self) -> Outcome:
        return Outcome(error=DEATH)


def test_a_worker_class_can_tell_of_a_death(feed: Feed) -> None:
    bound(Route(echo, feed, worker_class=Killed)).process("p")
    assert [verdict[0] for verdict in feed.verdicts] == ["run_again"]


class Asked(Feed):
    """An entrypoint with a caller, who is told of what cannot be run, and whose errors are expected."""

    def refuse(self, item: Any, error: BaseException) -> str:
        super().refuse(item, error)
        return ""

    def severity(self, error: BaseException) -> int:
        return logging.WARNING if isinstance(error, LookupError) else super().severity(error)

    def shown(self, call: Call) -> str:
        return f", called with {call.args}"


def test_an_entrypoint_may_log_by_itself_what_cannot_be_decoded(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    bound(Route(echo, asked)).process("undecodable")
    assert [verdict[:2] for verdict in asked.verdicts] == [("refuse", "undecodable")]
    assert messages(caplog) == []


@pytest.mark.parametrize(("error", "level"), [(KeyError("k"), logging.WARNING), (ValueError("v"), logging.ERROR)])
def test_an_entrypoint_says_how_bad_a_failure_is_and_what_is_shown_of_the_call(
    error: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    bound(Route(failing(error), Asked())).process("p%s")
    ((found, text),) = messages(caplog)
    assert found == level
    assert text.endswith("call orders.handle.1 failed, called with ('p%s',)")


def test_a_route_describes_its_target(feed: Feed) -> None:
    def create(payload: int, dependency: Any = None) -> None:
        """Create an order.

        At once.
        """

    route = bound(Route(create, feed, dependencies={"dependency": Flaky()}))
    assert route.describe() == {
        "name": "create",
        "parameters": [{"name": "payload", "kind": "positional_or_keyword", "required": True, "annotation": "int"}],
        "doc": "Create an order.\n\nAt once.",
    }


def test_a_callback_keeps_the_deadline_of_its_call(feed: Feed) -> None:
    deadlines: list[float | None] = []

    class Deadline(Dependency[None]):
        def get_dependency(self, worker: RunningCall) -> None:
            deadlines.append(worker.call.deadline)

    class Dated(Feed):
        def to_call(self, item: Any) -> Call:
            return replace(super().to_call(item), deadline=5.0)

    def failed(payload: Any, deadline: Any) -> None: ...

    route = CallbackRoute(
        failing(ValueError("no")), Dated(), callback_target=failed, dependencies={"deadline": Deadline()}
    )
    bound(route).process("p")
    assert deadlines == [5.0]
