"""What would happen if these queues and exchanges were declared and used here, without doing it.

Nothing is changed on the broker. How that goes, seen on RabbitMQ 3.10.8:

- Whether something exists: a passive declaration.
- Whether its flags are others: a declaration of what exists does nothing, or is refused with 406.
- Permissions: RabbitMQ looks at them before it looks at arguments, so each operation is asked for with an argument that
  cannot be accepted: 403 says that the permission is missing, 406 that it is there. A declaration with ``x-expires: 0``
  asks for *configure*, a consumer with a text for its priority for *read*, a message with a text for its expiration for
  *write*; taking away a binding that nobody has asks for *write* on the queue and *read* on the exchange.

Anything else than RabbitMQ might accept such arguments, so only RabbitMQ is asked for permissions.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import amqp

from micro_framework.brokers.rabbitmq.connection import LinkConnection
from micro_framework.brokers.rabbitmq.endpoints import Address, Endpoints
from micro_framework.brokers.rabbitmq.plugin import require_plugin
from micro_framework.brokers.rabbitmq.refusals import readable, refusal_for
from micro_framework.exceptions import BrokerRefused
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["Finding", "Wanted", "inspect_broker"]

SECONDS = 15.0
"""Longest wait for an answer."""
OLDEST_TRIED = (3, 10)
"""The oldest RabbitMQ that this is tested with."""
DEPRECATING = (4, 0)
"""From here on RabbitMQ calls transient queues that are not exclusive deprecated."""
NOT_FOUND, REFUSED, LOCKED, OTHER_FLAGS = 404, 403, 405, 406
IMPOSSIBLE_QUEUE = {"x-expires": 0}
IMPOSSIBLE_EXCHANGE = {"alternate-exchange": 0}
IMPOSSIBLE_CONSUMER = {"x-priority": "none"}
IMPOSSIBLE_EXPIRATION = "none"

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out.

    Args:
        level: ``error``: it would fail at the start; ``warning``: it would start; ``note``.
        what: What it is about: ``queue 'x'``, ``broker``.
        text: What it is, and what to do.
    """

    level: str
    what: str
    text: str


@dataclass
class Wanted:
    """What services would declare and use.

    Args:
        exchanges: Declared, by name.
        queues: Declared, by name.
        consumed: The names of queues that are consumed.
        published: The names of exchanges that are published to.
        delayed: The names of queues whose messages are put off in queues of their own.
        plugin: Whether the delayed message plugin is needed.
    """

    exchanges: dict[str, Exchange] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    consumed: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    delayed: set[str] = field(default_factory=set)
    plugin: bool = False


def inspect_broker(
    uri: str, wanted: Wanted, options: Mapping[str, Any], *, name: str = "micro-framework check"
) -> Iterator[Finding]:
    """Compare with every host that a URI names, one after the other.

    Args:
        uri: ``AMQP_URI``.
        wanted: What would be declared.
        options: Further arguments of `Endpoints`.
        name: What the broker lists the connection as.

    Raises:
        ConfigError: The URI cannot be used.
    """
    endpoints = Endpoints(uri, **options)
    reached, unreachable = False, []
    for address in endpoints.addresses:
        where = str(endpoints.current)
        try:
            connection = endpoints.connect_apart(name)
        except Exception as error:  # noqa: BLE001 - the network, TLS and the broker raise what they like
            refusal = refusal_for(error, address)
            text = str(refusal) if refusal else f"cannot be reached: {readable(error)}"
            unreachable.append(Finding(ERROR if refusal else WARNING, f"broker {where}", text))
            endpoints.move_on()
            continue
        yield from unreachable
        reached = True
        try:
            with connection.within(SECONDS):
                yield from Inspection(connection, address, wanted).findings()
            if wanted.plugin:
                yield from plugin_findings(endpoints, name, where)
        finally:
            connection.drop()
        break
    if not reached:
        yield from (Finding(ERROR, each.what, each.text) for each in unreachable)


def plugin_findings(endpoints: Endpoints, name: str, where: str) -> Iterator[Finding]:
    """Whether the plugin that is asked for is there."""
    try:
        require_plugin(endpoints.connect_apart(name), where)
    except BrokerRefused as error:
        yield Finding(ERROR, "RETRY_BACKEND", str(error))
    except Exception as error:  # noqa: BLE001 - it could not be found out, whyever
        yield Finding(WARNING, "RETRY_BACKEND", f"whether the plugin is there could not be found out: {error}")


