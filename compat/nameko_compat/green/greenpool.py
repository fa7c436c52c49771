"""eventlet's ``GreenPool`` and ``GreenPile``: several functions at once, their results in order."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nameko_compat.green.greenthread import GreenThread, spawn
from nameko_compat.green.queue import Queue
from nameko_compat.green.semaphore import Semaphore
from nameko_compat.green.timeout import wait_for

__all__ = ["GreenPile", "GreenPool"]


class GreenPool:
    """Runs so many functions at once, each in a thread of its own.

    Args:
        size: How many.
    """

    def __init__(self, size: int = 1000) -> None:
        self.size = size
        self._room = Semaphore(size)
        self._changed = threading.Condition()
        self.coroutines_running: set[GreenThread] = set()

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> GreenThread:
        """Run a function; waits for room."""
        self._room.acquire()
        thread = spawn(function, *args, **kwargs)
        with self._changed:
            self.coroutines_running.add(thread)
        thread.link(self._ended)
        return thread

    spawn_n = spawn

    def _ended(self, thread: GreenThread) -> None:
        self._room.release()
        with self._changed:
            self.coroutines_running.discard(thread)
            self._changed.notify_all()

    def running(self) -> int:
        """How many run."""
        return len(self.coroutines_running)

    def free(self) -> int:
        """How many more there is room for."""
        return self.size - self.running()

    def waitall(self) -> None:
        """Wait until none runs."""

        def attempt(seconds: float) -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: not self.coroutines_running, seconds)

        wait_for(attempt)

    def imap(self, function: Callable[..., Any], *iterables: Iterable[Any]) -> Iterator[Any]:
        """``map`` with the calls at once; results in order."""
        return self.starmap(function, zip(*iterables, strict=False))

    def starmap(self, function: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
        """``itertools.starmap`` with the calls at once; results in order."""
        arguments = iter(iterable)
        while batch := list(itertools.islice(arguments, self.size)):
            for thread in [self.spawn(function, *each) for each in batch]:
                yield thread.wait()


class GreenPile:
    """Functions at once, whose results are iterated over in the order in which they were begun.

    Args:
        size_or_pool: A pool, or the size of one.
    """

    def __init__(self, size_or_pool: GreenPool | int = 1000) -> None:
        self.pool = size_or_pool if isinstance(size_or_pool, GreenPool) else GreenPool(size_or_pool)
        self._threads = Queue()

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Begin one more."""
        self._threads.put(self.pool.spawn(function, *args, **kwargs))

    def __iter__(self) -> "GreenPile":
        return self

    def __next__(self) -> Any:
        if self._threads.empty():
            raise StopIteration
        return self._threads.get().wait()

    next = __next__
