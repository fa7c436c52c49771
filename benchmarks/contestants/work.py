"""What a handler does apart from counting: nothing, wait as for a database, or compute."""

import functools
import time
from collections.abc import Callable
from typing import Any

__all__ = ["burn", "work_of"]


def burn(turns: int) -> int:
    """Plain Python for a while."""
    value = 1
    for _ in range(turns):
        value = (value * 31 + 7) % 65521
    return value


def work_of(order: dict[str, Any]) -> Callable[[], object]:
    """The work of one message.

    Args:
        order: May have ``pause``, seconds to wait, or ``turns`` of a loop to compute.
    """
    if order.get("turns"):
        return functools.partial(burn, order["turns"])
    if order.get("pause"):
        return functools.partial(time.sleep, order["pause"])
    return nothing


def nothing() -> None:
    """No work."""
