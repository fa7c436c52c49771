"""RabbitMQ as one reaches it: by its URI."""

from collections.abc import Mapping
from typing import Any

from micro_framework.brokers.rabbitmq.consumer import RabbitMQConsumer
from micro_framework.brokers.rabbitmq.declarations import Adoptions
from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.locks import LOCK_HEARTBEAT, RabbitMQLocks
from micro_framework.brokers.rabbitmq.publisher import RabbitMQPublisher

__all__ = ["RabbitMQBroker"]


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
        self._delayed_by_plugin = delayed_by_plugin
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

    def consumer(self, name: str) -> RabbitMQConsumer:
        return RabbitMQConsumer(name, self._endpoints(), self._adoptions)

    def publisher(self, name: str) -> RabbitMQPublisher:
        return RabbitMQPublisher(name, self._endpoints(), self._adoptions, delayed_by_plugin=self._delayed_by_plugin)

    def locks(self, name: str) -> RabbitMQLocks:
        heartbeat = min(self._options["heartbeat"] or LOCK_HEARTBEAT, LOCK_HEARTBEAT)
        return RabbitMQLocks(name, self._endpoints(heartbeat=heartbeat))

    def _endpoints(self, **options: Any) -> Endpoints:
        return Endpoints(self._uri, **{**self._options, **options})

    def __str__(self) -> str:
        return self._description

    def __repr__(self) -> str:
        return f"<RabbitMQBroker {self._description}>"
