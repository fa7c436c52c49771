"""Delays: one thread that publishes messages when they are due."""

import heapq
from collections.abc import Callable
from itertools import count
from threading import Condition, RLock, Thread, current_thread
from time import monotonic

from micro_framework.brokers.memory.queues import Message

__all__ = ["DelayTimer"]


class DelayTimer:
    """Holds delayed messages until they are due.

    The thread lives only while a door of the broker is open and something waits. What is still waiting when the last
    door closes is kept, goes on ageing, and is delivered when a door opens again.

    Args:
        name: Part of the thread's name.
        lock: The server's lock; held by the caller of everything but `wait_ended`.
        publish: Takes a message that is due, under the lock.
    """

    def __init__(self, name: str, lock: RLock, publish: Callable[[Message], None]) -> None:
        self._name = name
        self._publish = publish
        self._changed = Condition(lock)
        self._waiting: list[tuple[float, int, Message]] = []
        self._order = count()  # what is due at the same time goes in the order it came
        self._open = False
        self._thread: Thread | None = None

    def schedule(self, due: float, message: Message) -> None:
        """Publish a message at ``due`` (``time.monotonic()`` seconds)."""
        heapq.heappush(self._waiting, (due, next(self._order), message))
        self._changed.notify_all()
        self._run_if_needed()

    def open(self) -> None:
        """The first door opened."""
        self._open = True
        self._run_if_needed()

    def close(self) -> Thread | None:
        """The last door closed: end the thread, and return it to be joined without the lock."""
        self._open = False
        ending, self._thread = self._thread, None
        self._changed.notify_all()
        return ending

    def _run_if_needed(self) -> None:
        if self._open and self._waiting and self._thread is None:
            self._thread = Thread(target=self._run, name=f"mf-memory-timer-{self._name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        # Whoever takes this thread out of self._thread ends it; a later one may already be running then.
        with self._changed:
            while self._thread is current_thread() and self._waiting:
                pause = self._waiting[0][0] - monotonic()
                if pause > 0:
                    self._changed.wait(pause)
                else:
                    _, _, message = heapq.heappop(self._waiting)
                    self._publish(message)
            if self._thread is current_thread():
                self._thread = None
