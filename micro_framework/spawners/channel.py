"""A channel: whole frames of bytes over one end of a socket pair."""

import contextlib
import socket
import struct

from micro_framework.channel import take_frame

__all__ = ["Channel"]

HEADER = struct.Struct(">Q")
CHUNK = 65536
JOINED = 65536
"""Bytes up to which a frame is copied behind its header, which saves a system call."""


class Channel:
    """One end of a socket pair. One thread at a time may send, one at a time may receive.

    Args:
        end: The connected socket; the channel owns it.
    """

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.received = bytearray()

    def fileno(self) -> int:
        """The socket's file descriptor, -1 once closed."""
        return self.socket.fileno()

    def send(self, frame: bytes) -> None:
        """Send one frame; waits while the other end does not read.

        Raises:
            OSError: The other end is gone.
        """
        header = HEADER.pack(len(frame))
        if len(frame) <= JOINED:
            self.socket.sendall(header + frame)
        else:
            self.socket.sendall(header)
            self.socket.sendall(frame)

    def receive(self) -> bytes | None:
        """Wait for one frame; None when the other end is gone, or `end` was called."""
        while not self.received or (frame := take_frame(self.received, HEADER)) is None:
            if not self.fill():
                return None
        return frame

    def fill(self) -> bool:
        """Receive what there is, waiting for the first of it if the socket waits; False when there is no more."""
        try:
            data = self.socket.recv(CHUNK)
        except OSError:
            return False
        self.received += data
        return bool(data)

    def take(self) -> bytes | None:
        """The next frame if all of it has been received."""
        return take_frame(self.received, HEADER)

    def end(self) -> None:
        """Wake whoever waits here; frames that have arrived can still be received. Thread safe."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
