"""What calls come to a worker process by: one queue of requests, and two berths, each for a call and its answer.

The queue carries whole requests, each behind the number of its berth. Both sides hold the end where they are received:
the process, which takes the next one when it is done with the one before, and its service, which takes back what has
not been begun. A berth carries answers, and the requests that are too long for the queue.
"""

import mmap
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

from micro_framework.spawners.channel import Channel

__all__ = ["BERTHS", "END", "LONGEST_REQUEST", "Work", "queue_ends"]

BERTHS = 2
"""Of each process: one call runs, and one may wait."""

LONGEST_REQUEST = 16384
"""Bytes of a request that is put into the queue; of a longer one only its berth is, by which it comes then."""

END = b"\xff"
"""In the place of a request: no more of them will come."""


def queue_ends() -> tuple[socket.socket, socket.socket]:
    """A queue of requests: the end to send them, and the one where each is received whole, by whoever comes first."""
    return socket.socketpair(type=socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM)


class Work(NamedTuple):
    """The process's side of it.

    Args:
        requests: The queue of requests, each behind the number of its berth.
        berths: What answers go by, and requests that are too long for the queue come.
        marker: A byte for each berth that its service sees too: whether the last request there has been begun.
    """

    requests: socket.socket
    berths: Sequence[Channel]
    marker: mmap.mmap

    def next(self) -> tuple[int, bytes] | None:
        """Wait for a request; the number of its berth, and what it is; None when there are no more."""
        try:
            request = self.requests.recv(1 + LONGEST_REQUEST)
        except OSError:
            return None
        if not request or request == END:
            return None
        number = request[0]
        frame = request[1:] or self.berths[number].receive()
        return None if frame is None else (number, frame)
