"""The embedded broker, ``memory://``: routing, queues and delays inside this process.

For first steps and tests; production is RabbitMQ. It keeps every promise of `micro_framework.brokers.port` except
across a crash: nothing is written to disk. Rooms, each importing only from those before it: `routing` (which queues a
message goes to), `queues` (one queue, its consumers, their deliveries), `messages` (what a message looks like after the
journey), `delays`, `server` (what all doors share), `door`, `consumer`, `publisher`, `duplex`, `browser`, `broker`.
"""

from micro_framework.brokers.memory.broker import MemoryBroker

__all__ = ["MemoryBroker"]
