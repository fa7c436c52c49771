"""Entrypoints as decorators, and the timer on a clock that the test turns."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from micro_framework.calls import Attempt, Call, CallIdentity
from micro_framework.dependencies import Dependency
from micro_framework.entrypoints import Entrypoint, TimeEntrypoint, declarations, declare
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.runner import Runner
from micro_framework.testing import ManualClock, running, wait_for
from tests.outside import SECONDS, let_end_at_stop


def test_an_entrypoint_is_a_decorator_that_changes_nothing() -> None:
    def target() -> None: ...

    first, second = Entrypoint(), Entrypoint()
    assert second(first(target)) is target
    assert [declaration.entrypoint for declaration in declarations(target)] == [first, second]
    assert declarations(declare) == ()


@pytest.mark.parametrize(
    ("use", "missing"),
    [
        (lambda entrypoint: entrypoint.to_call(1), r"Entrypoint must define to_call\(item\)"),
        (lambda entrypoint: entrypoint.retry(1, Attempt(), 1), "Entrypoint cannot retry"),
    ],
)
def test_an_entrypoint_says_what_it_lacks(use: Any, missing: str) -> None:
    with pytest.raises(NotImplementedError, match=missing):
        use(Entrypoint())


def test_by_default_every_call_is_prepared_as_it_is() -> None:
    call = Call(CallIdentity("orders", "tick", ("orders.tick.1",)))
    assert Entrypoint().prepare(call) is call
    assert Entrypoint().refuse("item", ValueError()) == "'item'"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "TimeEntrypoint needs interval=, seconds greater than 0, or cron=, and got None"),
        ({"interval": 0}, "and got 0"),
        ({"interval": -1}, "and got -1"),
        ({"interval": True}, "and got True"),
        ({"interval": "60"}, "and got '60'"),
        ({"interval": float("nan")}, "and got nan"),
        ({"interval": float("inf")}, "and got inf"),
        ({"interval": 5, "cron": "*/5 * * * *"}, "takes interval= or cron=, and got both: 5 and '*/5 * * * *'"),
        ({"cron": 5}, "cron must be text such as '*/5 * * * *', not 5"),
        ({"cron": "99 * * * *"}, "cron='99 * * * *' cannot be used: Bad minute; every five minutes is '*/5 * * * *'"),
        ({"cron": "0 3 * * *", "timezone": "Mars/Base"}, "there is no time zone 'Mars/Base'; use a name such as 'UTC'"),
        ({"cron": "0 3 * * *", "timezone": "../etc/passwd"}, "there is no time zone '../etc/passwd'"),
        ({"cron": "0 3 * * *", "timezone": "Europe"}, "there is no time zone 'Europe'"),
        ({"cron": "0 3 * * *", "timezone": ""}, "there is no time zone ''"),
        ({"cron": "0 3 * * *", "timezone": None}, "there is no time zone None"),
        ({"interval": 5, "timezone": "Asia/Tokyo"}, "timezone='Asia/Tokyo' says nothing to an interval; leave it out"),
        ({"interval": 0.0001, "cluster": True}, "needs an interval of at least 0.001 s, not 0.0001"),
    ],
)
def test_a_timers_arguments_are_checked(arguments: dict[str, Any], problem: str) -> None:
    (found,) = TimeEntrypoint(**arguments).problems()
    assert problem in found


def test_of_several_copies_one_runs_timers_unless_the_cluster_chooses() -> None:
    assert not Entrypoint().runs_in_one_copy()
    assert TimeEntrypoint(60).runs_in_one_copy()
    assert not TimeEntrypoint(60, cluster=True).runs_in_one_copy()


class Ticker:
    """The timer in a running service: ticks begin and end when the test says so."""

    def __init__(self, clock: ManualClock, interval: float = 10, *, eager: bool = False) -> None:
        self.clock = clock
        self.ticks: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.may_end = threading.Semaphore(0)
        self.error: BaseException | None = None

        class Service:
            name = "ticker"

            @TimeEntrypoint(interval, eager=eager)
            def tick(instance) -> None:  # noqa: N805 - self is the Ticker here
                self.ticks.put(self.clock.now())
                assert self.may_end.acquire(timeout=SECONDS)
                if self.error is not None:
                    raise self.error

        self.service = Service

    @contextmanager
    def running(self) -> Iterator[Runner]:
        with running(self.service, clock=self.clock) as runner:
            yield runner
            self.may_end.release(100)

    def tick(self) -> float:
        """The clock's time at which the next call began."""
        return self.ticks.get(timeout=SECONDS)

    def end(self, runner: Runner) -> None:
        """Let the running call end, with the next alarm set."""
        with wait_for(runner, "Service.tick"):
            self.may_end.release()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000)


