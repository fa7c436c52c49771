"""A pool of worker threads: who runs what, and what becomes of the rest at the stop."""

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from micro_framework.spawners.overtime import Overtime
from micro_framework.spawners.thread import ThreadSpawner

SECONDS = 20.0


class Recorder:
    """A job that writes down what is done with its items."""

    label = "Orders.create"

    def __init__(self, work: Callable[[Any], None] = lambda item: None) -> None:
        self.work = work
        self.processed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.handed_back: list[Any] = []

    def process(self, item: Any) -> None:
        self.work(item)
        self.processed.put(item)

    def comes_again(self, item: Any) -> bool:
        return True

    def hand_back(self, item: Any) -> None:
        self.handed_back.append(item)

    def done(self, count: int) -> list[Any]:
        return [self.processed.get(timeout=SECONDS) for _ in range(count)]


class Gate:
    """Work that waits to be let through."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, item: Any) -> None:
        self.entered.release()
        assert self.open.wait(SECONDS)

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=SECONDS)


def soon() -> float:
    return time.monotonic() + SECONDS


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def started(workers: int = 1, *, greedy: bool = False) -> ThreadSpawner:
    spawner = ThreadSpawner("default", workers, greedy=greedy)
    spawner.start()
    return spawner


def ended(spawner: ThreadSpawner) -> list[str]:
    spawner.finish_waiting()
    return spawner.stop(soon())


def test_items_are_processed_on_named_threads() -> None:
    names: list[str] = []
    job = Recorder(lambda item: names.append(threading.current_thread().name))
    spawner = started()
    spawner.submit(job, 1)
    assert job.done(1) == [1]
    assert names == ["mf-worker-default-0"]
    assert ended(spawner) == []
    assert not any(thread.is_alive() for thread in spawner.threads)


def test_as_many_run_at_once_as_there_are_workers(gate: Gate) -> None:
    job, spawner = Recorder(gate), started(3)
    for item in range(4):
        spawner.submit(job, item)
    for _ in range(3):
        gate.wait_entered()
    assert not gate.entered.acquire(blocking=False)
    gate.open.set()
    assert sorted(job.done(4)) == [0, 1, 2, 3]
    assert ended(spawner) == []


@pytest.mark.parametrize(
    ("greedy", "processed", "handed_back"), [(False, ["a"], ["b", "c"]), (True, ["a", "b", "c"], [])]
)
def test_what_waits_at_the_stop(gate: Gate, greedy: bool, processed: list[str], handed_back: list[str]) -> None:
    job, spawner = Recorder(gate), started(greedy=greedy)
    for item in "abc":
        spawner.submit(job, item)
    gate.wait_entered()
    spawner.finish_waiting()
    assert job.handed_back == handed_back
    gate.open.set()
    assert spawner.stop(soon()) == []
    assert job.done(len(processed)) == processed
    assert job.processed.empty()


def test_what_would_not_come_again_is_finished_at_the_stop(gate: Gate) -> None:
    class Partly(Recorder):
        def comes_again(self, item: Any) -> bool:
            return bool(item != "b")

    job, spawner = Partly(gate), started()
    for item in "abc":
        spawner.submit(job, item)
    gate.wait_entered()
    spawner.finish_waiting()
    assert job.handed_back == ["c"]
    gate.open.set()
    assert spawner.stop(soon()) == []
    assert job.done(2) == ["a", "b"]


@pytest.mark.parametrize(("greedy", "abandoned"), [(False, 1), (True, 3)])
def test_what_is_not_finished_at_the_deadline_is_named_and_handed_back(
    gate: Gate, greedy: bool, abandoned: int
) -> None:
    job, spawner = Recorder(gate), started(greedy=greedy)
    for item in "abc":
        spawner.submit(job, item)
    gate.wait_entered()
    spawner.finish_waiting()
    assert spawner.stop(time.monotonic()) == ["Orders.create"] * abandoned
    assert job.handed_back == ["b", "c"]
    gate.open.set()
    for thread in spawner.threads:
        thread.join(SECONDS)


def test_a_call_that_stops_its_own_pool_is_abandoned_and_the_others_are_not() -> None:
    spawner = started(2)
    stopped: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    job = Recorder(lambda item: stopped.put(ended(spawner)))
    spawner.submit(job, 1)
    assert stopped.get(timeout=SECONDS) == ["Orders.create"]
    for thread in spawner.threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_an_idle_worker_keeps_no_item_alive() -> None:
    class Forgetful(Recorder):
        def process(self, item: Any) -> None:
            """Keeps nothing."""

    spawner, item, gone = started(), Recorder(), threading.Event()
    weakref.finalize(item, gone.set)
    spawner.submit(Forgetful(), item)
    del item
    assert gone.wait(SECONDS)
    assert ended(spawner) == []


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_worker_survives_a_job_that_raises(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    def fail(item: Any) -> None:
        if item == "bad":
            raise error("broken")

    job, spawner = Recorder(fail), started()
    spawner.submit(job, "bad")
    spawner.submit(job, "good")
    assert job.done(1) == ["good"]
    assert job.handed_back == ["bad"]
    assert "Orders.create: processing failed outside the call; the message goes back" in caplog.text
    assert ended(spawner) == []


def test_an_item_that_cannot_be_handed_back_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Recorder):
        def hand_back(self, item: Any) -> None:
            super().hand_back(item)
            raise ValueError("no way back")

    job, spawner = Stubborn(), ThreadSpawner("default", 1, greedy=False)
    spawner.submit(job, 1)
    spawner.submit(job, 2)
    spawner.finish_waiting()
    assert job.handed_back == [1, 2]
    assert caplog.text.count("Orders.create: an item could not be handed back") == 2


def test_a_pool_that_was_never_started_has_nothing_to_stop() -> None:
    assert ended(ThreadSpawner("default", 2, greedy=True)) == []


def test_a_pool_with_a_limit_watches_its_calls_while_it_runs() -> None:
    overtime = Overtime("default", 60)
    spawner = ThreadSpawner("default", 1, greedy=False, overtime=overtime)
    spawner.start()
    assert overtime.thread.is_alive()
    assert spawner.is_ready()
    assert ended(spawner) == []
    assert not overtime.thread.is_alive()
