"""`EventListener`, `QueueListener`, `RPCListener`: messages drive targets, with Nameko's queues and verdicts."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from micro_framework.amqp.arguments import called_with, kind_problems, listed
from micro_framework.amqp.arriving import arriving
from micro_framework.amqp.doors import BrokerSource, ConsumerDoor, PublisherDoor
from micro_framework.amqp.parking import Parking, copy_of
from micro_framework.amqp.serving import RPCListener
from micro_framework.amqp.topology import described_queue, event_exchange_for, kombu_problems, queue_from
from micro_framework.backoff import attempt_from_headers, attempt_to_headers
from micro_framework.brokers.port import Delivery, Subscription, Verdict
from micro_framework.calls import FIRST_ATTEMPT, Attempt, Call, FailedAttempt, Outcome
from micro_framework.entrypoints import Entrypoint
from micro_framework.parking import Failure, crashes_of, first_failure_header
from micro_framework.translators import MessageTranslator, translate
from micro_framework.wire.naming import BROADCAST, SERVICE_POOL, SINGLETON, HandlerType, Queue, event_queue

if TYPE_CHECKING:  # at run time see `topology.kombu_kinds`
    from kombu.entity import Queue as KombuQueue

__all__ = ["EventListener", "MessageListener", "QueueListener", "RPCListener"]

LONGEST_NAME = 255
"""Bytes of a queue's name: AMQP 0-9-1 sends it as a short string."""

PREVIEW = 60
"""Bytes of a body that are logged when it cannot be decoded."""


