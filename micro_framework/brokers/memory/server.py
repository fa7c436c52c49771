"""The broker's side: exchanges, queues, and one lock around them that all doors share."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import RLock, Thread
from time import monotonic
from typing import Any, Protocol

from micro_framework.brokers.memory.delays import DelayTimer
from micro_framework.brokers.memory.queues import Consumption, MemoryDelivery, Message, StoredQueue
from micro_framework.brokers.memory.routing import MATCHERS, Routes
from micro_framework.exceptions import BrokerRefused, PublishError, UnknownExchange, Unroutable
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["Connection", "Contender", "MemoryServer", "StoredExchange"]

logger = logging.getLogger(__name__)

KNOWN_QUEUE_ARGUMENTS = frozenset({"x-message-ttl", "x-expires", "x-queue-type", "x-queue-mode", "x-queue-version"})
"""The first two are kept; the others choose how RabbitMQ stores a queue, which makes no difference here."""

PREDECLARED = tuple(
    Exchange(name=f"amq.{kind}", type=kind, durable=True, auto_delete=False, arguments={}) for kind in MATCHERS
)
"""As in every broker (AMQP 0-9-1, section 3.1.3)."""


class Connection(Protocol):
    """What the server sees of a door: an exclusive queue is one door's own, and goes with it."""

    def lose_connection(self, error: BaseException) -> None:
        """The connection broke."""

    def regain_connection(self) -> None:
        """It can connect again, and should at once."""


class Contender(Protocol):
    """What the server sees of a door that takes part in locks."""

    def hold(self, name: str) -> None:
        """The lock is this door's now."""


class StoredExchange:
    """A declared exchange with its bindings."""

    def __init__(self, declared: Exchange) -> None:
        self.declared = declared
        self.routes = Routes(declared.type)


