"""The names and flags of Nameko's exchanges and queues, as declared (not as RabbitMQ records them).

RabbitMQ lists an exclusive queue as not durable although it was declared durable; what counts here is the
declaration, because a second declaration is compared with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = [
    "BROADCAST",
    "REPLY_QUEUE_EXPIRES",
    "RPC_EXCHANGE",
    "SERVICE_POOL",
    "SINGLETON",
    "STANDALONE_CLIENT",
    "STANDALONE_PROXY",
    "Binding",
    "Exchange",
    "HandlerType",
    "Queue",
    "event_exchange",
    "event_queue",
    "reply_queue",
    "rpc_exchange",
    "rpc_queue",
    "rpc_routing_key",
]

HandlerType: TypeAlias = Literal["service_pool", "singleton", "broadcast"]

SERVICE_POOL: HandlerType = "service_pool"
"""One queue per method of a service: one instance of the service handles each event (Nameko's constant)."""
SINGLETON: HandlerType = "singleton"
"""One queue per event: one handler of any service handles each event (Nameko's constant)."""
BROADCAST: HandlerType = "broadcast"
"""One queue per instance: every instance handles each event (Nameko's constant)."""

RPC_EXCHANGE = "nameko-rpc"
"""Nameko's default for the config key ``rpc_exchange``."""
REPLY_QUEUE_EXPIRES = 300_000
"""Milliseconds after which the broker drops a reply queue that nobody consumes (nameko >= 2.9, rpc.py)."""
STANDALONE_PROXY = "standalone_rpc_proxy"
"""The owner of a standalone client's reply queue in nameko 2.14.1."""
STANDALONE_CLIENT = "standalone_rpc_client"
"""The owner of a standalone client's reply queue in nameko 3.0.0rc11."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange as it is declared.

    Args:
        name: Its name; ``""`` is the default exchange.
        type: ``direct``, ``topic``, ``fanout``, ``headers``, or a plugin's.
        durable: Whether it outlives a restart of the broker.
        auto_delete: Whether the broker drops it with its last binding.
        arguments: Further arguments of the declaration.
        bindings: What leads into it from other exchanges; those are declared before it.
    """

    name: str
    type: str = "topic"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    bindings: tuple["Binding", ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """What leads from an exchange into a queue.

    Args:
        exchange: The exchange, with the flags to declare it with.
        routing_key: The binding key; wildcards where the exchange is a topic exchange.
        arguments: Further arguments of the binding.
    """

    exchange: Exchange
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it is declared, with its bindings in the order in which they are made.

    Args:
        name: Its name.
        durable: Whether it outlives a restart of the broker.
        exclusive: Whether it belongs to, and ends with, one connection.
        auto_delete: Whether the broker drops it with its last consumer.
        arguments: Further arguments of the declaration.
        bindings: What leads into it.
    """

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    bindings: tuple[Binding, ...] = ()


def event_exchange(service: str, *, auto_delete: bool = False) -> Exchange:
    """The exchange a service's events are published to.

    Args:
        service: The name of the dispatching service.
        auto_delete: True declares it as nameko <= 2.12 did, and as ``AUTO_DELETE_EVENT_EXCHANGES`` does
            since 2.14.

    Source: nameko 2.14.1 and 3.0.0rc11 standalone/events.py; seen on the wire.
    """
    return Exchange(f"{service}.events", auto_delete=auto_delete)


def event_queue(
    source: str,
    event: str,
    *,
    service: str,
    method: str,
    handler_type: HandlerType = SERVICE_POOL,
    reliable: bool = True,
    broadcast_identifier: str | None = None,
    exchange: Exchange | None = None,
) -> Queue:
    """The queue a handler of an event consumes, bound to the source's exchange with the event's type.

    Args:
        source: The name of the dispatching service.
        event: The event's type, or a topic pattern; it stands literally in the queue's name either way.
        service: The name of the handling service.
        method: The name of the handling method.
        handler_type: Who shares the queue, one of `SERVICE_POOL`, `SINGLETON`, `BROADCAST`.
        reliable: Whether events wait in the queue while no handler runs. False lets the queue end with its
            last consumer, and a broadcast queue with its connection.
        broadcast_identifier: What tells the queues of a broadcast's instances apart. Nameko's default is a
            new ``uuid4().hex`` at each start, for unreliable delivery only.
        exchange: The exchange to bind to, `event_exchange` of the source where None.

    Raises:
        ValueError: A broadcast without ``broadcast_identifier``, or a handler type there is none of.

    Source: nameko 2.14.1 and 3.0.0rc11 events.py; seen on the wire, but for the flags of an unreliable
    singleton, which follow events.py alone.
    """
    return Queue(
        name=event_queue_name(source, event, f"{service}.{method}", handler_type, broadcast_identifier),
        exclusive=handler_type == BROADCAST and not reliable,
        auto_delete=not reliable,
        bindings=(Binding(exchange or event_exchange(source), event),),
    )


def event_queue_name(
    source: str, event: str, handler: str, handler_type: HandlerType, broadcast_identifier: str | None
) -> str:
    if handler_type == SINGLETON:
        return f"evt-{source}-{event}"
    if handler_type == SERVICE_POOL:
        return f"evt-{source}-{event}--{handler}"
    if handler_type != BROADCAST:
        raise ValueError(f"expected a handler type of service_pool, singleton or broadcast, got {handler_type!r}")
    if not broadcast_identifier:
        raise ValueError(f"the broadcast queue of {handler} for {source}/{event} needs a broadcast_identifier")
    return f"evt-{source}-{event}--{handler}-{broadcast_identifier}"


def rpc_exchange(name: str = RPC_EXCHANGE) -> Exchange:
    """The exchange that carries all requests and all replies.

    Args:
        name: The value of the config key ``rpc_exchange``.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    return Exchange(name)


def rpc_queue(service: str, exchange: Exchange) -> Queue:
    """The queue of a service's RPC requests, bound for every method name of one word.

    Args:
        service: The name of the serving service.
        exchange: What `rpc_exchange` gives.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    return Queue(f"rpc-{service}", bindings=(Binding(exchange, f"{service}.*"),))


def reply_queue(owner: str, identifier: str, exchange: Exchange) -> Queue:
    """The queue a client's replies come to; its binding key, the identifier, is what goes into ``reply_to``.

    Durable, shared and never deleted but by expiry: a client that reconnects finds its replies.

    Args:
        owner: The name of the calling service, or `STANDALONE_PROXY` or `STANDALONE_CLIENT`.
        identifier: A ``uuid4`` with dashes, new for each client.
        exchange: What `rpc_exchange` gives.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    return Queue(
        f"rpc.reply-{owner}-{identifier}",
        arguments={"x-expires": REPLY_QUEUE_EXPIRES},
        bindings=(Binding(exchange, identifier),),
    )


def rpc_routing_key(service: str, method: str) -> str:
    """The routing key of a request; a method name with a dot in it reaches no queue.

    Source: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """
    return f"{service}.{method}"
