"""From an ``AMQP_URI`` to the broker behind it."""

from micro_framework.brokers.port import Broker
from micro_framework.config import Settings

__all__ = ["broker_for"]


def broker_for(settings: Settings) -> Broker:
    """The broker that the configuration names; nothing connects yet.

    Args:
        settings: ``AMQP_URI`` must be set; ``HEARTBEAT``, ``AMQP_SSL``, ``LOGIN_METHOD`` and ``TRANSPORT_OPTIONS`` are
            read, and ``RETRY_BACKEND``.
    """
    uri = settings.amqp_uri or ""
    # Imported only when asked for: the embedded broker needs no kombu, and RabbitMQ no embedded broker.
    if uri.startswith("memory:"):
        from micro_framework.brokers.memory import MemoryBroker

        return MemoryBroker.named(uri)
    from micro_framework.brokers.rabbitmq import RabbitMQBroker

    return RabbitMQBroker(
        uri,
        heartbeat=settings.heartbeat,
        ssl=settings.amqp_ssl,
        login_method=settings.login_method,
        transport_options=settings.transport_options,
        delayed_by_plugin=settings.retry_backend == "plugin",
    )