class MemoryServer:
    """Exchanges, queues and delays. Every method is called with `lock` held.

    Args:
        name: What the broker is called, for thread names and messages.
    """

    def __init__(self, name: str) -> None:
        # Reentrant: a log handler or a signal handler that publishes would otherwise wait for itself.
        self.lock = RLock()
        self._name = name
        self._exchanges = {exchange.name: StoredExchange(exchange) for exchange in PREDECLARED}
        self._queues: dict[str, StoredQueue] = {}
        self._doors: list[Connection] = []
        self._contenders: dict[str, list[Contender]] = {}  # by the name of a lock, the holder first
        self._timer = DelayTimer(name or "default", self.lock)

    # Doors

    def open_door(self, door: Connection) -> None:
        """A door opened; every one of them must be closed."""
        self._doors.append(door)
        self._timer.open()

    def close_door(self, door: Connection) -> Thread | None:
        """A door closed. Idempotent.

        Returns:
            The timer's thread if that was the last door, to be joined without the lock.
        """
        if door not in self._doors:
            return None
        self._doors.remove(door)
        return None if self._doors else self._timer.close()

    def drop_connections(self, error: BaseException) -> None:
        """Break the connection of every open door; they all come back at once."""
        doors = list(self._doors)
        for door in doors:
            door.lose_connection(error)
        for door in doors:
            door.regain_connection()

    # Declaring and consuming

    def declare_exchange(self, exchange: Exchange) -> None:
        """Create an exchange, or adopt the one of that name with one log line if its flags differ.

        Raises:
            BrokerRefused: It is of a kind that the embedded broker does not have.
        """
        known = self._exchanges.get(exchange.name)
        if known is None:
            self._refuse_unknown_exchange(exchange)
            self._exchanges[exchange.name] = StoredExchange(exchange)
        elif differences := flags_that_differ(exchange_flags(known.declared), exchange_flags(exchange)):
            logger.warning(
                "exchange %r exists with other flags and is adopted as it is: %s", exchange.name, differences
            )

    def declare_queue(self, queue: Queue, owner: Connection) -> None:
        """Create a queue and its bindings.

        Args:
            queue: The queue; its bindings' exchanges exist already.
            owner: The connection that an exclusive queue belongs to.

        Raises:
            BrokerRefused: It is another's, exists with other flags, or asks for what the embedded broker does not have.
        """
        known = self._queues.get(queue.name)
        if known is None:
            self._refuse_unknown_arguments(queue)
            self._queues[queue.name] = StoredQueue(queue, owner if queue.exclusive else None, self.lock)
        else:
            self._refuse_conflict(known, queue, owner)
        for binding in queue.bindings:
            self._bind(queue.name, binding.exchange.name, binding.routing_key)
        self._renew_lease(self._queues[queue.name])

    def ensure_queue(self, queue: Queue, owner: Connection) -> None:
        """Create a queue, or adopt the one of that name with one log line if its flags differ.

        Raises:
            BrokerRefused: It asks for what the embedded broker does not have.
        """
        known = self._queues.get(queue.name)
        if known is None:
            self.declare_queue(queue, owner)
        elif differences := flags_that_differ(queue_flags(known.declared), queue_flags(queue)):
            logger.warning("queue %r exists with other flags and is adopted as it is: %s", queue.name, differences)

    def find_queue(self, name: str) -> StoredQueue | None:
        """A queue by its name, None where there is none."""
        return self._queues.get(name)

    def delete_queue(self, name: str) -> None:
        """Delete a queue with what it holds, if it is there, and tell its consumers."""
        if (queue := self._queues.get(name)) is None:
            return
        cancelled = list(queue.consumptions)
        queue.consumptions.clear()
        self._delete_queue(queue)
        for consumption in cancelled:
            consumption.on_cancelled()

    def consume(
        self,
        queue: str,
        prefetch: int,
        hand_over: Callable[[MemoryDelivery], None],
        on_cancelled: Callable[[], None] = lambda: None,
    ) -> Consumption:
        """Register a consumer on a declared queue; it gets what waits there at once."""
        stored = self._queues[queue]
        consumption = Consumption(stored, prefetch, hand_over, on_cancelled)
        stored.consumptions.append(consumption)
        stored.deliver_what_fits()
        return consumption

    def end_consumption(self, consumption: Consumption) -> None:
        """Remove a consumer; an auto-delete queue goes with its last one, one with ``x-expires`` some time later."""
        queue = consumption.queue
        if consumption not in queue.consumptions:
            return
        queue.consumptions.remove(consumption)
        if queue.declared.auto_delete and not queue.consumptions:
            self._delete_queue(queue)
        else:
            self._renew_lease(queue)

    def delete_exclusive(self, owner: Connection) -> None:
        """Delete the queues that belong to a connection: it is gone."""
        for queue in [queue for queue in self._queues.values() if queue.owner is owner]:
            self._delete_queue(queue)

    # Locks

    def join(self, name: str, contender: Contender) -> bool:
        """Take part in a lock; whether it is held by this one at once."""
        contenders = self._contenders.setdefault(name, [])
        contenders.append(contender)
        return contenders[0] is contender

    def leave(self, name: str, contender: Contender) -> None:
        """Take part no more; the next in line holds the lock. Idempotent."""
        contenders = self._contenders.get(name, [])
        if contender not in contenders:
            return
        held = contenders[0] is contender
        contenders.remove(contender)
        if held and contenders:
            contenders[0].hold(name)

    def contenders(self, name: str) -> Sequence[Contender]:
        """Who takes part in a lock, its holder first."""
        return tuple(self._contenders.get(name, ()))

    # Publishing

    def publish(self, message: Message, *, mandatory: bool) -> PublishError | None:
        """Put a message into every queue that takes it.

        Returns:
            What the publisher is told: None when every queue has it.
        """
        queues = self._find_queues(message)
        if queues is None:
            return UnknownExchange(
                f"exchange {message.exchange!r} does not exist; start the service that declares it, or declare it"
            )
        if mandatory and not queues:
            return Unroutable(
                f"no queue is bound to exchange {message.exchange!r} for routing key {message.routing_key!r}"
            )
        for name in queues:
            self._queues[name].put(message)
        return None

    def delay(self, message: Message, queue: str, milliseconds: int) -> PublishError | None:
        """Publish a message later that is meant for a queue; the answer is as in `publish`."""
        if queue not in self._queues:
            return Unroutable(f"queue {queue!r} does not exist, so nothing can be delayed for it")
        if message.exchange and message.exchange not in self._exchanges:
            return UnknownExchange(f"exchange {message.exchange!r} does not exist, so nothing can come back through it")
        self._timer.schedule(monotonic() + milliseconds / 1000, partial(self._publish_delayed, message))
        return None

    def _find_queues(self, message: Message) -> Iterable[str] | None:
        if not message.exchange:
            return (message.routing_key,) if message.routing_key in self._queues else ()
        exchange = self._exchanges.get(message.exchange)
        return None if exchange is None else exchange.routes.find(message.routing_key)

    def _publish_delayed(self, message: Message) -> None:
        refusal = self.publish(message, mandatory=True)
        if refusal is not None:
            logger.warning("a message is dropped after its delay: %s", refusal)

    # Bindings and deletion

    def _bind(self, queue: str, exchange: str, routing_key: str) -> None:
        stored = self._exchanges.get(exchange)
        if stored is None:
            raise BrokerRefused(
                f"queue {queue!r} cannot be bound: exchange {exchange!r} does not exist; start the service that "
                "declares it first, or let this one declare it (DECLARE_EVENT_EXCHANGES)"
            )
        stored.routes.bind(queue, routing_key)
        self._queues[queue].bound_to.add(exchange)

    def _renew_lease(self, queue: StoredQueue) -> None:
        """Let a queue with ``x-expires`` go when nobody has consumed or declared it for that long."""
        if queue.lease_seconds is not None:
            queue.leases += 1
            self._timer.schedule(monotonic() + queue.lease_seconds, partial(self._expire, queue, queue.leases))

    def _expire(self, queue: StoredQueue, lease: int) -> None:
        if queue.leases == lease and not queue.consumptions and self._queues.get(queue.name) is queue:
            self._delete_queue(queue)

    def _delete_queue(self, queue: StoredQueue) -> None:
        del self._queues[queue.name]
        for name in queue.bound_to:
            self._unbind(self._exchanges[name], queue.name)

    def _unbind(self, exchange: StoredExchange, queue: str) -> None:
        exchange.routes.unbind(queue)
        if exchange.declared.auto_delete and not exchange.routes:
            del self._exchanges[exchange.declared.name]

    # Refusals

    def _refuse_unknown_exchange(self, exchange: Exchange) -> None:
        if not exchange.name or exchange.name.startswith("amq."):
            raise BrokerRefused(f"exchange name {exchange.name!r} is the broker's own; use another name")
        if exchange.type not in MATCHERS:
            self._refuse(f"exchange {exchange.name!r} is of type {exchange.type!r}", f"{', '.join(MATCHERS)} only")
        if exchange.arguments:
            self._refuse(f"exchange {exchange.name!r} has arguments {sorted(exchange.arguments)}", "none of these")

    def _refuse_unknown_arguments(self, queue: Queue) -> None:
        if unknown := sorted(set(queue.arguments) - KNOWN_QUEUE_ARGUMENTS):
            self._refuse(f"queue {queue.name!r} has arguments {unknown}", "none of these")

    def _refuse(self, found: str, instead: str) -> None:
        raise BrokerRefused(f"{found}, and the embedded broker has {instead}; use RabbitMQ (AMQP_URI: amqp://...)")

    def _refuse_conflict(self, known: StoredQueue, queue: Queue, owner: Connection) -> None:
        if known.owner not in (None, owner):
            raise BrokerRefused(
                f"queue {queue.name!r} is exclusive to another connection; stop that one, or use another queue name"
            )
        if differences := flags_that_differ(queue_flags(known.declared), queue_flags(queue)):
            raise BrokerRefused(
                f"queue {queue.name!r} exists with other flags: {differences}; delete the queue or declare it as it is"
            )


def exchange_flags(exchange: Exchange) -> dict[str, object]:
    return {
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "arguments": dict(exchange.arguments),
    }


def queue_flags(queue: Queue) -> dict[str, object]:
    return {
        "durable": queue.durable and not queue.exclusive,  # RabbitMQ records exclusive queues as transient
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "arguments": dict(queue.arguments),
    }


def flags_that_differ(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs, for people; empty when nothing does."""
    return ", ".join(
        f"{flag} is {known[flag]!r}, here {wanted[flag]!r}" for flag in known if known[flag] != wanted[flag]
    )
