"""What the two kinds of doors to the embedded broker share.

Everything a door does to the broker happens at once, under the server's lock, on the thread that asks for it. The
door's own thread only makes calls, without the lock: to the owner's events and the subscriptions' ``on_message``.
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Condition, Thread, current_thread
from time import monotonic

from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.brokers.port import DoorEvents
from micro_framework.exceptions import BrokerError, BrokerRefused

__all__ = ["MemoryDoor", "seconds_until"]

logger = logging.getLogger(__name__)


class MemoryDoor(ABC):
    """A connection to the embedded broker (`micro_framework.brokers.port.Door`); opened once, never again after `stop`.

    Args:
        broker: Kept while the door is, so that the broker lasts as long as anybody has a door to it.
        server: The broker's inside.
        name: Part of the thread's name.
    """

    kind: str

    def __init__(self, broker: object, server: MemoryServer, name: str) -> None:
        self.name = name
        self._broker = broker
        self._server = server
        self._changed = Condition(server.lock)
        self._events = DoorEvents()
        self._news: deque[Callable[[], None]] = deque()  # events that the thread has still to tell
        self._thread: Thread | None = None
        self._ready = False
        self._refused = False
        self._stopped = False

    def start(self, events: DoorEvents) -> None:
        """Declare (and consume) everything; the events come on the door's thread.

        Raises:
            BrokerError: It was started or stopped before.
        """
        with self._changed:
            if self._stopped or self._thread is not None:
                raise BrokerError(f"{self} was started before; take a new one from the broker")
            self._events = events
            self._thread = Thread(target=self._run, name=f"mf-{self.kind}-{self.name}", daemon=True)
            self._server.open_door(self)
            self._connect()
            self._thread.start()

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def blocked(self) -> bool:
        return False

    @property
    def turns(self) -> bool:
        return self._thread is None or self._stopped or self._refused or self._thread.is_alive()

    def wait_ready(self, deadline: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self.ready or self._refused or self._stopped, seconds_until(deadline))
            return self.ready

    def stop(self, deadline: float) -> None:
        """Give back what is not settled and end the thread, at once: nothing is ever left to be written here."""
        with self._changed:
            ending = [self._thread, self._close()]
            self._stopped = True
            self._changed.notify_all()
        for thread in ending:
            if thread is not None and thread is not current_thread():
                thread.join(seconds_until(deadline))

    def lose_connection(self, error: BaseException) -> None:
        """The connection broke; called under the lock."""
        self._disconnect()
        self._tell(partial(self._events.on_lost, error))

    def regain_connection(self) -> None:
        """The broker is back; called under the lock."""
        self._connect()

    def _connect(self) -> None:
        if self._attempt(self._declare_everything):
            self._ready = True
            self._tell(self._events.on_ready)

    def _attempt(self, declare: Callable[[], None]) -> bool:
        """Declare, or give the door up."""
        try:
            declare()
        except BrokerRefused as refusal:
            self._refused = True
            self._close()
            self._tell(partial(self._events.on_refused, refusal))
        return not self._refused

    def _close(self) -> Thread | None:
        self._disconnect()
        return self._server.close_door(self)

    def _disconnect(self) -> None:
        self._ready = False
        self._server.delete_exclusive(self)

    @abstractmethod
    def _declare_everything(self) -> None: ...

    def _tell(self, event: Callable[[], None]) -> None:
        self._news.append(event)
        self._changed.notify_all()

    def _run(self) -> None:
        while (call := self._next_call()) is not None:
            try:
                call()
            except Exception:  # one callback's defect must not silence the others
                logger.exception("a callback of %s raised, and callbacks must not", self)

    def _next_call(self) -> Callable[[], None] | None:
        """Wait for the next call to make; None to end the thread."""
        with self._changed:
            while not self._news:
                if self._stopped or self._refused:
                    return None
                self._changed.wait()
            return self._news.popleft()

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self._broker}"


def seconds_until(deadline: float) -> float:
    """How long to wait for a ``time.monotonic()`` deadline; 0 when it is over."""
    return max(0.0, deadline - monotonic())
