"""What the demo leaves on a RabbitMQ, and its deletion."""

from dataclasses import dataclass
from typing import Any

from kombu.connection import Connection

from micro_framework.amqp.entrypoints import MessageListener
from micro_framework.brokers.rabbitmq.delays import delay_queue_name
from micro_framework.cli.demo.shop import RETRY_AFTER
from micro_framework.runner import Runner

__all__ = ["Leftovers", "delete", "leftovers_of"]

CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Names of queues and exchanges."""

    queues: tuple[str, ...]
    exchanges: tuple[str, ...]


def leftovers_of(runner: Runner) -> Leftovers:
    """What the demo's services declare, and the queue that their retries wait in."""
    queues, exchanges = [], []
    for route in runner.assembly.routes:
        if isinstance(route.entrypoint, MessageListener):
            queue = route.entrypoint.queue()
            queues += [queue.name, *([delay_queue_name(queue.name, RETRY_AFTER)] if route.retries else [])]
            exchanges += [binding.exchange.name for binding in queue.bindings]
    return Leftovers(tuple(queues), tuple(dict.fromkeys(exchanges)))


def delete(uri: str, leftovers: Leftovers) -> None:
    """Delete queues and exchanges; what does not exist is as good as deleted.

    Args:
        uri: The broker's.
        leftovers: What to delete.

    Raises:
        Exception: Whatever kombu raises where the broker cannot be reached.
    """
    with Connection(uri, connect_timeout=CONNECT_SECONDS) as connection:  # type: ignore[no-untyped-call]
        channel: Any = connection.default_channel
        for queue in leftovers.queues:
            channel.queue_delete(queue)
        for exchange in leftovers.exchanges:
            channel.exchange_delete(exchange)
