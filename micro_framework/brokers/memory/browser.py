"""The door to the embedded broker for those who look into its queues."""

from micro_framework.brokers.memory.door import MemoryDoor
from micro_framework.brokers.memory.queues import Consumption, MemoryDelivery, StoredQueue
from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.exceptions import BrokerError

__all__ = ["MemoryBrowser"]


class MemoryBrowser(MemoryDoor):
    """A connection that looks into queues (`micro_framework.brokers.port.Browser`)."""

    kind = "browser"

    def __init__(self, broker: object, server: MemoryServer, name: str) -> None:
        super().__init__(broker, server, name)
        self._taken: dict[StoredQueue, Consumption] = {}
        self._delivered: list[MemoryDelivery] = []
        self._lost = False  # whether the connection was, since messages were taken

    def count(self, queue: str, deadline: float) -> int | None:
        with self._changed:
            self._require_connection()
            stored = self._server.find_queue(queue)
            return None if stored is None else stored.waiting

    def get(self, queue: str, deadline: float, ahead: int = 0) -> MemoryDelivery | None:
        """Take the first message that waits in a queue.

        Raises:
            BrokerError: There is no such queue, or no connection, or it was lost.
        """
        with self._changed:
            self._require_connection()
            self._refuse_if_lost()
            stored = self._server.find_queue(queue)
            if stored is None:
                raise BrokerError(f"there is no queue {queue!r} in {self._broker}")
            entry = stored.take_first()
            if entry is None:
                return None
            self._consumption_of(stored).deliver(entry)
            return self._delivered.pop()

    def release(self, deadline: float) -> None:
        """Give back what was taken and not settled.

        Raises:
            BrokerError: The connection was lost since the first message was taken.
        """
        with self._changed:
            self._give_back()
            lost, self._lost = self._lost, False
            if lost:
                raise BrokerError(f"{self} lost its connection; what was taken is back in its queues")

    def _consumption_of(self, stored: StoredQueue) -> Consumption:
        # Not among the queue's own ones: it gets a message only when it asks for one.
        return self._taken.setdefault(stored, Consumption(stored, 0, self._delivered.append))

    def _give_back(self) -> None:
        for consumption in self._taken.values():
            consumption.give_everything_back()
        self._taken.clear()

    def _require_connection(self) -> None:
        if not self._ready:
            raise BrokerError(f"{self} is not connected; call start() first, and not after stop()")

    def _refuse_if_lost(self) -> None:
        if self._lost:
            raise BrokerError(f"{self} lost its connection; what was taken is back in its queues")

    def _declare_everything(self) -> None:
        """Nothing is declared."""

    def _disconnect(self) -> None:
        self._lost = self._lost or bool(self._taken)
        self._give_back()
        super()._disconnect()
