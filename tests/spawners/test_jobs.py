"""The queue of a pool of threads, and the worker that waits at the connections while all are idle."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from micro_framework.spawners.jobs import CAN_LOOK_OUT, JobQueue
from tests.spawners.test_thread import SECONDS, Recorder

pytestmark = pytest.mark.skipif(not CAN_LOOK_OUT, reason="epoll is Linux'")
JOB = Recorder()


class Line:
    """A connection on which somebody sends single bytes; each becomes a job."""

    def __init__(self, jobs: JobQueue) -> None:
        self.jobs = jobs
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.readers: list[str] = []
        jobs.watch(self.ours.fileno(), self.read)

    def read(self) -> None:
        """What an idle worker does."""
        self.readers.append(threading.current_thread().name)
        try:
            received = self.ours.recv(100)
        except BlockingIOError:
            return
        for byte in received:
            self.jobs.submit(JOB, byte)

    def close(self) -> None:
        self.jobs.forget(self.ours.fileno())
        self.ours.close()
        self.theirs.close()


class Workers:
    """Threads that take jobs, and tell which."""

    def __init__(self, jobs: JobQueue, number: int, work: Callable[[Any], None] = lambda item: None) -> None:
        self.jobs = jobs
        self.work = work
        self.taken: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.threads = [threading.Thread(target=self.run, name=f"worker-{each}", daemon=True) for each in range(number)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        while (entry := self.jobs.get()) is not None:
            self.taken.put((threading.current_thread().name, entry[1]))
            self.work(entry[1])

    def next(self) -> tuple[str, Any]:
        return self.taken.get(timeout=SECONDS)

    def end(self) -> None:
        for _ in self.threads:
            self.jobs.tell_end()
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def jobs() -> Iterator[JobQueue]:
    jobs = JobQueue(1)
    yield jobs
    jobs.close()


@pytest.fixture
def line(jobs: JobQueue) -> Iterator[Line]:
    line = Line(jobs)
    yield line
    line.close()


def wait_for_leader(jobs: JobQueue) -> None:
    deadline = time.monotonic() + SECONDS
    while not jobs.leader:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_idle_worker_reads_and_has_its_job(jobs: JobQueue, line: Line) -> None:
    workers = Workers(jobs, 1)
    for byte in range(100):
        line.theirs.send(bytes([byte]))
        assert workers.next() == ("worker-0", byte)
    assert set(line.readers) == {"worker-0"}
    workers.end()


def test_jobs_of_others_wake_the_worker_that_looks_out(jobs: JobQueue, line: Line) -> None:
    workers = Workers(jobs, 1)
    for number in range(100):
        wait_for_leader(jobs)
        jobs.submit(JOB, number)
        assert workers.next() == ("worker-0", number)
    workers.end()


def test_a_worker_that_begins_to_look_out_while_a_job_is_added_sees_it(jobs: JobQueue, line: Line) -> None:
    class Slow(SimpleQueue[Any]):
        def put(self, entry: Any, block: bool = True, timeout: float | None = None) -> None:
            wait_for_leader(jobs)
            time.sleep(0.05)  # from there to the socket
            super().put(entry, block, timeout)

    jobs.entries = Slow()
    adding = threading.Thread(target=jobs.submit, args=(JOB, "job"), daemon=True)
    adding.start()
    time.sleep(0.05)  # it is in the midst of it
    workers = Workers(jobs, 1)
    assert workers.next() == ("worker-0", "job")
    adding.join(SECONDS)
    workers.end()


def test_what_was_read_together_is_taken_in_order(jobs: JobQueue, line: Line) -> None:
    line.theirs.send(bytes(range(50)))
    workers = Workers(jobs, 1)
    assert [workers.next()[1] for _ in range(50)] == list(range(50))
    workers.end()


def test_what_waits_already_comes_before_what_is_read(jobs: JobQueue, line: Line) -> None:
    read_before = line.read

    def read() -> None:
        jobs.entries.put((JOB, "waits"))  # as from another connection, a moment earlier
        read_before()

    jobs.forget(line.ours.fileno())
    jobs.watch(line.ours.fileno(), read)
    workers = Workers(jobs, 1)
    line.theirs.send(b"\1")
    assert [workers.next()[1] for _ in range(2)] == ["waits", 1]
    workers.end()


def test_input_of_two_connections_at_once_is_read(jobs: JobQueue, line: Line) -> None:
    other = Line(jobs)
    for each in (line, other):
        each.theirs.send(b"\1\2\3")
    workers = Workers(jobs, 1)
    assert sorted(workers.next()[1] for _ in range(6)) == [1, 1, 2, 2, 3, 3]
    workers.end()
    other.close()


def test_a_worker_looks_out_only_while_all_are_idle() -> None:
    jobs, release = JobQueue(2), threading.Event()
    line = Line(jobs)
    workers = Workers(jobs, 2, lambda item: item == "long" and release.wait(SECONDS))
    jobs.submit(JOB, "long")
    assert workers.next()[1] == "long"
    for _ in range(20):
        jobs.submit(JOB, "short")
        assert workers.next()[1] == "short"
        assert not jobs.leader
    release.set()
    jobs.submit(JOB, "short")
    workers.next()
    wait_for_leader(jobs)
    line.theirs.send(b"\1\2")
    assert {workers.next()[1], workers.next()[1]} == {1, 2}
    workers.end()
    line.close()
    jobs.close()


def test_whoever_waits_exclusively_and_later_is_woken_only_while_no_worker_is_idle(jobs: JobQueue, line: Line) -> None:
    tries, woken, busy, release = 20, 0, 0, threading.Event()
    workers = Workers(jobs, 1, lambda item: item == busy and release.wait(SECONDS))
    for byte in range(1, tries + 1):
        with watched(line.ours) as events:
            wait_for_leader(jobs)
            time.sleep(0.01)  # from there to the socket
            line.theirs.send(bytes([byte]))
            workers.next()
        woken += bool(events)
    assert woken < tries / 2, "now and then the worker was not there yet"
    line.theirs.send(bytes([busy]))
    workers.next()
    with watched(line.ours) as events:
        line.theirs.send(b"\1")
    assert [number for number, _ in events] == [line.ours.fileno()]
    release.set()
    workers.end()


@contextmanager
def watched(ours: socket.socket) -> Iterator[list[tuple[int, int]]]:
    """Somebody waits for the input too, exclusively, and ends with the block; filled at its end with what woke them."""
    events: list[tuple[int, int]] = []
    end_ours, end_theirs = socket.socketpair()
    with select.epoll() as epoll, end_ours, end_theirs:
        epoll.register(ours, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        epoll.register(end_ours, select.EPOLLIN)
        watching = threading.Thread(target=lambda: events.extend(epoll.poll(SECONDS)), daemon=True)
        watching.start()
        yield events
        time.sleep(0.01)
        end_theirs.send(b"x")
        watching.join(SECONDS)
        events[:] = [event for event in events if event[0] == ours.fileno()]


def test_what_is_forgotten_is_read_no_more_and_jobs_go_on(jobs: JobQueue) -> None:
    line = Line(jobs)
    workers = Workers(jobs, 1)
    wait_for_leader(jobs)
    line.close()
    line.close()
    jobs.submit(JOB, "a")
    jobs.submit(JOB, "b")
    assert [workers.next()[1] for _ in range(2)] == ["a", "b"]
    workers.end()


def test_a_closed_queue_watches_nothing_and_leaves_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    jobs = JobQueue(1)
    line = Line(jobs)
    jobs.close()
    with pytest.raises(OSError, match="the pool has ended"):
        jobs.watch(line.ours.fileno(), line.read)
    jobs.submit(JOB, "late")
    assert jobs.get() == (JOB, "late")
    line.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_queue_without_connections_is_a_queue(jobs: JobQueue) -> None:
    jobs.submit(JOB, 1)
    assert jobs.qsize() == 1
    assert jobs.get_nowait() == (JOB, 1)
    with pytest.raises(Empty):
        jobs.get_nowait()
    assert jobs.epoll is None
