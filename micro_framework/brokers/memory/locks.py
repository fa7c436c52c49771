"""Locks at the embedded broker: who takes part stands in line, and whoever stands first holds the lock."""

from collections.abc import Callable
from functools import partial

from micro_framework.brokers.memory.door import MemoryDoor
from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.brokers.port import Lock
from micro_framework.exceptions import BrokerError

__all__ = ["MemoryLocks"]


class MemoryLocks(MemoryDoor):
    """A connection that holds names, or waits for them (`micro_framework.brokers.port.Locks`)."""

    kind = "locks"

    def __init__(self, broker: object, server: MemoryServer, name: str) -> None:
        super().__init__(broker, server, name)
        self._locks: dict[str, Lock] = {}
        self._held: set[str] = set()

    def want(self, lock: Lock) -> None:
        """Take part once started.

        Raises:
            BrokerError: It was started already, or takes part in that lock.
        """
        if self._thread is not None:
            raise BrokerError(f"{self} is started already; say what it wants before start()")
        if lock.name in self._locks:
            raise BrokerError(f"{self} wants {lock.name!r} already")
        self._locks[lock.name] = lock

    def announce(self, name: str, word: str, done: Callable[[bool], None]) -> None:
        """Tell everybody who takes part."""
        with self._changed:
            held = name in self._held
            if held:
                for each in self._server.contenders(name):
                    assert isinstance(each, MemoryLocks)
                    each._hear(name, word)
                self._tell(partial(done, True))
        if not held:
            done(False)

    def hold(self, name: str) -> None:
        """The one before has gone; called under the lock."""
        self._held.add(name)
        self._tell(self._locks[name].on_held)

    def _hear(self, name: str, word: str) -> None:
        self._tell(partial(self._locks[name].on_word, word))

    def _declare_everything(self) -> None:
        for name, lock in self._locks.items():
            held = self._server.join(name, self)
            if held:
                self._held.add(name)
            self._tell(partial(lock.on_joined, held))

    def _disconnect(self) -> None:
        self._held.clear()
        for name in self._locks:
            self._server.leave(name, self)
        super()._disconnect()
