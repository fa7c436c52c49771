"""Entrypoints as decorators, and the timer on a clock that the test turns."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from micro_framework.calls import Attempt, Call, CallIdentity
from micro_framework.dependencies import Dependency
from micro_framework.entrypoints import Entrypoint, TimeEntrypoint, declarations, declare
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
        ({}, "TimeEntrypoint needs interval=, seconds greater than 0, and got None"),
        ({"interval": 0}, "and got 0"),
        ({"interval": -1}, "and got -1"),
        ({"interval": True}, "and got True"),
        ({"interval": "60"}, "and got '60'"),
        ({"interval": float("nan")}, "and got nan"),
        ({"interval": float("inf")}, "and got inf"),
        ({"cron": "*/5 * * * *"}, "TimeEntrypoint(cron=...) is not built yet; use interval=, in seconds"),
        ({"interval": 1, "cluster": True}, "TimeEntrypoint(cluster=True) is not built yet"),
    ],
)
def test_a_timers_arguments_are_checked(arguments: dict[str, Any], problem: str) -> None:
    (found,) = TimeEntrypoint(**arguments).problems()
    assert problem in found


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
