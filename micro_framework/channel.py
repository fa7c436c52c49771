"""Messages between two processes: JSON objects over a stream socket, each after its length in four bytes.

A stream socket ends when the process at its other end does, however it ended; so the channel tells that, too.
"""

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Channel", "Message", "take_frame"]

Message = Mapping[str, Any]
"""What goes over a channel: anything that JSON can say, in a mapping."""

LENGTH = struct.Struct("!I")
BLOCK = 65536


class Channel:
    """One end of the conversation. Any thread may `send`; one thread at a time may `receive`.

    Args:
        stream: A connected stream socket, from now on the channel's own.
        patience: Seconds to wait for room when sending and for something to come when receiving; 0 never waits.
    """

    def __init__(self, stream: socket.socket, patience: float) -> None:
        self.stream = stream
        self.stream.settimeout(patience)
        self.sending = threading.Lock()
        self.received = bytearray()
        self.gone = False

    def fileno(self) -> int:
        """The socket's number, to wait on."""
        return self.stream.fileno()

    def send(self, name: str, **content: Any) -> bool:
        """Send a message; ``name`` says which.

        Returns:
            Whether it is on its way. If not, the other side is gone, or has not read for so long that it never will:
            the channel is closed, because half a message may be in it.
        """
        body = json.dumps({"name": name, **content}).encode()
        with self.sending:
            try:
                self.stream.sendall(LENGTH.pack(len(body)) + body)
            except OSError:
                self.hang_up()
                return False
        return True

    def receive(self) -> list[Message] | None:
        """Take what has come.

        Returns:
            The messages that are complete by now; None where nothing came, and `gone` tells whether anything ever will.
        """
        try:
            data = self.stream.recv(BLOCK)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return None
        self.received += data
        return list(self.complete())

    def complete(self) -> Iterator[Message]:
        """The messages that have come as a whole."""
        while (body := take_frame(self.received, LENGTH)) is not None:
            yield json.loads(body)

    def hang_up(self) -> None:
        """End the conversation: both sides see its end. Thread safe, idempotent."""
        try:
            self.stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Hang up and give back the socket; nobody may be receiving."""
        self.gone = True
        self.hang_up()
        self.stream.close()


def take_frame(received: bytearray, length: struct.Struct) -> bytes | None:
    """Take the first frame out of what has been received; None while it is not all there.

    Args:
        received: Frames, each after its length in bytes; what is taken is removed.
        length: How the length is written.
    """
    if len(received) < length.size:
        return None
    end = length.size + length.unpack_from(received)[0]
    if len(received) < end:
        return None
    frame = bytes(memoryview(received)[length.size : end])
    del received[:end]
    return frame
