"""`Lookout`: what a pool of idle workers does for a connection."""

from collections.abc import Callable
from typing import Protocol

__all__ = ["Lookout"]


class Lookout(Protocol):
    """Waits for the input of connections while a pool has nothing else to do. Thread safe."""

    def watch(self, number: int, read: Callable[[], None]) -> None:
        """Have ``read`` called on an idle worker whenever input arrives at a socket; at times also when none has.

        Whoever waits for the same input besides is to ask for it exclusively, and later than this: then the kernel
        wakes them only where no worker is idle.

        Args:
            number: The socket's file descriptor. One call for each arrival (``EPOLLET``).
            read: Must not wait, and must not raise.

        Raises:
            OSError: The system cannot do that.
        """

    def forget(self, number: int) -> None:
        """Call it no more, but for a call that has begun; before the socket is closed. Idempotent."""
