"""`JobQueue`: the jobs of a pool of threads, and what idle workers do while there are none."""

import os
import queue
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, get_ident
from typing import Any

from micro_framework.spawners.base import Job

__all__ = ["CAN_LOOK_OUT", "Entry", "JobQueue"]

Entry = tuple[Job, Any]

AT_ONCE = 8
"""Events in one look; epoll makes room for a thousand otherwise, each time."""
CAN_LOOK_OUT = hasattr(select, "EPOLLEXCLUSIVE") and hasattr(os, "eventfd")


class JobQueue:
    """First in, first out; None tells a worker to end. Thread safe.

    It is a `micro_framework.lookout.Lookout` too. A message that wakes the thread of its connection, which then wakes
    a worker, costs two wake-ups, more than all the rest of what is done for it where there is one message at a time. So
    the worker that is idle last, when all are, waits at the connections themselves: it reads, and has its job.

    Args:
        workers: How many threads take jobs.
    """

    def __init__(self, workers: int) -> None:
        self.entries: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self.others = workers - 1
        self.idle: deque[None] = deque()
        """As many as there are workers that wait for a job of others; this way without a lock."""
        self.leader = 0
        """The identity of the thread that waits at the connections."""
        self.kept: Entry | None = None
        """A job that the leader has read, for itself."""
        self.readers: dict[int, Callable[[], None]] = {}
        self.changing = Lock()
        """Held to change what is watched."""
        self.epoll: select.epoll | None = None
        self.bell = -1
        self.closed = False

    def submit(self, job: Job, item: Any) -> None:
        """Queue an item, see `Spawner.submit`."""
        if self.leader != get_ident():
            self.entries.put((job, item))
            if self.leader:  # asked after that: a worker that became it meanwhile may have found nothing
                self.ring()
        elif self.kept is None and self.entries.empty():  # nothing is before it
            self.kept = job, item
        else:
            self.entries.put((job, item))

    def tell_end(self) -> None:
        """Have one worker end, after what is queued already."""
        self.entries.put(None)
        if self.leader:  # as above
            self.ring()

    def ring(self) -> None:
        """Have the leader look for a job."""
        with self.changing:
            if not self.closed:
                os.eventfd_write(self.bell, 1)

    def get(self) -> Entry | None:
        """Wait for a job."""
        entries, idle = self.entries, self.idle
        if self.readers and len(idle) == self.others and entries.empty():
            return self.look_out()
        idle.append(None)
        entry = entries.get()
        idle.pop()
        return entry

    def get_nowait(self) -> Entry | None:
        """The next job.

        Raises:
            queue.Empty: There is none.
        """
        return self.entries.get_nowait()

    def qsize(self) -> int:
        """How many jobs wait."""
        return self.entries.qsize()

    def look_out(self) -> Entry | None:
        """Wait for a job, and for input at the connections."""
        self.leader = get_ident()  # before it looks for a job: whoever has added one later than that rings
        try:
            while True:
                if not self.entries.empty():
                    with suppress(queue.Empty):  # somebody was faster
                        return self.entries.get_nowait()
                assert self.epoll is not None
                for number, _ in self.epoll.poll(None, AT_ONCE):
                    if (read := self.readers.get(number)) is not None:
                        read()
                if self.kept is not None:
                    kept, self.kept = self.kept, None
                    return kept
        finally:
            self.leader = 0

    # `Lookout`.

    def watch(self, number: int, read: Callable[[], None]) -> None:
        """See `Lookout.watch`."""
        with self.changing:
            if self.closed:
                raise OSError("the pool has ended")
            if self.epoll is None:
                self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self.epoll = select.epoll()
                self.epoll.register(self.bell, select.EPOLLIN | select.EPOLLET)  # an edge for each ring
            self.epoll.register(number, select.EPOLLIN | select.EPOLLET | select.EPOLLEXCLUSIVE)
            self.readers[number] = read

    def forget(self, number: int) -> None:
        """See `Lookout.forget`."""
        with self.changing:
            if self.readers.pop(number, None) is not None and self.epoll is not None:
                self.epoll.unregister(number)

    def close(self) -> None:
        """Look out no more. Call when no worker waits for jobs any more."""
        with self.changing:
            self.closed = True
            self.readers.clear()
            if self.epoll is not None:
                self.epoll.close()
                os.close(self.bell)
                self.epoll = None
