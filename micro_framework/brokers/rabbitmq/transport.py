"""The socket under a connection: never blocking once it is open, written by any thread, read by one at a time.

`send` hands bytes to the kernel as far as it takes them and keeps the rest; whoever reads the connection sends the rest
when poll says so. So no thread ever waits inside a write: not the caller of a publish on a connection that
the broker does not read (memory alarm), and not the reader behind a caller. A failed write only marks the transport as
`broken` and wakes the reader, which alone closes the socket: a socket number used anew must not be written to.

py-amqp's own transports set timeouts on the shared socket; with a second thread that breaks off writes in mid-frame.
"""

import socket
import ssl
from collections import deque
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Any

from amqp.transport import SSLTransport, TCPTransport

__all__ = ["READ_SIZE", "PlainTransport", "TLSTransport", "ignore_wake"]

READ_SIZE, LARGE_READ_SIZE = 65536, 1_048_576
"""Bytes at once; the latter where the former do not do, for every read of a large body has what was left copied."""
NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def ignore_wake() -> None:
    """Nobody reads yet, so nobody needs waking."""


class SharedStream:
    """What both transports have in common. Mixed into py-amqp's, which connect and shake hands."""

    sock: Any
    connected: bool
    read_size = READ_SIZE
    wake_reader: Callable[[], None] = staticmethod(ignore_wake)

    def prepare(self) -> None:
        """Make the open socket non-blocking; called once, before the first byte is written."""
        self.io_lock = Lock()
        self.unsent: deque[memoryview] = deque()  # what the kernel does not take yet, mostly nothing
        self.broken: OSError | None = None
        self.last_sent = self.last_received = monotonic()
        self.sock.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send, or keep for later what the kernel does not take now. Thread safe, never waits, never raises."""
        with self.io_lock:
            if self.unsent:
                self.unsent.append(memoryview(data))
            elif (sent := self.send_now(data)) < len(data):
                self.unsent.append(memoryview(data)[sent:])
                if sent:
                    self.send_unsent()  # TLS takes a part of it at a time
                if self.unsent:
                    self.wake_reader()

    def push(self) -> None:
        """Send what is left, as far as the kernel takes it."""
        with self.io_lock:
            self.send_unsent()

    def send_unsent(self) -> None:
        """Called with the lock held. TLS wants a write repeated with the same bytes, hence chunk by chunk."""
        unsent = self.unsent
        while unsent:
            chunk = unsent[0]
            sent = self.send_now(chunk)
            if sent == len(chunk):
                unsent.popleft()
            elif sent:
                unsent[0] = chunk[sent:]
            else:
                return

    def send_now(self, data: bytes | memoryview) -> int:
        """Called with the lock held; how many bytes the kernel took, 0 where it takes none now."""
        if (sock := self.sock) is None:
            return 0
        try:
            sent: int = sock.send(data)
        except NOT_NOW:
            return 0
        except OSError as error:
            self.broken = error
            self.wake_reader()
            return 0
        self.last_sent = monotonic()
        return sent

    def received(self, data: bytes) -> bytes:
        if not data:
            raise ConnectionResetError("the broker closed the connection without a word")
        self.last_received = monotonic()
        self.read_size = READ_SIZE if len(data) < READ_SIZE else LARGE_READ_SIZE
        return data

    # What py-amqp calls.

    def write(self, data: Any) -> None:
        """Send a copy: py-amqp passes a view of a buffer that it uses again."""
        self.send(bytes(data))

    _write = write

    def close(self) -> None:
        """Close the socket; only the reading thread may."""
        lock = getattr(self, "io_lock", None) or Lock()  # it may fail before `prepare`
        with lock:
            self.connected = False
            sock, self.sock = self.sock, None
        if sock is None:
            return
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was faster
        sock.close()


class PlainTransport(SharedStream, TCPTransport):  # type: ignore[misc]  # py-amqp has no types
    """A TCP connection."""

    has_buffered = False

    def _setup_transport(self) -> None:
        self.prepare()
        self.buffer = memoryview(bytearray(READ_SIZE))
        """For all reads but large ones. Room made anew for each, by several threads in turn, left holes in the heap."""

    def receive(self) -> bytes:
        """What has arrived, b"" for nothing.

        Raises:
            OSError: The connection broke.
        """
        try:
            if self.read_size > READ_SIZE:
                return self.received(self.sock.recv(self.read_size))
            return self.received(bytes(self.buffer[: self.sock.recv_into(self.buffer)]))
        except NOT_NOW:
            return b""


class TLSTransport(SharedStream, SSLTransport):  # type: ignore[misc]  # py-amqp has no types
    """A TLS connection. OpenSSL allows no read beside a write on one connection, so both take the lock."""

    def _setup_transport(self) -> None:
        super()._setup_transport()
        self.prepare()

    @property
    def has_buffered(self) -> bool:
        """Whether bytes were decrypted that poll knows nothing of."""
        with self.io_lock:
            return bool(self.sock.pending())

    def receive(self) -> bytes:
        """What has arrived, b"" for nothing.

        Raises:
            OSError: The connection broke.
        """
        try:
            with self.io_lock:
                return self.received(self.sock.recv(self.read_size))
        except NOT_NOW:
            return b""