def test_ticks_lie_on_a_grid_that_does_not_drift(clock: ManualClock) -> None:
    ticker = Ticker(clock)
    with ticker.running() as runner:
        clock.advance(9.9)
        assert ticker.ticks.empty()
        clock.advance(0.1)
        assert ticker.tick() == 1010
        clock.advance(3)  # the call takes 3 seconds
        ticker.end(runner)
        clock.advance(6.9)
        assert ticker.ticks.empty()
        clock.advance(0.1)
        assert ticker.tick() == 1020


def test_an_eager_timer_ticks_at_the_start_too(clock: ManualClock) -> None:
    ticker = Ticker(clock, eager=True)
    with ticker.running() as runner:
        assert ticker.tick() == 1000
        ticker.end(runner)
        clock.advance(10)
        assert ticker.tick() == 1010


def test_a_timer_never_overlaps_itself_and_leaves_missed_ticks_out(clock: ManualClock) -> None:
    ticker = Ticker(clock)
    with ticker.running() as runner:
        clock.advance(10)
        assert ticker.tick() == 1010
        clock.advance(25)
        assert ticker.ticks.empty()
        ticker.end(runner)
        assert ticker.ticks.empty(), "the ticks at 1020 and 1030 are left out, not made up for"
        clock.advance(5)
        assert ticker.tick() == 1040


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_a_timer_survives_errors(clock: ManualClock, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    ticker = Ticker(clock)
    ticker.error = error
    with ticker.running() as runner:
        clock.advance(10)
        assert ticker.tick() == 1010
        ticker.end(runner)
        clock.advance(10)
        assert ticker.tick() == 1020
    (record, _) = [record for record in caplog.records if record.name == "micro_framework.routes"]
    assert "Service.tick: call ticker.tick." in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_cron_in_a_service(clock: ManualClock) -> None:
    ticks: queue.SimpleQueue[datetime] = queue.SimpleQueue()

    class Service:
        name = "nightly"

        @TimeEntrypoint(cron="30 2 * * *", timezone="Asia/Tokyo")
        def tick(self) -> None:
            ticks.put(clock.utcnow())

    with running(Service, clock=clock) as runner:
        for day, hours in ((1, 17.5), (2, 24)):
            clock.advance(hours * 3600 - 1)
            assert ticks.empty()
            with wait_for(runner, "Service.tick"):
                clock.advance(1)
            assert ticks.get(timeout=SECONDS) == datetime(2026, 1, day, 17, 30, tzinfo=UTC)


class Failing:
    """A timer whose calls fail, in a running service."""

    def __init__(self, clock: ManualClock, backoff: AsyncBackOff) -> None:
        self.clock = clock
        self.attempts: queue.SimpleQueue[tuple[float, Attempt]] = queue.SimpleQueue()
        self.gave_up: queue.SimpleQueue[tuple[str, Attempt]] = queue.SimpleQueue()

        class Service:
            name = "failing"
            retry = BackOffData()

            @route(TimeEntrypoint(100), backoff=backoff, on_failure="give_up")
            def tick(instance) -> None:  # noqa: N805 - self is the Failing here
                self.attempts.put((self.clock.now(), instance.retry))
                raise TimeoutError("nobody answers")

            def give_up(instance, exception: BaseException) -> None:  # noqa: N805
                self.gave_up.put((str(exception), instance.retry))

        self.service = Service

    def attempt(self) -> tuple[float, int]:
        """The clock's time and the retry's number of the next attempt."""
        when, attempt = self.attempts.get(timeout=SECONDS)
        return when, attempt.retry_count


def test_a_failed_tick_is_tried_again_by_the_clock(clock: ManualClock) -> None:
    failing = Failing(clock, AsyncBackOff(max_retries=2, interval=30_000, factor=3))
    with running(failing.service, clock=clock) as runner:
        for seconds, expected in [(100, (1100, 0)), (30, (1130, 1)), (90, (1220, 2))]:
            with wait_for(runner, "Service.tick"):
                clock.advance(seconds)
            assert failing.attempt() == expected
        error, attempt = failing.gave_up.get(timeout=SECONDS)
        assert (error, attempt.retry_count, attempt.max_retries) == ("nobody answers", 2, 2)
        assert [failed.exc_type for failed in attempt.history] == ["TimeoutError", "TimeoutError"]
        with wait_for(runner, "Service.tick"):
            clock.advance(80)  # the tick at 1200 came while the one before was not over: it is left out
        assert failing.attempt() == (1300, 0)


def test_what_is_not_listed_is_not_tried_again(clock: ManualClock) -> None:
    failing = Failing(clock, AsyncBackOff(max_retries=2, interval=30_000, exception_list=[KeyError]))
    with running(failing.service, clock=clock):
        clock.advance(100)
        assert failing.attempt() == (1100, 0)
        assert failing.gave_up.get(timeout=SECONDS)[0] == "nobody answers"


def test_a_retry_that_waits_at_the_stop_is_left_out_and_says_so(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(clock, AsyncBackOff(max_retries=2, interval=30_000))
    with running(failing.service, clock=clock) as runner, wait_for(runner, "Service.tick"):
        clock.advance(100)
    assert "failing.tick: a failed tick waited to be tried again, and is left out: the service ends" in caplog.text
    clock.advance(1000)
    assert failing.attempt() == (1100, 0)
    assert failing.attempts.empty()


def test_a_call_that_fails_during_the_stop_had_its_last_attempt(clock: ManualClock) -> None:
    entered, may_fail, gave_up = threading.Event(), threading.Event(), list[int]()

    class Service:
        name = "stopping"
        retry = BackOffData()

        @route(TimeEntrypoint(10), backoff=AsyncBackOff(max_retries=5, interval=1), on_failure="give_up")
        def tick(self) -> None:
            entered.set()
            assert may_fail.wait(SECONDS)
            raise TimeoutError

        def give_up(self) -> None:
            gave_up.append(self.retry.retry_count)

    runner = Runner([Service], {"AMQP_URI": "memory://"}, clock=clock)
    with runner:
        clock.advance(10)
        assert entered.wait(SECONDS)
        (entrypoint,) = runner.assembly.entrypoints()
        entrypoint.stop()
        may_fail.set()
    assert gave_up == [0]


def test_a_stopped_timer_ticks_no_more(clock: ManualClock) -> None:
    ticker = Ticker(clock)
    with ticker.running():
        clock.advance(10)
        ticker.tick()
    clock.advance(100)
    assert ticker.ticks.empty()
    assert clock.alarms == []


def test_a_tick_that_waits_for_a_worker_at_the_stop_is_left_out(clock: ManualClock) -> None:
    ran: list[str] = []
    entered, may_end = threading.Event(), threading.Event()

    class Service:
        name = "two_timers"

        @TimeEntrypoint(10)
        def slow(self) -> None:
            entered.set()
            assert may_end.wait(SECONDS)

        @TimeEntrypoint(11)
        def other(self) -> None:
            ran.append("other")

    with running(Service, config={"MAX_WORKERS": 1}, clock=clock) as runner:
        clock.advance(10)
        assert entered.wait(SECONDS)
        clock.advance(1)
        let_end_at_stop(runner, may_end)
        runner.stop()
    assert ran == []


def test_every_tick_is_the_root_of_a_call_id_stack(clock: ManualClock) -> None:
    ticker = Ticker(clock)
    with ticker.running() as runner:
        clock.advance(10)
        with wait_for(runner, "Service.tick") as waited:
            ticker.may_end.release()
        assert waited.call is not None
        assert waited.call.args == ()
        (call_id,) = waited.call.identity.stack
        assert call_id.startswith("ticker.tick.")


def test_a_decorator_without_its_parentheses_is_refused() -> None:
    def refund(self: object, payload: object) -> None: ...

    with pytest.raises(
        TypeError, match=r"@TimeEntrypoint on .*refund has no arguments; write @TimeEntrypoint\(\.\.\.\)"
    ):
        TimeEntrypoint(refund)  # type: ignore[arg-type]


def test_a_class_cannot_be_decorated() -> None:
    with pytest.raises(TypeError, match="TimeEntrypoint decorates methods, not the class Orders"):
        TimeEntrypoint(1)(type("Orders", (), {}))


def test_an_eager_tick_waits_until_everything_is_ready() -> None:
    ticks, ready = list[bool](), threading.Event()

    class Slow(Dependency[None]):
        def is_ready(self) -> bool:
            return ready.is_set()

        def get_dependency(self, worker: Any) -> None: ...

    class Service:
        name = "service"
        slow = Slow()

        @TimeEntrypoint(interval=60, eager=True)
        def tick(self) -> None:
            ticks.append(ready.is_set())

    runner = Runner([Service], {}, clock=ManualClock())
    runner.begin()
    try:
        with wait_for(runner, "Service.tick"):
            assert ticks == []
            ready.set()
            runner.lifecycle.notify()
    finally:
        runner.stop()
    assert ticks == [True]
