"""The thread on which callers are told of their answers: their code may wait, and a connection's thread must not."""

import logging
import queue
import threading
import time
from collections.abc import Callable

__all__ = ["CallbackThread"]

logger = logging.getLogger(__name__)


class CallbackThread:
    """Runs callbacks one after the other, in the order they come. Thread safe; the thread begins with the first one.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.starting = threading.Lock()
        self.thread: threading.Thread | None = None
        self.stopped = False

    def submit(self, callback: Callable[[], object]) -> None:
        """Have a callback run; after `stop` it runs at once, on the calling thread."""
        with self.starting:
            if not self.stopped:
                self.waiting.put(callback)
                if self.thread is None:
                    self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
                    self.thread.start()
                return
        perform(callback)

    def run(self) -> None:
        """The thread's loop."""
        while (callback := self.waiting.get()) is not None:
            perform(callback)

    def stop(self, deadline: float) -> None:
        """Run what waits and end the thread.

        Args:
            deadline: ``time.monotonic()`` seconds after which a callback that does not return is left alone.
        """
        with self.starting:
            self.stopped = True
        self.waiting.put(None)
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(max(0.0, deadline - time.monotonic()))


def perform(callback: Callable[[], object]) -> None:
    """Run a callback; what it raises is logged, as `concurrent.futures` does."""
    try:
        callback()
    except Exception:
        logger.exception("a callback of an RPC call raised: %r", callback)