class MessageListener(Entrypoint):
    """Base of entrypoints that consume one queue; a subclass says which (`queue`).

    Args:
        requeue_on_error: Put a message whose call failed back at once, instead of acknowledging it. There is no pause
            and no limit: a message that always fails is delivered again for ever. Prefer ``backoff=``.
        payload_filter: Gets the translated payload; where it returns false the message is acknowledged and the target
            does not run.
        translators: Change the payload before the filter sees it, in this order.
        sensitive_arguments: What the log does not show of a failed call: ``"payload"``, or paths into it such as
            ``"payload.card.number"``, beginning with the name of the target's parameter.
    """

    source = BrokerSource()
    consumer = ConsumerDoor()
    publisher = PublisherDoor()
    retryable = True
    parkable = True
    repeatable = True
    arguments = ("payload",)
    declare_exchanges = True

    def __init__(
        self,
        *,
        requeue_on_error: bool = False,
        payload_filter: Callable[[Any], object] | None = None,
        translators: Sequence[MessageTranslator] = (),
        sensitive_arguments: str | Sequence[str] = (),
    ) -> None:
        self.sensitive_arguments = listed(sensitive_arguments)
        self.requeue_on_error = requeue_on_error
        self.payload_filter = payload_filter
        self.translators = tuple(translators)

    def problems(self) -> list[str]:
        """Arguments of a wrong kind."""
        found = kind_problems(self, "True or False", bool, requeue_on_error=self.requeue_on_error)
        found += kind_problems(self, "a function of the payload", Callable | None, payload_filter=self.payload_filter)
        for translator in self.translators:
            found += kind_problems(
                self, "instances such as JSONTranslator()", MessageTranslator, translators=translator
            )
        for path in self.sensitive_arguments:
            found += kind_problems(self, "names of arguments", str, sensitive_arguments=path)
        return found

    def queue(self) -> Queue:
        """The queue to declare and consume."""
        raise NotImplementedError(f"{type(self).__name__} must define queue()")

    def described(self) -> dict[str, Any]:
        """Its queue with its bindings."""
        return {**super().described(), **described_queue(self.queue()), "prefetch": self.host.prefetch}

    def setup(self) -> None:
        """Subscribe to the queue, and have the publishing connection ready if failed calls are put off or parked."""
        self.decode = self.source.serializers.decode
        self.tracked = self.host.settings.parent_calls_tracked
        self.retries = self.route.retries
        queue = self.queue()
        self.consumer.serve(self.route)
        self.consumer.subscribe(
            Subscription(
                queue,
                self.host.prefetch,
                self.route.submit,
                declare_exchanges=self.declare_exchanges,
                lookout=self.route.lookout,
            )
        )
        if self.route.retries:
            self.publisher.expect_delays(queue, self.route.expected_delays)
        if self.route.dead_letter:
            self.publisher.use()
        self.parking = Parking(queue, self.route.service, self.route.method, self.publisher, self.consumer)
        if self.route.dead_letter:
            self.parking.prepare()

    def stop(self) -> None:
        """Receive nothing more."""
        self.consumer.cancel()

    def parking_problem(self) -> str | None:
        """What is put back for ever is never parked."""
        if self.requeue_on_error:
            return f"{self}: requeue_on_error=True puts a failed message back for ever; leave out that or dead_letter="
        return None

    def crashes(self, item: Delivery) -> int:
        """How many workers have died of a message, as far as known."""
        return crashes_of(item.properties.headers, redelivered=item.redelivered)

    def to_call(self, item: Delivery) -> Call:
        """Decode body and headers; the call's id is new, its parents' ids come from the headers.

        Raises:
            UndecodableMessage: The body is not what its content type says, or that type is not accepted.
        """
        properties = item.properties
        headers = properties.headers
        payload = self.decode(
            item.body, properties.content_type, properties.content_encoding, headers.get("compression")
        )
        context, identity = arriving(headers, self.route, self.tracked)
        attempt = attempt_from_headers(headers, self.route.max_retries) if self.retries else FIRST_ATTEMPT
        return Call(identity, (payload,), {}, context, attempt)

    def prepare(self, call: Call) -> Call | None:
        """Translate and filter the payload."""
        if not self.translators and self.payload_filter is None:
            return call
        (payload,) = call.args
        payload = translate(self.translators, payload)
        if self.payload_filter is not None and not self.payload_filter(payload):
            return None
        return replace(call, args=(payload,))

    def shown(self, call: Call) -> str:
        """The payload, shortened and without what is sensitive."""
        return called_with(call, self.route, self.sensitive_arguments)

    def settle(self, item: Delivery, outcome: Outcome) -> None:
        """Acknowledge; a failed call's message too, unless ``requeue_on_error`` (Nameko's rule)."""
        if outcome.error is not None and self.requeue_on_error:
            self.hand_back(item)
        else:
            item.settle(Verdict.ACK)

    def refuse(self, item: Delivery, error: BaseException) -> str:
        """Acknowledge what cannot be decoded: Nameko's rule, and nobody could decode it later either."""
        item.settle(Verdict.ACK)
        return f"dropped {described(item)} that cannot be decoded"

    def hand_back(self, item: Delivery) -> None:
        """Put it back into the queue."""
        self.parking.give_back(item)

    def retry(self, item: Delivery, attempt: Attempt, delay: int) -> None:
        """Publish the same body to the same queue with a delay; acknowledge once the broker has confirmed that.

        Raises:
            PublishError: The copy is not certain to be there; the original is untouched.
        """
        first = first_failure_header(item.headers, attempt.history[-1])
        copy = copy_of(item, {**first, **attempt_to_headers(attempt)})
        self.publisher.delay(copy, queue=item.queue, delay=delay)
        item.settle(Verdict.ACK)

    def run_again(self, item: Delivery, crashes: int, failed: FailedAttempt) -> None:
        """Publish the same body to the same queue, marked; acknowledge once the broker has confirmed that.

        Raises:
            PublishError: The copy is not certain to be there; the original is untouched.
        """
        self.parking.run_again(item, crashes, failed)

    def park(self, item: Delivery, failure: Failure) -> str:
        """Publish it to the queue for parked messages; acknowledge once the broker has confirmed that.

        Raises:
            PublishError: The copy is not certain to be there; the original is untouched.
        """
        self.parking.park(item, failure)
        return f"parked in queue {self.parking.parked.name!r} ({failure.reason}): {described(item)}"


def described(item: Delivery) -> str:
    """A message, for the log."""
    return (
        f"a message from queue {item.queue!r} (exchange {item.exchange!r}, routing key {item.routing_key!r}, "
        f"{len(item.body)} bytes: {bytes(item.body[:PREVIEW])!r})"
    )


