"""`Berths`: which process gets the next call, and whether it is sent ahead.

A call that is sent ahead waits in a process that runs another one. So the process goes on with it as soon as it is done
with the one before, while its service wakes up, sees to the answer and gets the next call ready: where calls compute
for five milliseconds, that was a tenth of the time. But nobody else can run a call that waits there. So calls are sent
ahead only where no process is free and they are short of late, and taken back where the one before them turns out not
to be.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from micro_framework.spawners.child import Berth, Child
from micro_framework.spawners.work import BERTHS

__all__ = ["Berths"]

SHORT = 0.02
"""Seconds that calls take on average, up to which they are sent ahead."""

WEIGHT = 1 / 8
"""Of the latest call in that average."""


class Berths:
    """The berths of a pool, and which of them the next call gets. Thread safe.

    Args:
        most: Calls that a process may run in its life, None for no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.idle: deque[Child] = deque()
        self.busy: dict[Child, list[Berth]] = {}
        """Processes with calls, and their berths without one."""
        self.open: OrderedDict[Child, None] = OrderedDict()
        """Those of them that have such a berth, and no call that is known to be long."""
        self.waiting = 0
        self.over = False
        self.pace = float("inf")
        """Seconds that calls have taken of late."""
        self.short = False
        """Whether that is so little that calls are sent ahead."""
        self.gate = threading.Event()
        """Set while it is, for whoever has nothing else to do; and at the end."""
        self.finishing = False

    def add(self, child: Child) -> None:
        """A process can be given calls."""
        with self.lock:
            self.idle.append(child)
            self.changed.notify()

    def take(self, seconds: float, *, ahead: bool, unless: Callable[[], bool]) -> Berth | None:
        """A berth for one call; waits for one if need be.

        Args:
            seconds: How long, unless processes are only busy: then as long as it takes.
            ahead: Whether the call may be sent ahead.
            unless: Ends the wait; asked again after `finish`.

        Returns:
            The berth; None where there was none, where there will be none, and where ``unless`` says so.
        """
        with self.lock:
            berth = None if self.waiting else self.free_berth(ahead=ahead)  # who waits comes first
            if berth is None:
                self.waiting += 1
                berth = self.next_berth(seconds, ahead=ahead, unless=unless)
                self.waiting -= 1
                if self.waiting and self.idle:
                    self.changed.notify()  # the one who was told of it may have had no use for it
            return berth

    def next_berth(self, seconds: float, *, ahead: bool, unless: Callable[[], bool]) -> Berth | None:
        """As `take`, with the lock held."""
        while not self.over and not unless():
            told = self.changed.wait(seconds)
            if (berth := self.free_berth(ahead=ahead)) is not None:  # also where the time was up a moment too early
                return berth
            if not told and not any(child.usable for child in self.busy):
                break
        return None

    def free_berth(self, *, ahead: bool) -> Berth | None:
        """A berth of a process without a call, or if need be of one that has one; called with the lock held."""
        while self.idle:
            child = self.idle.popleft()
            if child.usable:
                first, *others = child.berths
                self.busy[child] = others
                self.open[child] = None
                return first
        while self.open and ahead and self.short:
            child, _ = self.open.popitem(last=False)
            if child.usable and (self.most is None or child.count + 1 < self.most):
                return self.busy[child].pop()
        return None

    def give_back(self, berth: Berth) -> bool:
        """The call on it is over.

        Returns:
            Whether the process is worn out now; it gets no more calls.
        """
        child, seconds = berth.child, berth.seconds
        with self.lock:
            worn_out = self.most is not None and child.usable and child.count >= self.most
            if worn_out:
                child.retire()
            if seconds is not None:
                self.pace = seconds if self.pace == float("inf") else self.pace + WEIGHT * (seconds - self.pace)
                if (self.pace <= SHORT) is not self.short:
                    self.turn()
            free = self.busy[child]
            free.append(berth)
            if len(free) == BERTHS:
                del self.busy[child]
                self.open.pop(child, None)
                if child.usable:
                    self.idle.append(child)
            elif not berth.taken_back:
                self.open[child] = None
            if self.waiting and self.idle:  # not for a berth behind a call: not everybody has a use for that
                self.changed.notify()
            return worn_out

    def turn(self) -> None:
        """Calls have become short, or long."""
        self.short = not self.short
        if self.short:
            self.gate.set()
        elif not self.finishing:
            self.gate.clear()

    def finish(self) -> None:
        """No more calls come: nobody waits at the gate any more, and who waits for a berth sees whether to go on."""
        with self.lock:
            self.finishing = True
            self.gate.set()
            self.changed.notify_all()

    def end(self) -> None:
        """Nobody waits for a berth any more."""
        self.over = True
        self.finish()
