"""Declaring exchanges, queues and bindings in Nameko's order, on channels that an error may close."""

import logging
import re
from collections.abc import Iterable
from threading import Lock
from typing import Any

import amqp

from micro_framework.brokers.rabbitmq.connection import LinkConnection
from micro_framework.brokers.rabbitmq.refusals import is_away
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["Adoptions", "Declarer"]

logger = logging.getLogger(__name__)


class Adoptions:
    """Which exchanges and queues were found with other flags; each is told once. Thread safe.

    Args:
        where: The broker, for the log.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._told: set[tuple[str, str]] = set()
        self._lock = Lock()

    def tell(self, name: str, difference: str, kind: str = "exchange") -> None:
        """Log that an exchange (or a queue, if that is the kind) is used as it is, the first time."""
        with self._lock:
            if (kind, name) in self._told:
                return
            self._told.add((kind, name))
        logger.warning(
            "%s %r on %s exists with other flags (%s) and is adopted as it is", kind, name, self._where, difference
        )


class Declarer:
    """Declares on one connection, on the reading thread. A context manager: closes its channel at the end.

    Args:
        connection: The connection.
        adoptions: Who tells of exchanges with other flags.
    """

    def __init__(self, connection: LinkConnection, adoptions: Adoptions) -> None:
        self._connection = connection
        self._adoptions = adoptions
        self._open_channel: Any = None

    def __enter__(self) -> "Declarer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None and self._open_channel is not None:
            self._open_channel.close()

    @property
    def channel(self) -> Any:
        """A channel that is open: a refused declaration closes the one before."""
        if self._open_channel is None or not self._open_channel.is_open:
            self._open_channel = self._connection.channel()
        return self._open_channel

    def exchanges(self, exchanges: Iterable[Exchange]) -> None:
        """Declare exchanges; one that exists with other flags is adopted.

        Raises:
            amqp.AMQPError: The broker refused.
        """
        for exchange in exchanges:
            if exchange.name:  # the default exchange cannot be declared
                self._exchange(exchange)
            for binding in exchange.bindings:
                self.exchanges((binding.exchange,))
                self.channel.exchange_bind(exchange.name, binding.exchange.name, binding.routing_key)

    def _exchange(self, exchange: Exchange) -> None:
        try:
            self.channel.exchange_declare(
                exchange.name,
                exchange.type,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                arguments=dict(exchange.arguments),
            )
        except amqp.PreconditionFailed as error:
            if "inequivalent" not in error.reply_text:
                raise
            # It exists: its name is all that publishing and binding need.
            self._adoptions.tell(exchange.name, difference_in(error.reply_text))

    def exists(self, queue: str) -> bool:
        """Whether there is a queue of this name.

        Raises:
            amqp.AMQPError: The broker refused to tell, or the queue is on a node of the cluster that is down.
        """
        try:
            self.channel.queue_declare(queue, passive=True)
        except amqp.NotFound as error:
            if is_away(error):
                raise
            return False
        return True

    def delete(self, queue: str) -> None:
        """Delete a queue with what it holds; if there is none, nothing happens.

        Raises:
            amqp.AMQPError: The broker refused.
        """
        self.channel.queue_delete(queue)

    def queue(self, queue: Queue, *, exchanges: bool = True) -> None:
        """Declare a queue's exchanges (if asked), the queue, its bindings.

        Raises:
            amqp.AMQPError: The broker refused.
        """
        if exchanges:
            self.exchanges(binding.exchange for binding in queue.bindings)
        self.channel.queue_declare(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=dict(queue.arguments),
        )
        for binding in queue.bindings:
            if binding.exchange.name:  # the default exchange binds every queue by its name
                self.channel.queue_bind(
                    queue.name, binding.exchange.name, binding.routing_key, arguments=dict(binding.arguments)
                )

    def any_queue(self, queue: Queue) -> None:
        """Declare a queue; one that exists with other flags is adopted.

        Raises:
            amqp.AMQPError: The broker refused.
        """
        try:
            self.queue(queue)
        except amqp.PreconditionFailed as error:
            if "inequivalent" not in error.reply_text:
                raise
            self._adoptions.tell(queue.name, difference_in(error.reply_text), "queue")


def difference_in(text: str) -> str:
    """What differs, in the broker's words, without the rest of its sentence."""
    match = re.search(r"inequivalent arg '([^']*)'.*?: (received .*)", text)
    return f"{match[1]}: {match[2]}" if match else text
