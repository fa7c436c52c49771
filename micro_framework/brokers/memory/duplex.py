"""The door to the embedded broker that consumes and publishes."""

from micro_framework.brokers.memory.consumer import MemoryConsumer
from micro_framework.brokers.memory.publisher import MemoryPublisher

__all__ = ["MemoryDuplex"]


class MemoryDuplex(MemoryConsumer, MemoryPublisher):
    """A connection for both (`micro_framework.brokers.port.Duplex`)."""

    kind = "duplex"

    def regain_connection(self) -> None:
        """The broker is back; what was consumed may still be answered, cancelled or not."""
        self._connect()

    def _declare_everything(self) -> None:
        MemoryConsumer._declare_everything(self)
        MemoryPublisher._declare_everything(self)
