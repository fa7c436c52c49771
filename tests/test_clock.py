"""The real clock: alarms ring at their times, in order, on one thread."""

import queue
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from micro_framework.clock import CROWD, Alarm, SystemClock


@pytest.fixture
def clock() -> Iterator[SystemClock]:
    clock = SystemClock()
    clock.start()
    yield clock
    clock.stop()


@pytest.fixture
def early_clock() -> Iterator[SystemClock]:
    """Not started yet, so that no alarm rings before all are set."""
    clock = SystemClock()
    yield clock
    clock.stop()


def test_alarms_ring_in_the_order_they_are_due(early_clock: SystemClock) -> None:
    rung: queue.SimpleQueue[str] = queue.SimpleQueue()
    now = early_clock.now()
    early_clock.call_at(now + 0.04, lambda: rung.put("late"))
    early_clock.call_at(now + 0.02, lambda: rung.put("early"))
    early_clock.call_at(now + 0.02, lambda: rung.put("early, set later"))
    early_clock.start()
    assert [rung.get(timeout=20) for _ in range(3)] == ["early", "early, set later", "late"]
    assert early_clock.now() >= now + 0.04


def test_alarms_ring_on_the_clocks_thread(clock: SystemClock) -> None:
    rung: queue.SimpleQueue[str] = queue.SimpleQueue()
    clock.call_at(clock.now(), lambda: rung.put(threading.current_thread().name))
    assert rung.get(timeout=20) == "mf-clock"


def test_it_shows_the_systems_time_in_utc(clock: SystemClock) -> None:
    before = datetime.now(UTC)
    assert before <= clock.utcnow() <= datetime.now(UTC)


def test_a_cancelled_alarm_is_silent(early_clock: SystemClock) -> None:
    rung: queue.SimpleQueue[str] = queue.SimpleQueue()
    due = early_clock.now() + 0.02
    early_clock.call_at(due, lambda: rung.put("cancelled")).cancel()
    early_clock.call_at(due, lambda: rung.put("kept"))
    early_clock.start()
    assert rung.get(timeout=20) == "kept"


def test_a_failing_callback_does_not_stop_the_clock(clock: SystemClock, caplog: pytest.LogCaptureFixture) -> None:
    rung = threading.Event()

    def fail() -> None:
        raise ValueError("broken")

    clock.call_at(clock.now(), fail)
    clock.call_at(clock.now(), rung.set)
    assert rung.wait(20)
    assert "a callback of the clock failed" in caplog.text
    assert "ValueError: broken" in caplog.text


def test_alarms_set_before_the_start_ring_after_it() -> None:
    clock, rung = SystemClock(), threading.Event()
    clock.call_at(clock.now(), rung.set)
    assert not rung.is_set()
    clock.start()
    assert rung.wait(20)
    clock.stop()


def test_a_stopped_clock_rings_no_more_and_does_not_start_again(clock: SystemClock) -> None:
    thread = clock.thread
    clock.stop()
    clock.stop()
    clock.start()
    assert thread is clock.thread
    assert thread is not None
    assert not thread.is_alive()


def test_a_callback_may_stop_the_clock(clock: SystemClock) -> None:
    clock.call_at(clock.now(), clock.stop)
    assert clock.thread is not None
    clock.thread.join(20)
    assert not clock.thread.is_alive()


def test_an_alarm_rings_once() -> None:
    rung: list[int] = []
    alarm = Alarm(0, lambda: rung.append(1))
    alarm.ring()
    alarm.ring()
    assert rung == [1]


def test_the_clock_shows_monotonic_time(clock: SystemClock) -> None:
    before = time.monotonic()
    assert before <= clock.now() <= time.monotonic()


def test_a_clocks_thread_may_have_a_name_of_its_own() -> None:
    clock = SystemClock("mf-other")
    clock.start()
    assert clock.thread is not None
    assert clock.thread.name == "mf-other"
    clock.stop()


def test_an_earlier_alarm_than_all_others_rings_in_time(clock: SystemClock) -> None:
    """The thread sleeps until the earliest, so it must hear of an earlier one."""
    rung: queue.SimpleQueue[str] = queue.SimpleQueue()
    clock.call_at(clock.now() + 1000, lambda: rung.put("late"))
    clock.call_at(clock.now() + 0.02, lambda: rung.put("early"))
    assert rung.get(timeout=5) == "early"


def test_alarms_that_were_taken_back_do_not_pile_up(clock: SystemClock) -> None:
    due = clock.now() + 1000
    kept = [clock.call_at(due, list) for _ in range(10)]
    for _ in range(20_000):
        clock.call_at(due, list).cancel()
    assert len(clock.alarms) <= CROWD
    assert {alarm for _, _, alarm in clock.alarms} >= set(kept)


def test_the_crowd_may_be_one_of_alarms_that_are_kept(clock: SystemClock) -> None:
    due = clock.now() + 1000
    for _ in range(5 * CROWD):
        clock.call_at(due, list)
    assert len(clock.alarms) == 5 * CROWD
    assert clock.crowded > 5 * CROWD, "they are looked through ever more rarely"


def test_an_alarm_that_was_taken_back_keeps_nothing_alive(clock: SystemClock) -> None:
    class Answer:
        def look(self) -> None: ...

    answer = Answer()
    kept = weakref.ref(answer)
    alarm = clock.call_at(clock.now() + 1000, answer.look)
    del answer
    assert kept() is not None
    alarm.cancel()
    assert kept() is None
