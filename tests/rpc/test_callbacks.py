"""The threads that tell callers: in order, off everybody's thread, and none held up by another's callback."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from micro_framework.rpc import callbacks
from micro_framework.rpc.callbacks import CallbackThreads
from tests.brokers.probes import mf_threads, soon

SECONDS = 10.0


@pytest.fixture
def threads() -> Iterator[CallbackThreads]:
    threads = CallbackThreads("mf-test-callbacks")
    yield threads
    threads.stop(soon())


def test_there_is_no_thread_before_the_first_callback(threads: CallbackThreads) -> None:
    assert mf_threads() == []
    done = threading.Event()
    threads.submit(done.set)
    assert done.wait(SECONDS)
    assert all(name.startswith("mf-test-callbacks-") for name in mf_threads())


def test_callbacks_run_elsewhere_and_begin_in_order(threads: CallbackThreads) -> None:
    begun: list[int] = []
    names: set[str] = set()
    done = threading.Event()

    def note(number: int) -> None:
        begun.append(number)
        names.add(threading.current_thread().name)
        if number == 99:
            done.set()

    # One at a time: what overlaps may write down its number late.
    for number in range(100):
        ended = threading.Event()
        threads.submit(lambda number=number, ended=ended: (note(number), ended.set()))  # type: ignore[misc]
        assert ended.wait(SECONDS)
    assert done.is_set()
    assert begun == list(range(100))
    assert all(name.startswith("mf-test-callbacks-") for name in names)


def test_a_callback_that_never_returns_holds_up_no_other(threads: CallbackThreads) -> None:
    release = threading.Event()
    try:
        for _ in range(5):
            threads.submit(release.wait)
        for _ in range(20):
            done = threading.Event()
            threads.submit(done.set)
            assert done.wait(SECONDS)
    finally:
        release.set()


def test_threads_of_a_busy_time_end_after_it(threads: CallbackThreads) -> None:
    release, together = threading.Event(), threading.Barrier(11)

    def meet() -> None:
        together.wait(SECONDS)
        release.wait(SECONDS)

    for _ in range(10):
        threads.submit(meet)
    together.wait(SECONDS)  # so ten run at once
    assert len(mf_threads()) == 11
    release.set()
    wait_for_count(1)


def wait_for_count(count: int) -> None:
    """Until so many threads are left: nobody tells when a thread has ended, but it can be waited for."""
    deadline = soon()
    while len(mf_threads()) > count:
        assert time.monotonic() < deadline, mf_threads()
        for thread in threading.enumerate():
            if thread.name.startswith("mf-test-callbacks"):
                thread.join(0.01)


def test_there_is_an_end_to_threads(threads: CallbackThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "MOST_THREADS", 2)
    together, release, last = threading.Barrier(3), threading.Event(), threading.Event()

    def meet() -> None:
        together.wait(SECONDS)
        release.wait(SECONDS)

    threads.submit(meet)
    threads.submit(meet)
    together.wait(SECONDS)
    threads.submit(last.set)
    assert len(mf_threads()) == 2
    assert not last.is_set()
    release.set()
    assert last.wait(SECONDS)


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("broken")])
def test_one_that_raises_is_logged_and_the_others_run(
    threads: CallbackThreads, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    done = threading.Event()
    threads.submit(fail)
    threads.submit(done.set)
    assert done.wait(SECONDS)
    threads.stop(soon())
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a callback of an RPC call raised" in caplog.text
    assert f"{type(error).__name__}: broken" in caplog.text


def test_a_stop_runs_what_waits_and_ends_the_threads(threads: CallbackThreads) -> None:
    release = threading.Event()
    ran: list[int] = []
    threads.submit(lambda: release.wait(SECONDS))
    for number in range(10):
        threads.submit(lambda number=number: ran.append(number))  # type: ignore[misc]
    release.set()
    threads.stop(soon())
    assert sorted(ran) == list(range(10))
    assert mf_threads() == []


def test_a_stop_waits_for_a_callback_until_its_deadline(threads: CallbackThreads) -> None:
    release, began = threading.Event(), threading.Event()
    threads.submit(lambda: (began.set(), release.wait(SECONDS)))
    assert began.wait(SECONDS)
    threads.stop(0.0)
    assert mf_threads() != []
    release.set()
    wait_for_count(0)


def test_after_the_stop_callbacks_run_at_once_on_the_calling_thread(threads: CallbackThreads) -> None:
    threads.stop(soon())
    threads.stop(soon())
    ran: list[threading.Thread] = []
    threads.submit(lambda: ran.append(threading.current_thread()))
    assert ran == [threading.current_thread()]


def test_a_callback_may_stop_the_threads(threads: CallbackThreads) -> None:
    done = threading.Event()
    threads.submit(lambda: (threads.stop(soon()), done.set()))
    assert done.wait(SECONDS)


def test_nothing_is_kept_alive_by_a_thread_that_waits(threads: CallbackThreads) -> None:
    class Large:
        def __call__(self) -> None:
            done.set()

    done = threading.Event()
    large = Large()
    before = sys.getrefcount(large)
    threads.submit(large)
    assert done.wait(SECONDS)
    ended = threading.Event()
    threads.submit(ended.set)
    assert ended.wait(SECONDS)
    threads.stop(soon())
    assert sys.getrefcount(large) == before


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No thread can be started, until undone."""

    def cannot(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        yield patch


def test_a_process_without_threads_to_spare_runs_callbacks_when_it_has_one(
    threads: CallbackThreads, no_threads: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = threading.Event(), threading.Event()
    threads.submit(first.set)
    assert "no thread for callbacks of RPC calls: can't start new thread" in caplog.text
    no_threads.undo()
    threads.submit(second.set)
    assert first.wait(SECONDS)
    assert second.wait(SECONDS)


def test_a_process_without_threads_to_spare_runs_callbacks_at_the_end_at_the_latest(
    threads: CallbackThreads, no_threads: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    for number in range(3):
        threads.submit(lambda number=number: ran.append(number))  # type: ignore[misc]
    threads.stop(soon())
    assert ran == [0, 1, 2]
