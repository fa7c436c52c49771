"""Which RabbitMQ the tests run on, where that makes a difference to what it does."""

import amqp
import pytest
from kombu import Connection

__all__ = ["CLASSIC_QUEUES_WITHOUT_LIMIT", "need_limit", "version_of"]

CLASSIC_QUEUES_WITHOUT_LIMIT = (4, 3)
"""Since when ``consumer_timeout`` is about quorum queues alone."""


def version_of(uri: str) -> tuple[int, ...]:
    """The version of the broker at an AMQP URI."""
    with Connection(uri) as connection:
        opened: amqp.Connection = connection.connection
        return tuple(int(part) for part in str(opened.server_properties["version"]).split(".")[:3])


def need_limit(uri: str, queue_type: str) -> None:
    """Skip a test that needs ``consumer_timeout`` where this broker has none for the type of queue."""
    if queue_type == "classic" and version_of(uri) >= CLASSIC_QUEUES_WITHOUT_LIMIT:
        pytest.skip("this RabbitMQ waits for acknowledgements to classic queues for ever")
