"""`Child`: a worker process as its service sees it, and its berths."""

import contextlib
import mmap
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from micro_framework.spawners.channel import Channel
from micro_framework.spawners.work import BERTHS, LONGEST_REQUEST, queue_ends

if TYPE_CHECKING:
    import subprocess

__all__ = ["PATH_VARIABLE", "Berth", "Child", "ChildGone", "TakenBack", "shared_file"]

PROGRAM = (
    "import os, sys; sys.path[:] = os.environ.pop('MF_WORKER_PATH').split('\\n'); "
    "from micro_framework.spawners.inside import main; main()"
)
PATH_VARIABLE = "MF_WORKER_PATH"

END_SECONDS = 10.0
"""How long a process whose channel is closed may take to end."""

PATIENCE = 0.05
"""Seconds that a call waits behind another one before it is taken back."""


class ChildGone(Exception):
    """The process is gone, or its channel is; `Child` says what is known."""


class TakenBack(Exception):
    """The call had not been begun, and was taken back, or never sent."""


class Child:
    """One worker process and what leads to it. Started by the keeper of its pool; a berth is used by one thread.

    ``requests`` is the queue of what it is to run, each with the number of the berth that its answer comes by.
    ``control`` carries what the process has to tell apart from that; a process that finds it closed has lost its
    service and ends at once.

    Args:
        name: Its name in logs and in the list of processes.
        slot: Its number in the pool.
        birth: The descriptor of a file with what it is told first.
        path: Where it imports from.

    Raises:
        OSError: The system starts no more processes.
    """

    def __init__(self, name: str, slot: int, birth: int, path: Sequence[str]) -> None:
        self.name = name
        self.slot = slot
        self.count = 0  # of calls that it has answered
        self.calls = 0  # that are on its berths
        self.working = False
        self.usable = True  # whether it can be given a call; never again once it cannot
        self.retired = False
        self.overdue = False
        self.abandoned = False
        self.ended = threading.Event()
        self.lock = threading.Lock()  # held to begin and to end a call, and to kill or bury the process because of one
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            self.requests, self.unread = map(ours.enter_context, queue_ends())
            streams, their_streams = zip(*(socket.socketpair() for _ in range(BERTHS)), strict=True)
            control, their_control = socket.socketpair()
            for end in (*streams, control):
                ours.enter_context(end)
            for end in (*their_streams, their_control):
                theirs.enter_context(end)
            marker = shared_file(bytes(BERTHS))
            theirs.callback(os.close, marker)
            control.setblocking(False)  # the keeper waits for many things, and for none of them alone
            self.control = Channel(control)
            self.marker = mmap.mmap(marker, BERTHS)
            ends = [end.fileno() for end in (self.unread, *their_streams, their_control)]
            self.process = launched(name, (*ends, marker, birth), path)
            self.berths = [Berth(self, number, stream) for number, stream in enumerate(streams)]
            ours.pop_all()
        self.pidfd = process_descriptor(self.process.pid)
        self.born_at = time.monotonic()

    def __str__(self) -> str:
        return f"worker process {self.name} (pid {self.process.pid})"

    @property
    def going(self) -> bool:
        """Whether this side has ended it, or is about to."""
        return self.retired or self.overdue or self.abandoned

    @property
    def began(self) -> bool:
        """Whether it has begun a call."""
        return any(self.marker[:])

    def put(self, request: bytes) -> bool:
        """Put a request into its queue; says whether that takes it."""
        try:
            self.requests.send(request, socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def exit_code(self) -> int:
        """How it ended, once its channel has; a process that goes on without it is killed."""
        if not self.ended.wait(END_SECONDS):
            self.process.kill()
            self.ended.wait(END_SECONDS)
        return self.process.returncode or 0

    def kill_overdue(self, limit: float, now: float) -> None:
        """Kill it if its call has run for ``limit`` seconds (``now`` as of ``time.monotonic()``)."""
        with self.lock:
            if any(berth.began_at is not None and now - berth.began_at >= limit for berth in self.berths):
                self.overdue, self.usable = True, False
                self.process.kill()

    def abandon(self) -> None:
        """Give it no more calls, and kill it if it runs one."""
        with self.lock:
            self.abandoned, self.usable = True, False
            if self.calls:
                self.process.kill()

    def retire(self) -> None:
        """Give it no more calls."""
        self.retired, self.usable = True, False

    def died(self) -> None:
        """It has ended: wake whoever waits for its answer, and close what belongs to it. Idempotent."""
        self.process.wait()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        self.control.close()
        with self.lock:
            self.usable = False
            self.ended.set()
            self.requests.close()
            self.unread.close()
            for berth in self.berths:
                if berth.in_use:
                    berth.channel.end()  # and the thread that waits there closes it
                else:
                    berth.channel.close()
            self.berths = []  # they hold it too, and what the system lends for it is not to wait for the collector


class Berth:
    """One of the berths at a worker process. Used by one thread at a time, which got it from `Berths.take`.

    Args:
        child: The process.
        number: Which of its berths.
        stream: This side's end of what answers come by.
    """

    def __init__(self, child: Child, number: int, stream: socket.socket) -> None:
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
        self.taken_back = False
        """Whether the last one was."""

    @property
    def began(self) -> bool:
        """Whether the process has begun the request that it was sent last on this berth."""
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
                self.taken_back = True
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
            Whether all of it is there, or only the number of this berth; and whether it waits behind another call.

        Raises:
            ChildGone: It is given no more calls.
            TakenBack: It would have to wait outside of the queue, where it could not be taken back.
        """
        child, name = self.child, bytes((self.number,))
        with child.lock:
            child.marker[self.number] = 0
            self.seconds, self.taken_back = None, False
            if not child.usable:
                raise ChildGone
            waits = child.calls > 0
            whole = len(frame) <= LONGEST_REQUEST and child.put(name + frame)
            if not whole and waits:
                raise TakenBack
            if not whole:
                child.put(name)
            child.calls += 1
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
            child.calls -= 1
            self.in_use, self.began_at = False, None
            if child.calls:
                for berth in child.berths:
                    if berth.in_use and berth.began_at is None:
                        berth.began_at = now
            if not child.usable and child.ended.is_set():
                self.channel.close()


def launched(name: str, descriptors: tuple[int, ...], path: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start the process."""
    import subprocess  # here, as the next one, because services without processes do not need them
    from multiprocessing.spawn import get_executable

    # As multiprocessing does it, so that -O, -W and -X hold in worker processes too.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    arguments = [name, str(os.getpid()), *map(str, descriptors)]
    return subprocess.Popen(
        [get_executable(), *flags, "-c", PROGRAM, *arguments],
        env={**os.environ, PATH_VARIABLE: "\n".join(path)},
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
    )


def process_descriptor(pid: int) -> int | None:
    """A descriptor that becomes readable when a process ends; None where the system has none."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def shared_file(content: bytes) -> int:
    """The descriptor of a file without a name; in memory where the system can, for a disk may be read-only."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("mf-worker")
    else:
        import tempfile  # here, because Linux needs none

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor
