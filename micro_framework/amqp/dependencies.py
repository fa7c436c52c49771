"""What targets send with, and with it the running call's context data: `Producer`, `Publisher` and the RPC proxies.

`LegacyService` takes a class's methods over from Nameko (`micro_framework.amqp.takeover`).
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from micro_framework.amqp.arguments import kind_problems
from micro_framework.amqp.calls import ClusterRPCProxy, RPCProxy
from micro_framework.amqp.doors import PublisherDoor
from micro_framework.amqp.takeover import LegacyService
from micro_framework.amqp.topology import event_exchange_for, exchange_from, kombu_kinds, kombu_problems, queue_from
from micro_framework.brokers.port import Confirmation, Publication
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.exceptions import PublishError
from micro_framework.tracing import inject, sending
from micro_framework.wire.headers import encode_context
from micro_framework.wire.messages import PERSISTENT, Properties, event_properties, publisher_properties
from micro_framework.wire.naming import Exchange, Queue

if TYPE_CHECKING:  # at run time see `kombu_kinds`
    from kombu.entity import Exchange as KombuExchange, Queue as KombuQueue

__all__ = ["ClusterRPCProxy", "Dispatch", "LegacyService", "Producer", "Publish", "Publisher", "RPCProxy"]

WINDOW = 1000
"""Publishes of `Dispatch.many` that may wait for their confirms at once: the rate grows little beyond some hundreds."""


class Dispatch:
    """Dispatches events as one service, with the context data of one call: ``dispatch(event_name, payload)``.

    Thread safe. Every call returns once the broker has the event, or raises.
    """

    __slots__ = ("door", "exchange", "mandatory", "options", "worker")

    def __init__(
        self, door: PublisherDoor, exchange: str, worker: RunningCall, *, confirm: bool, mandatory: bool
    ) -> None:
        self.door = door
        self.exchange = exchange
        self.worker = worker
        self.options = {"confirm": confirm}
        self.mandatory = mandatory

    def __call__(self, event_name: str, payload: Any = None) -> None:
        """Dispatch one event.

        Args:
            event_name: The event's name, which is its routing key.
            payload: What the handlers get; anything the serializer takes.

        Raises:
            PublishTimeout: No answer within ``PUBLISH_TIMEOUT``: the event may have been delivered.
            PublishError: The broker's other answers.
            TypeError, ValueError: The payload cannot be encoded.
        """
        with sending(self.exchange, event_name):
            self.door.publish(self.publication(event_name, payload, self.headers()), **self.options)

    def many(self, events: Iterable[tuple[str, Any]]) -> None:
        """Dispatch many events without waiting for each: about ten times the rate of one after the other.

        Args:
            events: ``(event_name, payload)`` pairs; a generator is read as it goes.

        Raises:
            PublishError: As for a single event; the first error, after the outcome of the ones before it is known.
                Events after it may have been delivered.
        """
        with sending(self.exchange, ""):
            self.send_many(events)

    def send_many(self, events: Iterable[tuple[str, Any]]) -> None:
        """As `many`, in one span for all."""
        under_way: deque[Confirmation] = deque()
        publish, headers = self.door.door.publish, self.headers()
        properties: Properties | None = None
        try:
            for event_name, payload in events:
                publication = self.publication(event_name, payload, headers, properties)
                properties = publication.properties
                under_way.append(publish(publication, more=True, **self.options))
                if len(under_way) >= WINDOW:
                    under_way.popleft().wait(self.door.deadline())
        except PublishError:
            outcomes(under_way, time.monotonic())  # one wait in vain is enough: the rest is given up with it
            raise
        except BaseException:
            outcomes(under_way, self.door.deadline())  # the payload's fault: what came before it still goes out
            raise
        raise_first(outcomes(under_way, self.door.deadline()))

    def headers(self) -> dict[str, Any]:
        """What goes with every event that is sent now: the context of the call, and of the span."""
        call = self.worker.call
        headers = encode_context(call.context, call.identity.stack or None)
        inject(headers)
        return headers

    def publication(
        self, event_name: str, payload: Any, headers: Mapping[str, Any], before: Properties | None = None
    ) -> Publication:
        """The event as it goes out.

        Args:
            event_name: Its name.
            payload: What the handlers get.
            headers: Its headers.
            before: Properties of another event with these headers: if they fit, nobody need pack others.
        """
        body, content_type, encoding = self.door.source.serializers.encode(payload)
        if before is None or before.content_type != content_type or before.content_encoding != encoding:
            before = event_properties(headers, content_type=content_type, content_encoding=encoding)
        return Publication(self.exchange, event_name, body, before, self.mandatory)


def outcomes(confirmations: Iterable[Confirmation], deadline: float) -> list[PublishError]:
    """Wait for every confirm until the deadline (``time.monotonic()`` seconds); the errors, in order."""
    errors = []
    for confirmation in confirmations:
        try:
            confirmation.wait(deadline)
        except PublishError as error:
            errors.append(error)
    return errors


def raise_first(errors: Sequence[PublishError]) -> None:
    """Raise the first of the errors, if there is one; it says how many there are."""
    if errors:
        errors[0].add_note(f"{len(errors)} of the last publishes failed; this is the first error")
        raise errors[0]


class Producer(Dependency[Dispatch]):
    """Dispatches events: ``self.dispatch("order_created", {...})``; on the wire it is Nameko's ``EventDispatcher``.

    Args:
        service_name: Dispatch as this service; None: as the one that declares it.
        confirm_publish: Wait for the broker's confirm. False is faster and may lose events unnoticed.
        mandatory: Raise `Unroutable` when no queue is bound for the event; without it such an event is lost silently,
            as events are.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 events.py; seen on the wire.
    """

    publisher = PublisherDoor()

    def __init__(self, service_name: str | None = None, confirm_publish: bool = True, mandatory: bool = False) -> None:
        self.service_name = service_name
        self.confirm_publish = confirm_publish
        self.mandatory = mandatory

    def problems(self) -> list[str]:
        """Arguments of a wrong kind."""
        flags = {"confirm_publish": self.confirm_publish, "mandatory": self.mandatory}
        return [
            *kind_problems(self, "True or False", bool, **flags),
            *kind_problems(self, "a string or None", str | None, service_name=self.service_name),
        ]

    def described(self) -> dict[str, Any]:
        """The exchange its events go to."""
        exchange = event_exchange_for(self.service_name or self.host.service, self.host.settings)
        return {**super().described(), "exchange": exchange.name}

    def setup(self) -> None:
        """Declare the service's event exchange, unless ``DECLARE_EVENT_EXCHANGES`` leaves it to others."""
        settings = self.host.settings
        exchange = event_exchange_for(self.service_name or self.host.service, settings)
        self.exchange = exchange.name
        self.publisher.use((exchange,) if settings.declare_event_exchanges else ())

    def get_dependency(self, worker: RunningCall) -> Dispatch:
        """A `Dispatch` that sends the call's context data with every event."""
        return Dispatch(self.publisher, self.exchange, worker, confirm=self.confirm_publish, mandatory=self.mandatory)


class Publish:
    """Publishes messages with the context data of one call: ``publish(payload, routing_key=...)``. Thread safe."""

    __slots__ = ("declared", "worker")

    def __init__(self, declared: "Publisher", worker: RunningCall) -> None:
        self.declared = declared
        self.worker = worker

    def __call__(
        self,
        payload: Any,
        routing_key: str | None = None,
        *,
        exchange: str | None = None,
        headers: Mapping[str, Any] | None = None,
        mandatory: bool | None = None,
        expiration: float | None = None,
        priority: int = 0,
        delivery_mode: int = PERSISTENT,
        serializer: str | None = None,
    ) -> None:
        """Publish one message and wait for the confirm.

        Args:
            payload: Anything the serializer takes.
            routing_key: None: the declared one.
            exchange: The name of an exchange; None: the declared one.
            headers: Further headers; the call's context data wins over them.
            mandatory: None: as declared.
            expiration: Seconds to live (as Nameko has it, whatever its docstring says).
            priority: 0 to 255.
            delivery_mode: 2 persistent, 1 transient.
            serializer: None: the configured one.

        Raises:
            PublishTimeout: No answer within ``PUBLISH_TIMEOUT``: it may have been delivered.
            PublishError: The broker's other answers.
            TypeError, ValueError: The payload cannot be encoded.
        """
        declared = self.declared
        exchange = declared.exchange_name if exchange is None else exchange
        routing_key = declared.routing_key if routing_key is None else routing_key
        options = {"delivery_mode": delivery_mode, "priority": priority, "expiration": expiration}
        with sending(exchange, routing_key):
            self.send(payload, routing_key, exchange, headers, mandatory, serializer, options)

    def send(
        self,
        payload: Any,
        routing_key: str,
        exchange: str,
        headers: Mapping[str, Any] | None,
        mandatory: bool | None,
        serializer: str | None,
        options: Mapping[str, Any],
    ) -> None:
        """Publish, within its span."""
        declared, call = self.declared, self.worker.call
        context = encode_context(call.context, call.identity.stack)
        inject(context)
        encoded = declared.publisher.source.serializers.encode(payload, serializer)
        properties = publisher_properties(
            context,
            headers=headers,
            **options,
            content_type=encoded.content_type,
            content_encoding=encoded.content_encoding,
        )
        declared.publisher.publish(
            Publication(
                exchange,
                routing_key,
                encoded.body,
                properties,
                declared.mandatory if mandatory is None else mandatory,
            ),
            confirm=declared.confirm_publish,
        )


