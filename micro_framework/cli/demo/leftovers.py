"""What the demo leaves on a RabbitMQ, and its deletion."""

from collections.abc import Iterable
from typing import Any

from kombu.connection import Connection

from micro_framework.amqp.entrypoints import MessageListener
from micro_framework.runner import Runner
from micro_framework.wire.naming import Queue

__all__ = ["delete_queues", "queues_of"]

CONNECT_SECONDS = 5


def queues_of(runner: Runner) -> list[Queue]:
    """The queues that a runner's listeners declared, with the exchanges they are bound to."""
    return [entry.queue() for entry in runner.assembly.entrypoints() if isinstance(entry, MessageListener)]


def delete_queues(uri: str, queues: Iterable[Queue]) -> None:
    """Delete queues and the exchanges they are bound to; what does not exist is as good as deleted.

    Args:
        uri: The broker's.
        queues: The queues, with their bindings.

    Raises:
        Exception: Whatever kombu raises where the broker cannot be reached.
    """
    with Connection(uri, connect_timeout=CONNECT_SECONDS) as connection:  # type: ignore[no-untyped-call]
        channel: Any = connection.default_channel
        for queue in queues:
            channel.queue_delete(queue.name)
            for binding in queue.bindings:
                channel.exchange_delete(binding.exchange.name)
