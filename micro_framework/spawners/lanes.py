"""How calls reach a worker process: on two lanes, with a call on each, of which the process runs one at a time.

The other call waits in the process's own queue. So the process goes on with it as soon as it is done with the one
before, while its service wakes up, sees to the answer and gets the next call ready: where calls take five milliseconds
of computing, that was a seventh of the time. But nobody else can run a call that waits there. So calls are sent ahead
only where none is free to run them and they are short of late, and taken back where the one before them turns out not
to be.
"""

import contextlib
import select
import socket
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from micro_framework.spawners.channel import Channel

if TYPE_CHECKING:
    from micro_framework.spawners.child import Child

__all__ = ["END", "LANES", "LONGEST_REQUEST", "ChildGone", "Lane", "Lanes", "TakenBack", "queue_ends"]

LANES = 2
"""Of each process."""

LONGEST_REQUEST = 16384
"""Bytes of a request that is put into a process's queue; of a longer one only its lane is, by which it comes then."""

END = b"\xff"
"""In the place of a request: no more of them will come."""

SHORT = 0.02
"""Seconds that calls take on average, up to which they are sent ahead."""

WEIGHT = 1 / 8
"""Of the latest call in that average."""

PATIENCE = 0.05
"""Seconds that a call waits behind another one before it is taken back."""


class ChildGone(Exception):
    """The process is gone, or its channel is; `Child` says what is known."""


class TakenBack(Exception):
    """The call had not been begun, and was taken back."""


def queue_ends() -> tuple[socket.socket, socket.socket]:
    """A queue of requests: the end to send them, and the one where each is received whole, by whoever comes first."""
    return socket.socketpair(type=socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM)


class Lane:
    """One of the lanes to a worker process. Used by one thread at a time, which got it from `Lanes.take`.

    Args:
        child: The process.
        number: Which of its lanes.
        stream: This side's end of what answers come by.
    """

    def __init__(self, child: "Child", number: int, stream: socket.socket) -> None:
        self.child = child
        self.number = number
        self.channel = Channel(stream)
        self.poll = select.poll()
        self.poll.register(stream, select.POLLIN)
        self.in_use = False
        self.began_at: float | None = None
        """When the process began with the call, as far as it is known here, in ``time.monotonic()`` seconds."""
        self.seconds: float | None = None
        """How long the last call took, None where it was not answered."""

    @property
    def began(self) -> bool:
        """Whether the process has begun the request that it was sent last on this lane."""
        return self.child.marker[self.number] != 0

    def ask(self, frame: bytes) -> bytes:
        """Send a request and wait for the answer.

        Raises:
            ChildGone: There will be none.
            TakenBack: The call before it took too long, or the queue does not take it.
        """
        whole, waits = self.enter(frame)
        answer = None
        try:
            if not whole:
                with contextlib.suppress(OSError):  # it is gone, as the next line finds out
                    self.channel.send(frame)
            elif waits and not self.poll.poll(PATIENCE * 1000) and self.take_back():
                raise TakenBack
            answer = self.channel.receive()
        finally:
            self.leave(answered=answer is not None)
        if answer is None:
            self.child.usable = False
            raise ChildGone
        return answer

    def enter(self, frame: bytes) -> tuple[bool, bool]:
        """Put a request into the queue.

        Returns:
            Whether all of it is there, or only the number of this lane; and whether it waits behind another call.

        Raises:
            ChildGone: It is given no more calls.
            TakenBack: It would have to wait outside of the queue, where it could not be taken back.
        """
        child, name = self.child, bytes((self.number,))
        with child.lock:
            child.marker[self.number] = 0
            self.seconds = None
            if not child.usable:
                raise ChildGone
            waits = any(lane.in_use for lane in child.lanes)
            whole = len(frame) <= LONGEST_REQUEST and child.put(name + frame)
            if not whole and waits:
                raise TakenBack
            if not whole:
                child.put(name)
            self.in_use, self.began_at = True, None if waits else time.monotonic()
        return whole, waits

    def take_back(self) -> bool:
        """Take the request out of the queue, unless the process has begun it."""
        child = self.child
        with child.lock, contextlib.suppress(OSError):  # the queue is empty: it has been begun; or closed, at its end
            request = child.unread.recv(1 + LONGEST_REQUEST, socket.MSG_DONTWAIT)
            if request[0] == self.number:
                return True
            child.put(request)  # what came behind this one, which has been begun then
        return False

    def leave(self, *, answered: bool) -> None:
        """The call is over, and what waited behind it begins."""
        child = self.child
        with child.lock:
            now = time.monotonic()
            if answered:
                child.count += 1
                self.seconds = now - self.began_at if self.began_at is not None else 0.0  # it was over before that one
            self.in_use, self.began_at = False, None
            for lane in child.lanes:
                if lane.in_use and lane.began_at is None:
                    lane.began_at = now
            if child.ended.is_set():
                self.channel.close()


