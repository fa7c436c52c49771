"""What to declare: Nameko's names and flags as configured, and kombu's objects as the port takes them."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from micro_framework.config import Settings
from micro_framework.wire.naming import Binding, Exchange, Queue, event_exchange

if TYPE_CHECKING:  # at run time see `kombu_kinds`
    from kombu.entity import Exchange as KombuExchange, Queue as KombuQueue

__all__ = ["described_queue", "event_exchange_for", "exchange_from", "kombu_kinds", "kombu_problems", "queue_from"]


def kombu_kinds(*names: str) -> tuple[Any, ...]:
    """kombu's classes of these names, for ``isinstance``; none where nobody has imported them, and so made an object.

    Importing kombu is a quarter of a service's start, and most services have no object of it.
    """
    entity = sys.modules.get("kombu.entity")
    return () if entity is None else tuple(getattr(entity, name) for name in names)


def event_exchange_for(service: str, settings: Settings) -> Exchange:
    """The event exchange of a service, with the flags that the configuration asks for."""
    return event_exchange(service, auto_delete=settings.auto_delete_event_exchanges)


def described_queue(queue: Queue) -> dict[str, Any]:
    """A queue with its bindings as plain data."""
    bindings = [{"exchange": each.exchange.name, "routing_key": each.routing_key} for each in queue.bindings]
    return {"queue": queue.name, "bindings": bindings}


def exchange_from(exchange: "KombuExchange | Exchange") -> Exchange:
    """An exchange as the port takes it.

    Args:
        exchange: kombu's ``Exchange``, as with Nameko's ``Publisher``, or one of this project's own.
    """
    return exchange if isinstance(exchange, Exchange) else exchange_of_kombu(exchange)


def queue_from(queue: "KombuQueue | Queue | str") -> Queue:
    """A queue as the port takes it.

    Args:
        queue: kombu's ``Queue``, as with Nameko's ``consume``, one of this project's own, or the name of a durable
            queue that only the default exchange leads to.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(queue, Queue):
        return queue
    if not isinstance(queue, (str, *kombu_kinds("Queue"))):
        raise TypeError(f"expected kombu's Queue or the name of a queue, not {queue!r}")
    return Queue(queue) if isinstance(queue, str) else queue_of_kombu(queue)


def exchange_of_kombu(exchange: Any) -> Exchange:
    """kombu's exchange, flag by flag. (kombu sets them dynamically, so a type checker does not know them.)"""
    return Exchange(
        exchange.name or "",
        exchange.type or "direct",
        durable=bool(exchange.durable),
        auto_delete=bool(exchange.auto_delete),
        arguments=dict(exchange.arguments or {}),
    )


def queue_of_kombu(queue: Any) -> Queue:
    """kombu's queue, flag by flag."""
    return Queue(
        queue.name,
        durable=bool(queue.durable),
        exclusive=bool(queue.exclusive),
        auto_delete=bool(queue.auto_delete),
        arguments=queue_arguments(queue),
        bindings=bindings_of(queue),
    )


def queue_arguments(queue: Any) -> Mapping[str, Any]:
    """The arguments of the declaration; kombu's attributes become RabbitMQ's ``x-`` arguments (seconds become ms)."""
    milliseconds = {"x-expires": queue.expires, "x-message-ttl": queue.message_ttl}
    numbers = {
        "x-max-length": queue.max_length,
        "x-max-length-bytes": queue.max_length_bytes,
        "x-max-priority": queue.max_priority,
    }
    return {
        **(queue.queue_arguments or {}),
        **{name: int(seconds * 1000) for name, seconds in milliseconds.items() if seconds is not None},
        **{name: int(number) for name, number in numbers.items() if number is not None},
    }


def bindings_of(queue: Any) -> tuple[Binding, ...]:
    """The queue's own binding, where its exchange has a name, and then its further ones."""
    own = (
        [(queue.exchange, queue.routing_key, queue.binding_arguments)] if queue.exchange and queue.exchange.name else []
    )
    further = [(binding.exchange, binding.routing_key, binding.arguments) for binding in queue.bindings or ()]
    return tuple(
        Binding(exchange_from(exchange), routing_key or "", dict(arguments or {}))
        for exchange, routing_key, arguments in [*own, *further]
    )


def kombu_problems(declaration: object, *declared: Any) -> list[str]:
    """A problem for each of kombu's options that would be ignored here.

    Args:
        declaration: What the objects were given to, for the text.
        declared: kombu's queues and exchanges; anything else passes.
    """
    options = ("no_declare", "passive", "consumer_arguments")
    asked = [
        (item.name, option)
        for item in declared
        if isinstance(item, kombu_kinds("Exchange", "Queue"))
        for option in options
        if getattr(item, option, None)
    ]
    return [f"{declaration}: {option} of {name!r} is not built yet; leave it out" for name, option in asked]
