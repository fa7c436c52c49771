"""Workers that are threads: ``thread`` and ``greedy_thread``.

Long-lived threads on one `JobQueue`, which is a ``SimpleQueue``: of the hand-overs measured, the cheapest by far (an
executor that makes a future for every call costs twice as much as the whole rest of the loop).
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from micro_framework.lookout import Lookout
from micro_framework.spawners.base import Job
from micro_framework.spawners.jobs import CAN_LOOK_OUT, Entry, JobQueue
from micro_framework.spawners.overtime import Overtime
from micro_framework.targets import close_event_loop

__all__ = ["Entry", "ThreadSpawner", "WorkerThread"]

logger = logging.getLogger(__name__)


class WorkerThread(threading.Thread):
    """One worker: takes jobs until it is given None.

    It is a daemon thread only so that a call that never ends cannot keep the process from ending after it was
    abandoned.

    Args:
        name: The thread's name.
        get: Waits for the next job.
    """

    def __init__(self, name: str, get: Callable[[], Entry | None]) -> None:
        super().__init__(name=name, daemon=True)
        self.get = get
        self.running: Entry | None = None

    def run(self) -> None:
        """The loop."""
        get = self.get
        try:
            while (entry := get()) is not None:
                self.running = entry
                self.work(*entry)
                self.running = entry = None  # an idle worker keeps no message alive
        finally:
            close_event_loop()

    def work(self, job: Job, item: Any) -> None:
        """One job. `Job.process` does not raise; should it do so, the worker survives and the item goes back."""
        try:
            job.process(item)
        except BaseException:
            logger.exception("%s: processing failed outside the call; the message goes back", job.label)
            hand_back(job, item)


class ThreadSpawner:
    """A pool of worker threads.

    Args:
        name: The context's name; the threads are called ``mf-worker-<name>-<n>``.
        workers: How many.
        greedy: Whether to finish at stop what already waits.
        overtime: Reports calls that take too long, None for nothing.
    """

    def __init__(self, name: str, workers: int, *, greedy: bool, overtime: Overtime | None = None) -> None:
        self.jobs = JobQueue(workers)
        self.submit = self.jobs.submit
        self.greedy = greedy
        self.threads = [WorkerThread(f"mf-worker-{name}-{number}", self.jobs.get) for number in range(workers)]
        self.overtime = overtime
        self.started = False

    def is_ready(self) -> bool:
        """Threads are there as soon as they are started."""
        return True

    def start(self) -> None:
        """Start the threads."""
        self.started = True
        for thread in self.threads:
            thread.start()
        if self.overtime is not None:
            self.overtime.start()

    @property
    def lookout(self) -> Lookout | None:
        """The queue: its idle workers wait there."""
        return self.jobs if CAN_LOOK_OUT else None

    def finish_waiting(self) -> None:
        """Hand back what waits and comes again, unless greedy; then let every worker end after its last job."""
        if not self.greedy:
            for job, item in tuple(iter(self.take_waiting, None)):
                if job.comes_again(item):
                    hand_back(job, item)
                else:
                    self.submit(job, item)
        for _ in self.threads:
            self.jobs.tell_end()

    def stop(self, deadline: float) -> list[str]:
        """Wait for the workers; what still waits or runs at the deadline is left to the broker.

        A call that stops its own pool cannot be waited for, so it is abandoned.
        """
        if not self.started:
            return []
        self.join(deadline)
        if self.overtime is not None:
            self.overtime.stop()
        abandoned = [thread.running for thread in self.threads if thread.is_alive()]
        if not abandoned:
            self.jobs.close()
        waiting = self.hand_back_waiting() if abandoned else []
        for _ in abandoned:
            # Handing back took theirs; a call that ends after all must not leave its worker waiting.
            self.jobs.tell_end()
        return [entry[0].label for entry in abandoned if entry is not None] + waiting

    def ended_threads(self) -> list[str]:
        """The names of workers that have ended, which none does before `finish_waiting`."""
        return [thread.name for thread in self.threads if self.started and not thread.is_alive()]

    def join(self, deadline: float) -> None:
        """Wait for the threads until a deadline (``time.monotonic()`` seconds), but not for the calling one."""
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def hand_back_waiting(self) -> list[str]:
        """Give back every item that no worker has taken, and say which they were."""
        labels = []
        while (entry := self.take_waiting()) is not None:
            hand_back(*entry)
            labels.append(entry[0].label)
        return labels

    def take_waiting(self) -> Entry | None:
        """The next item that no worker has taken, None where there is none."""
        try:
            return self.jobs.get_nowait()
        except queue.Empty:
            return None


def hand_back(job: Job, item: Any) -> None:
    """Give an item back; an error is logged, for there is nobody left to handle it."""
    try:
        job.hand_back(item)
    except Exception:
        logger.exception("%s: an item could not be handed back", job.label)