class Lanes:
    """The lanes of a pool, and which of them the next call gets. Thread safe.

    Args:
        most: Calls that a process may run in its life, None for no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.changed = threading.Condition(threading.Lock())
        self.idle: deque[Child] = deque()
        self.busy: dict[Child, list[Lane]] = {}
        """Processes with calls, and their lanes without one."""
        self.open: OrderedDict[Child, None] = OrderedDict()
        """Those of them that have such a lane."""
        self.waiting = 0
        self.over = False
        self.pace = float("inf")
        """Seconds that calls have taken of late."""
        self.gate = threading.Event()
        """Open while calls are sent ahead, for whoever has nothing else to do."""
        self.finishing = False

    def add(self, child: "Child") -> None:
        """A process can be given calls."""
        with self.changed:
            self.idle.append(child)
            self.changed.notify()

    def take(self, seconds: float, *, ahead: bool, unless: Callable[[], bool]) -> Lane | None:
        """A lane for one call; waits for one if need be.

        Args:
            seconds: How long, unless processes are only busy: then as long as it takes.
            ahead: Whether the call may be sent ahead.
            unless: Ends the wait; asked again after `finish`.

        Returns:
            The lane; None where there was none, where there will be none, and where ``unless`` says so.
        """
        with self.changed:
            lane = self.free_lane(ahead=ahead)
            self.waiting += 1
            while lane is None and not self.over and not unless():
                if not self.changed.wait(seconds) and not any(child.usable for child in self.busy):
                    break
                lane = self.free_lane(ahead=ahead)
            self.waiting -= 1
            return lane

    def free_lane(self, *, ahead: bool) -> Lane | None:
        """A lane of a process without a call, or if need be of one that has one; called with the lock held."""
        while self.idle:
            child = self.idle.popleft()
            if child.usable:
                first, *others = child.lanes
                self.busy[child] = others
                self.open[child] = None
                return first
        while self.open and ahead and self.pace <= SHORT:
            child, _ = self.open.popitem(last=False)
            if child.usable and (self.most is None or child.count + 1 < self.most):
                return self.busy[child].pop()
        return None

    def give_back(self, lane: Lane) -> None:
        """The call on it is over."""
        child = lane.child
        with self.changed:
            if lane.seconds is not None:
                self.note(lane.seconds)
            free = self.busy[child]
            free.append(lane)
            self.open[child] = None
            if len(free) == LANES:
                del self.busy[child], self.open[child]
                if child.usable:
                    self.idle.append(child)
            if self.waiting:
                self.changed.notify()

    def note(self, seconds: float) -> None:
        """Count in how long a call has taken."""
        self.pace = seconds if self.pace == float("inf") else self.pace + WEIGHT * (seconds - self.pace)
        if self.pace <= SHORT:
            self.gate.set()
        elif not self.finishing:
            self.gate.clear()

    def finish(self) -> None:
        """No more calls come: nobody waits at the gate any more, and who waits for a lane sees whether to go on."""
        with self.changed:
            self.finishing = True
            self.gate.set()
            self.changed.notify_all()

    def end(self) -> None:
        """Nobody waits for a lane any more."""
        self.over = True
        self.finish()