class Inspection:
    """The questions, on one connection that is nobody else's.

    Args:
        connection: The connection.
        address: The broker.
        wanted: What would be declared.
    """

    def __init__(self, connection: LinkConnection, address: Address, wanted: Wanted) -> None:
        self.connection = connection
        self.address = address
        self.where = str(address)
        self.wanted = wanted
        self.open_channel: Any = None
        self.properties: Mapping[str, Any] = connection.server_properties or {}
        self.product = str(self.properties.get("product", "an unnamed product"))
        self.version = str(self.properties.get("version", ""))
        self.is_rabbitmq = self.product == "RabbitMQ"
        self.release = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])

    def findings(self) -> Iterator[Finding]:
        """Ask everything."""
        yield from self.about_the_broker()
        for exchange in self.wanted.exchanges.values():
            yield from self.about_exchange(exchange)
        for queue in self.wanted.queues.values():
            yield from self.about_queue(queue)
        if self.is_rabbitmq:
            yield from self.about_use()

    def about_the_broker(self) -> Iterator[Finding]:
        """What it is."""
        what = f"broker {self.where}"
        yield Finding(NOTE, what, f"{self.product} {self.version}")
        if not self.is_rabbitmq:
            yield Finding(WARNING, what, "this is not RabbitMQ, which this is made for; permissions were not checked")
        elif self.release < OLDEST_TRIED:
            yield Finding(WARNING, what, f"older than {'.'.join(map(str, OLDEST_TRIED))}; this was not tested with it")

    def about_exchange(self, exchange: Exchange) -> Iterator[Finding]:
        """Whether it is there, as declared, and may be declared."""
        what = f"exchange {exchange.name!r}"

        def declare(arguments: Mapping[str, Any], *, passive: bool = False) -> None:
            self.channel.exchange_declare(
                exchange.name,
                exchange.type,
                passive=passive,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                arguments=dict(arguments),
            )

        missing = self.answer(lambda: declare({}, passive=True))
        if missing is None:
            error = self.answer(lambda: declare(exchange.arguments))
            if error is None:
                return
            if error.reply_code == OTHER_FLAGS:
                yield Finding(WARNING, what, f"exists with other flags, and is adopted as it is: {readable(error)}")
            else:
                yield self.refused(what, error)
        elif missing.reply_code == NOT_FOUND:
            yield from self.about_absent(what, lambda: declare({**exchange.arguments, **IMPOSSIBLE_EXCHANGE}))
        else:
            yield self.refused(what, missing)

    def about_queue(self, queue: Queue) -> Iterator[Finding]:
        """Whether it is there, as declared, and may be declared."""
        what = f"queue {queue.name!r}"

        def declare(arguments: Mapping[str, Any], *, passive: bool = False) -> None:
            self.channel.queue_declare(
                queue.name,
                passive=passive,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=dict(arguments),
            )

        if not queue.durable and not queue.exclusive and self.is_rabbitmq and self.release >= DEPRECATING:
            yield Finding(
                WARNING,
                what,
                "is transient and not exclusive, which RabbitMQ 4 deprecates; it is refused where "
                "deprecated_features.permit.transient_nonexcl_queues = false; give it reliable_delivery=True",
            )
        missing = self.answer(lambda: declare({}, passive=True))
        if missing is None:
            if (error := self.answer(lambda: declare(queue.arguments))) is not None:
                yield self.refused(what, error)
        elif missing.reply_code == NOT_FOUND:
            yield from self.about_absent(what, lambda: declare({**queue.arguments, **IMPOSSIBLE_QUEUE}))
        else:
            yield self.refused(what, missing)

    def about_absent(self, what: str, declare_impossible: Callable[[], None]) -> Iterator[Finding]:
        """Whether what does not exist could be made."""
        if self.is_rabbitmq:
            error = self.answer(declare_impossible)
            if error is not None and error.reply_code != OTHER_FLAGS:
                yield self.refused(what, error)
                return
        yield Finding(NOTE, what, "does not exist yet, and is made at the start")

    def about_use(self) -> Iterator[Finding]:
        """Permissions to consume, to bind, to publish, to put off."""
        wanted = self.wanted
        for name in sorted(wanted.consumed):
            yield from self.permitted(f"queue {name!r}", partial(self.consume_impossibly, name))
        for queue in wanted.queues.values():
            for binding in queue.bindings:
                if binding.exchange.name:
                    yield from self.permitted(
                        f"queue {queue.name!r}",
                        partial(self.unbind_nothing, queue.name, binding.exchange.name),
                    )
        for name in sorted(wanted.published):
            yield from self.permitted(f"exchange {name!r}", partial(self.publish_impossibly, name))
        for name in sorted(wanted.delayed):
            yield from self.permitted(
                f"queues for retries {name + '.mf-delay.*'!r}",
                partial(self.delay_impossibly, name),
            )

    def unbind_nothing(self, queue: str, exchange: str) -> None:
        """Take away a binding that nobody has."""
        self.channel.queue_unbind(queue, exchange, f"mf-check.{uuid4()}")

    def delay_impossibly(self, queue: str) -> None:
        """Ask for a queue for retries that there cannot be."""
        self.channel.queue_declare(
            f"{queue}.mf-delay.check-{uuid4()}", durable=True, auto_delete=False, arguments=IMPOSSIBLE_QUEUE
        )

    def consume_impossibly(self, queue: str) -> None:
        """Ask for a consumer that there cannot be."""
        self.channel.basic_consume(queue, consumer_tag="mf-check", arguments=IMPOSSIBLE_CONSUMER)

    def publish_impossibly(self, exchange: str) -> None:
        """Publish what the broker cannot take, and wait for its answer."""
        channel = self.channel
        channel.basic_publish(amqp.Message(b"", expiration=IMPOSSIBLE_EXPIRATION), exchange, "mf-check")
        channel.basic_qos(0, 1, False)

    def permitted(self, what: str, ask: Callable[[], Any]) -> Iterator[Finding]:
        """A finding only where permission is refused: everything else is the answer that was asked for."""
        error = self.answer(ask)
        if error is not None and error.reply_code == REFUSED:
            yield self.refused(what, error)

    @property
    def channel(self) -> Any:
        """A channel that is open."""
        if self.open_channel is None or not self.open_channel.is_open:
            self.open_channel = self.connection.channel()
        return self.open_channel

    def answer(self, ask: Callable[[], Any]) -> amqp.AMQPError | None:
        """What the broker objects to, None for nothing."""
        try:
            ask()
        except amqp.AMQPError as error:
            return error
        return None

    def refused(self, what: str, error: amqp.AMQPError) -> Finding:
        """What would end the start."""
        refusal = refusal_for(error, self.address)
        if refusal is None and error.reply_code == LOCKED:
            return Finding(WARNING, what, f"is in use by another connection just now: {readable(error)}")
        return Finding(ERROR, what, str(refusal or readable(error)))
