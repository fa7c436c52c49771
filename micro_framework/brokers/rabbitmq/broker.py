"""RabbitMQ as one reaches it: by its URI."""

from collections.abc import Mapping
from typing import Any

from micro_framework.brokers.rabbitmq.browser import RabbitMQBrowser
from micro_framework.brokers.rabbitmq.consumer import RabbitMQConsumer
from micro_framework.brokers.rabbitmq.declarations import Adoptions
from micro_framework.brokers.rabbitmq.duplex import RabbitMQDuplex
from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.link import Link, LinkFor
from micro_framework.brokers.rabbitmq.locks import LOCK_HEARTBEAT, RabbitMQLocks
from micro_framework.brokers.rabbitmq.publisher import RabbitMQPublisher

__all__ = ["RabbitMQBroker"]

DURABLE_AFTER = 6.0


class RabbitMQBroker:
    """A RabbitMQ broker or cluster (`micro_framework.brokers.port.Broker`). Thread safe; nothing connects yet.

    Args:
        uri: ``amqp://user:password@host:port/vhost``, or ``amqps://``; several, separated by semicolons, take
            turns.
        heartbeat: Seconds after which a silent broker is given up (at the latest after twice that); 0 for never.
        ssl: As kombu takes it: None, True, or a dict of options such as ``ca_certs``.
        login_method: ``PLAIN``, ``AMQPLAIN``, ``EXTERNAL``; None for PLAIN.
        transport_options: Further arguments of py-amqp's connection, such as ``frame_max`` or ``socket_settings``.
        connect_timeout: Seconds for each step of connecting.
        delayed_by_plugin: Whether ``rabbitmq_delayed_message_exchange`` holds back what is delayed, and not queues.

    Raises:
        ConfigError: The URI cannot be used.
    """

    def __init__(
        self,
        uri: str,
        *,
        heartbeat: float | None = 60,
        ssl: Any = None,
        login_method: str | None = None,
        transport_options: Mapping[str, Any] | None = None,
        connect_timeout: float = 5,
        delayed_by_plugin: bool = False,
    ) -> None:
        self._uri = uri
        self._delaying = {"delayed_by_plugin": delayed_by_plugin}
        self._options: dict[str, Any] = {
            "heartbeat": heartbeat or 0,
            "ssl": ssl,
            "login_method": login_method,
            "transport_options": transport_options,
            "connect_timeout": connect_timeout,
        }
        self._description = ", ".join(str(address) for address in self._endpoints().addresses)
        self._adoptions = Adoptions(self._description)

    @property
    def description(self) -> str:
        return self._description

    @property
    def durable_after(self) -> float:
        """Quorum queues were lost within a few seconds, classic ones within a fraction of one (3.10.8 to 4.3.6)."""
        return DURABLE_AFTER

    def consumer(self, name: str) -> RabbitMQConsumer:
        return RabbitMQConsumer(self._link("consumer", name), self._adoptions)

    def publisher(self, name: str) -> RabbitMQPublisher:
        return RabbitMQPublisher(self._link("publisher", name), self._adoptions, **self._delaying)

    def duplex(self, name: str) -> RabbitMQDuplex:
        return RabbitMQDuplex(self._link("duplex", name), self._adoptions, **self._delaying)

    def _link(self, kind: str, name: str, **options: Any) -> LinkFor:
        return lambda owner: Link(kind, name, self._endpoints(**options), owner)

    def browser(self, name: str) -> RabbitMQBrowser:
        return RabbitMQBrowser(self._link("browser", name))

    def locks(self, name: str) -> RabbitMQLocks:
        heartbeat = min(self._options["heartbeat"] or LOCK_HEARTBEAT, LOCK_HEARTBEAT)
        return RabbitMQLocks(self._link("locks", name, heartbeat=heartbeat))

    def _endpoints(self, **options: Any) -> Endpoints:
        return Endpoints(self._uri, **{**self._options, **options})

    def __str__(self) -> str:
        return self._description

    def __repr__(self) -> str:
        return f"<RabbitMQBroker {self._description}>"
