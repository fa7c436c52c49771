"""What is due later: one thread that publishes delayed messages, and deletes queues that nobody used."""

import heapq
from collections.abc import Callable
from itertools import count
from threading import Condition, RLock, Thread, current_thread
from time import monotonic

__all__ = ["DelayTimer"]


class DelayTimer:
    """Holds work until it is due.

    The thread lives only while a door of the broker is open and something waits. What is still waiting when the last
    door closes is kept, goes on ageing, and is done when a door opens again.

    Args:
        name: Part of the thread's name.
        lock: The server's lock; held by the caller of everything.
    """

    def __init__(self, name: str, lock: RLock) -> None:
        self._name = name
        self._changed = Condition(lock)
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()  # what is due at the same time goes in the order it came
        self._open = False
        self._thread: Thread | None = None

    def schedule(self, due: float, work: Callable[[], None]) -> None:
        """Call ``work()`` at ``due`` (``time.monotonic()`` seconds), under the lock; it must return at once."""
        heapq.heappush(self._waiting, (due, next(self._order), work))
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
                    _, _, work = heapq.heappop(self._waiting)
                    work()
            if self._thread is current_thread():
                self._thread = None