class Publisher(Dependency[Publish]):
    """Publishes to any exchange: ``self.publish(payload, routing_key=...)``; on the wire it is Nameko's ``Publisher``.

    Args:
        exchange: kombu's ``Exchange``, declared at the start; a name leaves its declaration to others; None is the
            default exchange, whose routing keys are queue names.
        routing_key: Used where a publish names none.
        declare: Further exchanges and queues to declare at the start.
        confirm_publish: Wait for the broker's confirm. False is faster and may lose messages unnoticed.
        mandatory: Raise `Unroutable` when no queue is bound for a message.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 messaging.py; seen on the wire.
    """

    publisher = PublisherDoor()

    def __init__(
        self,
        exchange: "KombuExchange | Exchange | str | None" = None,
        routing_key: str = "",
        *,
        declare: "Sequence[KombuExchange | KombuQueue | Exchange | Queue]" = (),
        confirm_publish: bool = True,
        mandatory: bool = False,
    ) -> None:
        self.declared_exchange = exchange
        self.routing_key = routing_key
        self.declare = tuple(declare)
        self.confirm_publish = confirm_publish
        self.mandatory = mandatory

    @property
    def exchange_name(self) -> str:
        """The exchange's name, empty for the default exchange."""
        exchange = self.declared_exchange
        return exchange if isinstance(exchange, str) else getattr(exchange, "name", None) or ""

    def problems(self) -> list[str]:
        """Arguments of a wrong kind."""
        flags = {"confirm_publish": self.confirm_publish, "mandatory": self.mandatory}
        exchanges, queues = exchange_kinds(), queue_kinds()
        found = kind_problems(self, "True or False", bool, **flags)
        found += kind_problems(self, "a string", str, routing_key=self.routing_key)
        what = "kombu's Exchange, a name or None"
        found += kind_problems(self, what, (*exchanges, str, type(None)), exchange=self.declared_exchange)
        for item in self.declare:
            found += kind_problems(self, "a list of kombu's Exchange and Queue", (*exchanges, *queues), declare=item)
        return found + kombu_problems(self, self.declared_exchange, *self.declare)

    def described(self) -> dict[str, Any]:
        """The exchange it publishes to."""
        return {**super().described(), "exchange": self.exchange_name, "routing_key": self.routing_key}

    def setup(self) -> None:
        """Declare what is to be declared."""
        exchanges = [item for item in self.declare if isinstance(item, exchange_kinds())]
        queues = [item for item in self.declare if isinstance(item, queue_kinds())]
        if self.declared_exchange is not None and not isinstance(self.declared_exchange, str):
            exchanges.insert(0, self.declared_exchange)
        named = tuple(exchange for exchange in map(exchange_from, exchanges) if exchange.name)
        self.publisher.use(named, tuple(map(queue_from, queues)))

    def get_dependency(self, worker: RunningCall) -> Publish:
        """A `Publish` that sends the call's context data with every message."""
        return Publish(self, worker)


def exchange_kinds() -> tuple[Any, ...]:
    return (Exchange, *kombu_kinds("Exchange"))


def queue_kinds() -> tuple[Any, ...]:
    return (Queue, *kombu_kinds("Queue"))
