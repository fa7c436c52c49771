"""When a timer fires next: pure arithmetic on times that the caller gives."""

import math

__all__ = ["next_on_grid"]


def next_on_grid(start: float, interval: float, now: float) -> float:
    """The first point of the grid ``start + n * interval`` (n >= 1) that lies after ``now``.

    The grid is fixed at the start, so a late tick does not shift the ones after it; points that have passed are
    skipped.

    Args:
        start: Seconds on any clock, the grid's origin.
        interval: Seconds, greater than 0.
        now: Seconds on the same clock.
    """
    steps = max(1, math.floor((now - start) / interval) + 1)
    return start + steps * interval
