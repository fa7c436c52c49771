"""Connections and producers of kombu from its pools, and the error of a message that no queue is bound for.

For code that works with kombu itself, as tests and extensions do; what services publish does not go through here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kombu.connection import Connection
from kombu.pools import connections, producers

from micro_framework.exceptions import Unroutable
from nameko_compat.absent import refusing
from nameko_compat.constants import DEFAULT_TRANSPORT_OPTIONS

__all__ = ["UndeliverableMessage", "get_connection", "get_producer"]


class UndeliverableMessage(Unroutable):
    """A mandatory message for which no queue is bound."""

    __module__ = "nameko.amqp.publish"


def connection_to(amqp_uri: str, ssl: Any, login_method: str | None, transport_options: Mapping[str, Any]) -> Any:
    """A connection of kombu that is not opened yet.

    Raises:
        NotImplementedError: The URI is the embedded broker's; kombu's ``memory://`` is another one.
    """
    if amqp_uri.startswith("memory:"):
        raise NotImplementedError(
            "kombu cannot connect to the embedded broker; give AMQP_URI a RabbitMQ (pytest: --amqp-uri)"
        )
    return Connection(amqp_uri, ssl=ssl, login_method=login_method, transport_options=dict(transport_options))  # type: ignore[no-untyped-call]


@contextmanager
def get_connection(
    amqp_uri: str, ssl: Any = None, login_method: str | None = None, transport_options: Mapping[str, Any] | None = None
) -> Iterator[Any]:
    """A connection of kombu for a ``with`` block, from kombu's pool.

    Args:
        amqp_uri: The broker.
        ssl: As kombu has it.
        login_method: Likewise.
        transport_options: Likewise; None or empty: Nameko's.

    Raises:
        NotImplementedError: It is the embedded broker.
    """
    wanted = connection_to(amqp_uri, ssl, login_method, transport_options or DEFAULT_TRANSPORT_OPTIONS)
    with connections[wanted].acquire(block=True) as connection:
        yield connection


@contextmanager
def get_producer(
    amqp_uri: str,
    confirms: bool = True,
    ssl: Any = None,
    login_method: str | None = None,
    transport_options: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """A producer of kombu for a ``with`` block, from kombu's pool.

    Args:
        amqp_uri: The broker.
        confirms: Whether ``publish`` waits until the broker has the message.
        ssl: As kombu has it.
        login_method: Likewise.
        transport_options: Likewise; None: Nameko's.

    Raises:
        NotImplementedError: It is the embedded broker.
    """
    options = DEFAULT_TRANSPORT_OPTIONS if transport_options is None else transport_options
    wanted = connection_to(amqp_uri, ssl, login_method, {**options, "confirm_publish": confirms})
    with producers[wanted].acquire(block=True) as producer:
        yield producer


__getattr__ = refusing(__name__)
