"""eventlet's queues."""

import queue
from queue import Empty, Full
from typing import Any

from nameko_compat.green.timeout import wait_for

__all__ = ["Empty", "Full", "LifoQueue", "LightQueue", "PriorityQueue", "Queue"]


class Waiting:
    """Waits as the rest of this package does; stands before the standard library's queue in the bases."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take an item out.

        Raises:
            Empty: There is none.
        """
        found: list[Any] = []
        take: Any = super().get  # type: ignore[misc]

        def attempt(seconds: float) -> bool:
            try:
                found.append(take(timeout=seconds) if seconds > 0 else take(block=False))
            except Empty:
                return False
            return True

        if not (wait_for(attempt, timeout) if block else attempt(0)):
            raise Empty
        return found[0]

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in.

        Raises:
            Full: There is no room.
        """
        give: Any = super().put  # type: ignore[misc]

        def attempt(seconds: float) -> bool:
            try:
                if seconds > 0:
                    give(item, timeout=seconds)
                else:
                    give(item, block=False)
            except Full:
                return False
            return True

        if not (wait_for(attempt, timeout) if block else attempt(0)):
            raise Full


class Queue(Waiting, queue.Queue[Any]):
    """First in, first out.

    Args:
        maxsize: How many items it has room for; None or 0: any number.
    """

    def __init__(self, maxsize: int | None = None) -> None:
        super().__init__(maxsize or 0)


LightQueue = Queue


class LifoQueue(Waiting, queue.LifoQueue[Any]):
    """Last in, first out."""


class PriorityQueue(Waiting, queue.PriorityQueue[Any]):
    """The smallest first."""