class EventListener(MessageListener):
    """Runs the target for events; on the wire it is Nameko's ``event_handler``, queue by queue.

    Args:
        source_service: The service that dispatches the event.
        event_name: The event's name; a topic pattern (``order.*``) listens to all that match.
        handler_type: ``service_pool``: one instance of this service gets each event; ``singleton``: one instance of any
            service; ``broadcast``: every instance.
        reliable_delivery: Whether events wait while no instance runs. None: true, for a broadcast false.
        broadcast_identifier: Tells the queues of a reliable broadcast's instances apart; one that stays the same from
            start to start.
        requeue_on_error, payload_filter, translators, sensitive_arguments: As `MessageListener`.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 events.py; seen on the wire.
    """

    result_needed = False

    def __init__(
        self,
        source_service: str,
        event_name: str,
        handler_type: str = SERVICE_POOL,
        reliable_delivery: bool | None = None,
        broadcast_identifier: str | None = None,
        requeue_on_error: bool = False,
        payload_filter: Callable[[Any], object] | None = None,
        translators: Sequence[MessageTranslator] = (),
        sensitive_arguments: str | Sequence[str] = (),
    ) -> None:
        super().__init__(
            requeue_on_error=requeue_on_error,
            payload_filter=payload_filter,
            translators=translators,
            sensitive_arguments=sensitive_arguments,
        )
        self.source_service = source_service
        self.event_name = event_name
        self.handler_type = handler_type
        self.reliable_delivery = handler_type != BROADCAST if reliable_delivery is None else reliable_delivery
        self.broadcast_identifier = broadcast_identifier

    def __str__(self) -> str:
        return f"EventListener({self.source_service!r}, {self.event_name!r})"

    def problems(self) -> list[str]:
        """Arguments of a wrong kind, or that do not fit together."""
        found = super().problems()
        types = (SERVICE_POOL, SINGLETON, BROADCAST)
        if self.handler_type not in types:
            found.append(f"{self}: handler_type must be one of {', '.join(types)}, not {self.handler_type!r}")
        if self.handler_type == BROADCAST and self.reliable_delivery and not self.broadcast_identifier:
            found.append(
                f"{self}: a reliable broadcast needs broadcast_identifier=, different for each instance and the same "
                "after a restart (a host name, for instance); or leave out reliable_delivery=True"
            )
        found += kind_problems(self, "a string", str, source_service=self.source_service, event_name=self.event_name)
        found += kind_problems(self, "a string or None", str | None, broadcast_identifier=self.broadcast_identifier)
        found += kind_problems(self, "True, False or None", bool, reliable_delivery=self.reliable_delivery)
        if not self.source_service or not self.event_name:
            found.append(f"{self}: source_service and event_name must not be empty")
        return found or list(self.name_problems())

    def name_problems(self) -> Iterator[str]:
        """A queue name that AMQP has no room for; known once the route is."""
        size = len(self.queue().name.encode()) if hasattr(self, "route") else 0
        if size > LONGEST_NAME:
            yield (
                f"{self}: its queue's name has {size} bytes and AMQP takes {LONGEST_NAME}; shorten the name of the "
                "service, the method or the event"
            )

    def described(self) -> dict[str, Any]:
        """The event and the queue."""
        own = {"source": self.source_service, "event": self.event_name, "handler_type": self.handler_type}
        return {**super().described(), **own}

    def claim(self) -> str | None:
        """The queue of a service pool belongs to one method; a singleton's is shared on purpose."""
        return f"the queue {self.queue().name!r}" if self.handler_type == SERVICE_POOL else None

    def setup(self) -> None:
        """As `MessageListener`; the exchange is left to others if ``DECLARE_EVENT_EXCHANGES`` says so."""
        self.declare_exchanges = self.host.settings.declare_event_exchanges
        super().setup()

    def queue(self) -> Queue:
        """Nameko's queue for this handler."""
        identifier = self.broadcast_identifier
        if self.handler_type == BROADCAST and identifier is None:
            identifier = uuid.uuid4().hex  # nameko's default: a new one at each start
        return event_queue(
            self.source_service,
            self.event_name,
            service=self.route.service,
            method=self.route.method,
            handler_type=cast(HandlerType, self.handler_type),
            reliable=self.reliable_delivery,
            broadcast_identifier=identifier,
            exchange=event_exchange_for(self.source_service, self.host.settings),
        )


class QueueListener(MessageListener):
    """Runs the target for the messages of any queue; on the wire it is Nameko's ``consume``.

    Args:
        queue: kombu's ``Queue``, declared as it is given, or the name of a durable queue.
        requeue_on_error, payload_filter, translators, sensitive_arguments: As `MessageListener`.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 messaging.py; seen on the wire.
    """

    result_needed = False

    def __init__(
        self,
        queue: "KombuQueue | Queue | str",
        requeue_on_error: bool = False,
        payload_filter: Callable[[Any], object] | None = None,
        translators: Sequence[MessageTranslator] = (),
        sensitive_arguments: str | Sequence[str] = (),
    ) -> None:
        super().__init__(
            requeue_on_error=requeue_on_error,
            payload_filter=payload_filter,
            translators=translators,
            sensitive_arguments=sensitive_arguments,
        )
        self.given_queue = queue
        self.declared_queue = queue_from(queue)

    def __str__(self) -> str:
        return f"QueueListener({self.declared_queue.name!r})"

    def problems(self) -> list[str]:
        """Arguments of a wrong kind, or a queue without a name."""
        nameless = [] if self.declared_queue.name else ["QueueListener needs a queue with a name"]
        return super().problems() + nameless + kombu_problems(self, self.given_queue)

    def queue(self) -> Queue:
        """The queue as it was given."""
        return self.declared_queue
