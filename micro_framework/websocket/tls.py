"""`guarded`: TLS connections that one thread reads while another writes."""

import select
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["GuardedSocket", "guarded"]


def guarded(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make the connections of a context safe for a reader and a writer at the same time.

    websockets reads on a thread of its own and writes on the caller's. OpenSSL allows no call on a connection beside
    another one, and nothing keeps them apart (Python 3.11.7, websockets 17.4): a read that meets one of TLS 1.3's
    session tickets while a request is written can swallow the answer, and both ends wait for ever.

    Returns:
        The same context.
    """
    context.sslsocket_class = GuardedSocket
    return context


class GuardedSocket(ssl.SSLSocket):
    """Calls into OpenSSL one at a time; whoever has to wait does so between them."""

    turn: "threading.Lock | None" = None  # no type before Python 3.13
    """None during the handshake, which is one thread's."""
    seconds: float | None = None
    """The time-out of the socket, whose own one is zero from then on."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands; the calls after it take turns."""
        super().do_handshake(block)
        self.seconds = super().gettimeout()
        super().settimeout(0)
        self.turn = threading.Lock()

    def settimeout(self, value: float | None) -> None:
        """Seconds that a read or a write may take, None for no limit."""
        if self.turn is None:
            super().settimeout(value)
        else:
            self.seconds = value

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As that of a blocking socket."""
        received: bytes = self.in_turn(partial(super().recv, buflen, flags))
        return received

    def send(self, data: Any, flags: int = 0) -> int:
        """As that of a blocking socket; ``sendall`` uses it."""
        sent: int = self.in_turn(partial(super().send, data, flags))
        return sent

    def in_turn(self, call: Callable[[], Any]) -> Any:
        """What the call returns, as soon as it can.

        Raises:
            TimeoutError: It could not in time.
        """
        if self.turn is None:
            return call()
        deadline = None if self.seconds is None else time.monotonic() + self.seconds
        while True:
            number = self.fileno()
            try:
                with self.turn:
                    return call()
            except ssl.SSLWantReadError:
                wait_for(number, select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                wait_for(number, select.POLLOUT, deadline)


def wait_for(number: int, event: int, deadline: float | None) -> None:
    """Wait until a socket can be read or written, or is shut down."""
    poll = select.poll()
    poll.register(number, event)
    if not poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError("the other end of a TLS connection is silent")
