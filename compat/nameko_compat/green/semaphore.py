"""eventlet's semaphores."""

import threading
from typing import Any

from nameko_compat.green.timeout import wait_for

__all__ = ["BoundedSemaphore", "Semaphore"]


class Semaphore:
    """So many may be inside at once.

    Args:
        value: How many.
    """

    kind: type[threading.Semaphore] = threading.Semaphore

    def __init__(self, value: int = 1) -> None:
        self._semaphore = self.kind(value)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Go in; whether that was possible within ``timeout`` seconds."""
        if not blocking:
            return self._semaphore.acquire(blocking=False)
        return wait_for(lambda seconds: self._semaphore.acquire(timeout=seconds), timeout)

    def release(self, blocking: bool = True) -> bool:
        """Go out."""
        self._semaphore.release()
        return True

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc_info: Any) -> None:
        self.release()


class BoundedSemaphore(Semaphore):
    """The same; going out more often than in is an error."""

    kind = threading.BoundedSemaphore
