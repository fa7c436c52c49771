"""Which RabbitMQ the tests run on, where that makes a difference to what it does."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import amqp
import pytest
from kombu import Connection

from micro_framework.exceptions import PublishRejected
from micro_framework.testing.erlang import ErlangAdmin

__all__ = [
    "CLASSIC_QUEUES_WITHOUT_LIMIT",
    "as_declared",
    "largest_body",
    "need_limit",
    "refused_while_going",
    "version_of",
]

LARGEST_BODY = """
{ok, Before} = application:get_env(rabbit, max_message_size),
ok = application:set_env(rabbit, max_message_size, %d),
persistent_term:put(max_message_size, %d),
Before
"""
"""RabbitMQ 3 reads the setting when a channel opens, RabbitMQ 4 keeps a copy from its start."""

CLASSIC_QUEUES_WITHOUT_LIMIT = (4, 3)
"""Since when ``consumer_timeout`` is about quorum queues alone."""

REFUSES_WHILE_GOING = (4, 3)
"""Since when a message is refused (``basic.nack``) while one of its queues is just being deleted."""


def version_of(uri: str) -> tuple[int, ...]:
    """The version of the broker at an AMQP URI."""
    with Connection(uri) as connection:
        opened: amqp.Connection = connection.connection
        return tuple(int(part) for part in str(opened.server_properties["version"]).split(".")[:3])


def need_limit(uri: str, queue_type: str) -> None:
    """Skip a test that needs ``consumer_timeout`` where this broker has none for the type of queue."""
    if queue_type == "classic" and version_of(uri) >= CLASSIC_QUEUES_WITHOUT_LIMIT:
        pytest.skip("this RabbitMQ waits for acknowledgements to classic queues for ever")


def refused_while_going(uri: str) -> tuple[type[PublishRejected], ...]:
    """What a publisher is told for the moment in which a queue is just going: RabbitMQ 4.3 refuses, others never do."""
    refuses = uri.startswith("amqp") and version_of(uri) >= REFUSES_WHILE_GOING
    return (PublishRejected,) if refuses else ()


def as_declared(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a queue that was declared without a type; RabbitMQ 4.3 notes that it became a classic one."""
    return {key: value for key, value in arguments.items() if (key, value) != ("x-queue-type", "classic")}


@contextlib.contextmanager
def largest_body(node: ErlangAdmin, size: int) -> Iterator[None]:
    """The node refuses larger messages inside the block, on channels that are opened there."""
    before = node.evaluate(LARGEST_BODY % (size, size))
    try:
        yield
    finally:
        node.evaluate(LARGEST_BODY % (before, before))
