"""The threads on which callers are told of their answers: their code may wait, and a connection's thread must not.

One thread waits for the next callback while another runs one: a callback that takes long, or never returns, holds up
no other. Callbacks begin in the order they come, and may overlap.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable

__all__ = ["CallbackThreads"]

logger = logging.getLogger(__name__)

MOST_THREADS = 32
"""Beyond so many that all run callbacks, further callbacks wait for one to return."""


class CallbackThreads:
    """Runs callbacks. Thread safe; the first thread begins with the first callback, others when all are busy.

    Args:
        name: The threads' name, with a number behind it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.changing = threading.Lock()
        self.threads: set[threading.Thread] = set()
        self.idle = 0
        self.begun = 0
        self.stopped = False

    def submit(self, callback: Callable[[], object]) -> None:
        """Have a callback run; after `stop` it runs at once, on the calling thread."""
        with self.changing:
            if not self.stopped:
                self.waiting.put(callback)
                if not self.threads:
                    self.begin()
                return
        perform(callback)

    def begin(self) -> None:
        """Start a thread; called with `changing` held."""
        self.begun += 1
        self.idle += 1
        thread = threading.Thread(target=self.run, name=f"{self.name}-{self.begun}", daemon=True)
        self.threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the process has no more threads to give, or is ending
            self.idle -= 1
            self.threads.discard(thread)
            if threading.main_thread().is_alive():
                logger.warning("no thread for callbacks of RPC calls: %s; they wait for one, or for the end", error)

    def run(self) -> None:
        """A thread's loop."""
        while (callback := self.waiting.get()) is not None:
            with self.changing:
                self.idle -= 1
                if not self.idle and len(self.threads) < MOST_THREADS and not self.stopped:
                    self.begin()
            perform(callback)
            callback = None  # an idle thread keeps nobody's future alive
            with self.changing:
                if self.idle and not self.stopped:  # another one waits for the next: this one was for a busy time
                    self.threads.discard(threading.current_thread())
                    return
                self.idle += 1

    def stop(self, deadline: float) -> None:
        """Run what waits and end the threads.

        Args:
            deadline: ``time.monotonic()`` seconds after which callbacks that do not return are left alone.
        """
        with self.changing:
            self.stopped = True
            threads = list(self.threads)
        for _ in threads:
            self.waiting.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        if not threads:
            self.run_waiting()

    def run_waiting(self) -> None:
        """Run what waits, on the calling thread: there was none for it (Python 3.12 starts none at the end)."""
        while not self.waiting.empty():
            if (callback := self.waiting.get_nowait()) is not None:
                perform(callback)


def perform(callback: Callable[[], object]) -> None:
    """Run a callback; what it raises is logged, as `concurrent.futures` does."""
    try:
        callback()
    except BaseException:  # sys.exit() in a callback must not end the thread that others wait for
        logger.exception("a callback of an RPC call raised: %r", callback)
