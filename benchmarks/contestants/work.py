"""What a handler does apart from counting: nothing, wait as for a database, or compute."""

import functools
import time
from collections.abc import Callable
from typing import Any

__all__ = ["burn", "work_of"]


def burn(turns: int) -> int:
    """A loop of so many turns."""
    value = 1
    for _ in range(turns):
        value = (value * 31 + 7) % 65521
    return value


def work_of(order: dict[str, Any]) -> Callable[[], float]:
    """The work of one message; it returns the seconds of CPU time that it took, where it computes, else 0.

    Args:
        order: May have ``pause``, seconds to wait, or ``turns`` of a loop to compute.
    """
    if order.get("turns"):
        return functools.partial(compute, order["turns"])
    if order.get("pause"):
        return functools.partial(wait, order["pause"])
    return nothing


def compute(turns: int) -> float:
    """Plain Python for a while."""
    begin = time.thread_time()
    burn(turns)
    return time.thread_time() - begin


def wait(seconds: float) -> float:
    """As for a database."""
    time.sleep(seconds)
    return 0.0


def nothing() -> float:
    """No work."""
    return 0.0
