"""`SharedReading`: an idle worker reads a connection in the place of its reading thread.

Both wait at the socket. The kernel wakes one of those that wait for the same input with ``EPOLLEXCLUSIVE``, and the
first that asked for it is asked first; so the reading thread sleeps on while a worker is idle. The worker hands on the
deliveries. Everything else it leaves to the reading thread, and wakes it: commands of the broker, which may want an
answer or end the connection, errors, and what may still be in the socket.

The reading thread holds the lock except while it waits for input in `LinkConnection.serve`. So whatever it does, it
does alone, as on a connection that nobody else reads.
"""

import select
from collections.abc import Callable
from threading import Lock
from typing import Any

from micro_framework.brokers.rabbitmq.frames import FrameBuffer
from micro_framework.brokers.rabbitmq.transport import READ_SIZE, PlainTransport
from micro_framework.lookout import Lookout

__all__ = ["SharedReading"]

INPUT = select.EPOLLIN | select.EPOLLEXCLUSIVE if hasattr(select, "EPOLLEXCLUSIVE") else 0
AT_ONCE = 2
"""Events in one look: the socket and the wake-up. Without a number epoll makes room for a thousand, each time."""


class SharedReading:
    """See the module's text. Made, used and ended by the reading thread, but for `read`.

    Args:
        transport: The socket.
        frames: What was read from it.
        handle: Takes a frame.
        wake: Wakes the reading thread.
        wake_number: What it polls for that.
        lookout: The idle workers.

    Raises:
        OSError: The system cannot do that.
    """

    def __init__(
        self,
        transport: PlainTransport,
        frames: FrameBuffer,
        handle: Callable[[Any], object],
        wake: Callable[[], None],
        wake_number: int,
        lookout: Lookout,
    ) -> None:
        self.transport = transport
        self.frames = frames
        self.handle = handle
        self.wake = wake
        self.lookout = lookout
        self.lock = Lock()
        self.lock.acquire()
        self.error: BaseException | None = None
        self.over = False
        self.waits_for_room = False
        self.number: int = transport.sock.fileno()
        self.epoll = select.epoll()
        try:
            self.epoll.register(wake_number, select.EPOLLIN)
            lookout.watch(self.number, self.read)  # before this thread, so it is asked before it
            self.epoll.register(self.number, INPUT)
        except BaseException:
            self.end()
            raise

    def sleep(self, seconds: float, *, room: bool) -> list[tuple[int, int]]:
        """Wait as ``poll`` does, and let others read meanwhile.

        Args:
            seconds: How long.
            room: Whether to wait for room to write, too.

        Raises:
            BaseException: What a worker has met with.
        """
        if room is not self.waits_for_room:
            self.waits_for_room = room
            self.epoll.unregister(self.number)  # what is exclusive cannot be modified
            self.epoll.register(self.number, INPUT | select.EPOLLOUT if room else INPUT)
        self.lock.release()
        try:
            events = self.epoll.poll(seconds, AT_ONCE)
        finally:
            self.lock.acquire()
        if self.error is not None:
            raise self.error
        return events

    def read(self) -> None:
        """What an idle worker does when input has come; never waits."""
        if not self.lock.acquire(blocking=False):
            self.wake()  # somebody is at it, and may have looked a moment too early
            return
        frames = self.frames
        try:
            if self.over:
                return
            data = self.transport.receive()
            if data:
                frames.feed(data)
            while not frames.empty and (frame := frames.next(commands=False)) is not None:
                self.handle(frame)
            if len(data) >= READ_SIZE or (not frames.empty and frames.at_command):
                self.wake()
        except BaseException as error:  # noqa: BLE001 - it is the reading thread's
            self.error = error
            self.wake()
        finally:
            self.lock.release()

    def end(self) -> None:
        """Nobody else reads any more. Call before the socket is closed."""
        self.over = True
        self.lookout.forget(self.number)
        self.epoll.close()

    def abandon(self) -> None:
        """In a forked child: leave everything to the parent."""
        self.epoll.close()
