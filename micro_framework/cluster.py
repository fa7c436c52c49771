"""Timers of which the whole cluster has one.

All replicas of a service agree by a lock that a transport provides (`ClusterLocks`): one of them holds it and ticks,
the others wait. Whatever the holder has dealt with it announces, so that whoever gets the lock next goes on exactly
there: no point of the grid is ticked twice, and one that came due while nobody held the lock is made up for, once.

Which transport that is, is named here and not imported: transports know entrypoints, entrypoints know no transport.
"""

import logging
import pkgutil
from collections.abc import Callable
from datetime import datetime
from functools import partial

from micro_framework.clock import Clock
from micro_framework.extensions import Extension
from micro_framework.timers import WallTimer

__all__ = ["PROVIDER", "ClusterLocks", "ClusterTimer", "cluster_locks"]

logger = logging.getLogger(__name__)

PROVIDER = "micro_framework.amqp.locks:BrokerLocks"
"""The `ClusterLocks` that cluster timers are given."""


class ClusterLocks(Extension):
    """Names of which each is held by one process in the cluster at a time. A transport subclasses it."""

    def want(
        self,
        name: str,
        on_joined: Callable[[bool], None],
        on_held: Callable[[], None],
        on_word: Callable[[str], None],
    ) -> None:
        """Take part from the start on. Call in ``setup``.

        Args:
            name: The name.
            on_joined: Called with whether it is held here, after each connect.
            on_held: Called when it is, after a wait.
            on_word: Called with every word that is announced, own ones included.
        """
        raise NotImplementedError(f"{type(self).__name__} must define want()")

    def announce(self, name: str, word: str, done: Callable[[bool], None]) -> None:
        """Tell everybody who takes part, if the name is held here.

        Args:
            name: The name.
            word: What to tell.
            done: Called once: True when all have been told and the name was held then, False when it is not held here.
        """
        raise NotImplementedError(f"{type(self).__name__} must define announce()")


def cluster_locks() -> ClusterLocks:
    """A declaration of the locks, to be bound and shared."""
    made = pkgutil.resolve_name(PROVIDER)()
    assert isinstance(made, ClusterLocks)
    return made


def ignore(held: bool) -> None:
    """What becomes of an announcement that says nothing new to this process."""


class ClusterTimer(WallTimer):
    """Ticks while this process holds the lock, at points of the wall clock's time that all processes share.

    Args:
        clock, go, next_after: As `WallTimer`.
        locks: Who says which process holds the lock.
        name: The lock's name.
    """

    def __init__(
        self,
        clock: Clock,
        go: Callable[[], None],
        next_after: Callable[[datetime], datetime],
        locks: ClusterLocks,
        name: str,
    ) -> None:
        super().__init__(clock, go, next_after)
        self.locks = locks
        self.name = name
        self.begun = False
        self.held = False
        self.joins = 0  # how often it was said who holds the lock
        locks.want(name, self.joined, self.gained, self.heard)

    def tick_now(self) -> None:
        """Tick at once if nobody else holds the lock; a process that joins others waits for its turn."""
        with self.guard:
            self.begun = True
            self.due = self.clock.utcnow()
        self.look()

    def wait_for_next(self) -> None:
        with self.guard:
            self.begun = True
            left_out = self.due <= self.clock.utcnow()
        super().wait_for_next()
        if left_out:
            # Else whoever gets the lock next would make up for it.
            self.locks.announce(self.name, self.seen.isoformat(), ignore)

    def look(self) -> None:
        if self.begun and self.held:
            super().look()

    def tick(self, now: datetime) -> None:
        with self.guard:
            joins = self.joins
        self.locks.announce(self.name, now.isoformat(), partial(self.answered, now, joins))

    def answered(self, now: datetime, joins: int, held: bool) -> None:
        """Whether this process held the lock when the tick was announced."""
        with self.guard:
            if held:
                self.see(max(self.seen, now))
            else:
                self.busy = False
                if self.joins == joins:  # else somebody has said since that it is held
                    self.held = False
            stopped = self.stopped
        if not held:
            self.look()
        elif not stopped:
            self.go()

    def again(self, seconds: float, go: Callable[[], None]) -> None:
        """As `Timer`, if this process still holds the lock then."""

        def answered(held: bool) -> None:
            if self.stopped:
                return
            self.put_off = False
            if held:
                go()
            else:
                logger.warning("%s: a failed tick is not tried again: this process lost the lock meanwhile", self.name)
                self.wait_for_next()

        self.put_off = True
        self.ring_in(seconds, lambda: self.locks.announce(self.name, self.seen.isoformat(), answered))

    def joined(self, held: bool) -> None:
        """It is known who holds the lock. What came before is the business of whoever held it."""
        with self.guard:
            self.joins += 1
            self.held = held
            if not held:
                self.see(max(self.seen, self.clock.utcnow()))
        self.look()

    def gained(self) -> None:
        """The holder has gone, and this process is the next."""
        logger.info("%s: this process ticks from now on", self.name)
        with self.guard:
            self.joins += 1
            self.held = True
        self.look()

    def heard(self, word: str) -> None:
        """The holder has dealt with every point up to this moment."""
        try:
            moment = datetime.fromisoformat(word)
            with self.guard:
                self.see(max(self.seen, moment))
        except (ValueError, TypeError):
            logger.warning("%s: somebody announced %r, which is no time", self.name, word[:100])
