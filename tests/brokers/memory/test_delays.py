import threading
from functools import partial
from time import monotonic

from micro_framework.brokers.memory.delays import DelayTimer
from tests.brokers.probes import SECONDS, mf_threads

NAME = "mf-memory-timer-test"


class Bench:
    """A timer and what it published, when."""

    def __init__(self) -> None:
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.put: list[str] = []
        self.early: list[float] = []
        self.timer = DelayTimer("test", lock)
        self.due: dict[str, float] = {}

    def take(self, body: str) -> None:
        if monotonic() < self.due[body]:
            self.early.append(self.due[body])
        self.put.append(body)
        self.changed.notify_all()

    def schedule(self, body: str, seconds: float) -> None:
        with self.changed:
            self.due[body] = monotonic() + seconds
            self.timer.schedule(self.due[body], partial(self.take, body))

    def open(self) -> None:
        with self.changed:
            self.timer.open()

    def close(self) -> None:
        with self.changed:
            ending = self.timer.close()
        if ending is not None:
            ending.join(SECONDS)
            assert not ending.is_alive()

    def bodies(self, count: int) -> list[str]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.put) >= count, SECONDS)
            return list(self.put)


def test_what_is_due_first_goes_first_and_never_early() -> None:
    bench = Bench()
    bench.open()
    with bench.changed:  # or the last would be scheduled, on a slow machine, when the first has gone
        for body, seconds in [("c", 0.09), ("a", 0.03), ("b", 0.06)]:
            bench.schedule(body, seconds)
    assert bench.bodies(3) == ["a", "b", "c"]
    assert bench.early == []
    bench.close()


def test_equal_dues_keep_the_order_they_came_in() -> None:
    bench = Bench()
    bench.open()
    with bench.changed:
        due = monotonic() + 0.01
        for number in range(20):
            bench.due[str(number)] = due
            bench.timer.schedule(due, partial(bench.take, str(number)))
    assert bench.bodies(20) == [str(number) for number in range(20)]
    bench.close()


def test_no_thread_runs_while_nothing_waits() -> None:
    bench = Bench()
    bench.open()
    assert mf_threads() == []
    bench.schedule("a", 60)
    assert mf_threads() == [NAME]
    bench.close()
    assert mf_threads() == []


def test_the_thread_ends_with_the_last_message_and_another_comes_with_the_next() -> None:
    bench = Bench()
    bench.open()
    bench.schedule("a", 0)
    bench.bodies(1)
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(SECONDS)
    assert mf_threads() == []
    bench.schedule("b", 0)
    assert bench.bodies(2) == ["a", "b"]
    bench.close()


def test_messages_outlive_closed_doors_and_go_on_ageing() -> None:
    bench = Bench()
    bench.schedule("a", 0)
    assert mf_threads() == []
    bench.open()
    bench.bodies(1)
    bench.schedule("b", 0.02)
    bench.close()
    bench.open()
    assert bench.bodies(2) == ["a", "b"]
    bench.close()


def test_closing_and_opening_again_leaves_one_thread() -> None:
    bench = Bench()
    bench.schedule("later", 60)
    for _ in range(20):
        bench.open()
        with bench.changed:
            ending = bench.timer.close()
            bench.timer.open()
        assert ending is not None
        ending.join(SECONDS)
        assert not ending.is_alive()
    assert mf_threads() == [NAME]
    bench.close()
