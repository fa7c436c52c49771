"""The embedded broker as one reaches it: by its URI."""

import re
from threading import Lock
from weakref import WeakValueDictionary

from micro_framework.brokers.memory.browser import MemoryBrowser
from micro_framework.brokers.memory.consumer import MemoryConsumer
from micro_framework.brokers.memory.duplex import MemoryDuplex
from micro_framework.brokers.memory.locks import MemoryLocks
from micro_framework.brokers.memory.publisher import MemoryPublisher
from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.exceptions import BrokerError, ConfigError

__all__ = ["MemoryBroker"]


class MemoryBroker:
    """A broker inside this process (`micro_framework.brokers.port.Broker`). Thread safe.

    It has direct, topic and fanout exchanges, prefetch, confirms, mandatory returns, redelivery, exclusive and
    auto-delete queues, delays, ``expiration`` and ``x-message-ttl`` (an expired message is dropped when its turn
    comes), ``x-expires``. Other exchange types and other ``x-`` arguments of queues and exchanges are refused by name.
    A priority makes no difference, as in any queue of RabbitMQ's without ``x-max-priority``.

    Brokers made by `named` with one URI are one broker. It lasts as long as anybody holds it or one of its doors: a
    service that is stopped and started again in the same process finds its messages only if somebody held the broker
    meanwhile, and a test's broker vanishes with the test.

    Args:
        name: How it shows in logs and thread names.
    """

    _named: WeakValueDictionary[str, "MemoryBroker"] = WeakValueDictionary()
    _naming = Lock()

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._server = MemoryServer(name)

    @classmethod
    def named(cls, uri: str) -> "MemoryBroker":
        """The one broker of this process for a URI.

        Args:
            uri: ``memory://`` or ``memory://name``.

        Raises:
            ConfigError: The URI is not of that form.
        """
        form = re.fullmatch(r"memory://([\w.-]*)/?", uri)
        if form is None:  # the text does not repeat the URI, which may hold a password
            raise ConfigError("AMQP_URI", ["the embedded broker's URI is memory:// or memory://name, nothing else"])
        name = form.group(1)
        with cls._naming:
            broker = cls._named.get(name)
            if broker is None:
                broker = cls._named[name] = cls(name)
            return broker

    @property
    def description(self) -> str:
        return f"memory://{self._name}"

    @property
    def durable_after(self) -> float:
        """Nothing here survives that the process is killed, so nothing is to be waited for."""
        return 0.0

    def consumer(self, name: str) -> MemoryConsumer:
        return MemoryConsumer(self, self._server, name)

    def publisher(self, name: str) -> MemoryPublisher:
        return MemoryPublisher(self, self._server, name)

    def duplex(self, name: str) -> MemoryDuplex:
        return MemoryDuplex(self, self._server, name)

    def browser(self, name: str) -> MemoryBrowser:
        return MemoryBrowser(self, self._server, name)

    def locks(self, name: str) -> MemoryLocks:
        return MemoryLocks(self, self._server, name)

    def delete_queue(self, name: str) -> None:
        """For tests: delete a queue as an operator would; its consumers are told, and declare it again."""
        with self._server.lock:
            self._server.delete_queue(name)

    def drop_connections(self) -> None:
        """For tests: every open door loses its connection as if the broker had gone, and connects again at once.

        Unsettled deliveries go back to their queues, exclusive queues are deleted, everything is declared again.
        """
        with self._server.lock:
            self._server.drop_connections(BrokerError(f"the connection to {self} was dropped"))

    def __str__(self) -> str:
        return self.description
