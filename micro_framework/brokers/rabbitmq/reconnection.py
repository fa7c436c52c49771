"""When to try again, and when to believe a refusal. Pure: the time is an argument."""

from collections.abc import Callable
from random import random

__all__ = ["Reconnection"]

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.5
"""Seconds; well under the 5 s after which a service must consume again."""
STABLE_AFTER = 5.0
"""Seconds a connection must have lasted for the pauses to begin anew."""
GRACE = 10.0
"""Seconds for which a refusal is not believed of a broker that was good before, or that was away: while a broker
starts, its virtual hosts come late; after a crash, exclusive queues of the old connection linger."""


class Reconnection:
    """The state of one link's attempts.

    Args:
        chance: Gives a number from 0 to 1, for the jitter.
    """

    def __init__(self, chance: Callable[[], float] = random) -> None:
        self._chance = chance
        self._pauses = 0
        self._connected_at: float | None = None
        self._failed_before = False
        self._refused_since: float | None = None

    def connected(self, now: float) -> None:
        """A connection is ready."""
        self._connected_at = now
        self._failed_before = True
        self._refused_since = None

    def was_stable(self, now: float) -> bool:
        """Whether the connection that was ready last has lasted long enough for everything to begin anew."""
        return self._connected_at is not None and now - self._connected_at >= STABLE_AFTER

    def next_pause(self, now: float) -> float:
        """Seconds to wait before the next attempt; from half the pause to all of it, by chance."""
        if self.was_stable(now):
            self._pauses = 0
        self._connected_at = None
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._pauses, 20))
        self._pauses += 1
        return pause * (0.5 + self._chance() / 2)

    def is_final(self, refused: bool, now: float) -> bool:
        """Whether to give up after a failure.

        Args:
            refused: Whether the broker's answer was one that does not change.
            now: ``time.monotonic()`` seconds.
        """
        if not refused:
            self._failed_before = True
            self._refused_since = None
            return False
        if not self._failed_before:
            return True
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since >= GRACE
