"""Parking: a message that has failed for good waits beside its queue until somebody looks at it.

Nameko's queues have no dead-letter arguments, and what a queue was declared with cannot be changed. So the message is
published again, to a queue of its own, and the original is acknowledged once the broker has confirmed the copy.

A broker that is killed may forget a queue that was declared moments before, and with it the confirmed messages in there
(seen on RabbitMQ 3.10.8, of both types). So until the parked queue is old enough, the originals stay unacknowledged a
little longer: if the broker dies meanwhile, they are delivered again.
"""

import math
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from micro_framework.amqp.doors import ConsumerDoor, PublisherDoor
from micro_framework.brokers.port import Delivery, Publication, Verdict
from micro_framework.calls import FailedAttempt
from micro_framework.exceptions import PublishError, Unroutable
from micro_framework.parking import (
    Failure,
    Place,
    copied_headers,
    crash_headers,
    crashes_of,
    parked_properties,
    parked_queue_name,
)
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue

__all__ = ["Parking", "copy_of", "parking_queue"]

QUEUE_TYPE = "x-queue-type"
KEPT_TYPES = ("classic", "quorum")


def parking_queue(queue: Queue) -> Queue:
    """The queue that the messages of another one are parked in: durable, and of the same type where that is said.

    Where it is not, both have the type that the virtual host gives to queues by default.
    """
    kind = queue.arguments.get(QUEUE_TYPE)
    return Queue(parked_queue_name(queue.name), arguments={QUEUE_TYPE: kind} if kind in KEPT_TYPES else {})


def copy_of(item: Delivery, headers: Mapping[str, Any]) -> Publication:
    """A message as it is published again, to its own queue alone and with further headers; the body is the same."""
    own = copied_headers(item.headers, item.exchange, item.routing_key)
    # It is ours: the broker refuses a user_id that is not the connection's own.
    properties = replace(item.properties, headers={**own, **headers}, user_id=None)
    return Publication("", item.queue, item.body, properties, mandatory=True)


class Parking:
    """What becomes of the messages of one queue that cannot just be acknowledged. Thread safe.

    Args:
        queue: The queue that is consumed.
        service: The name of the service that does.
        method: The target's name.
        publisher: Where copies are published.
        consumer: Where the queue is consumed.
    """

    def __init__(
        self, queue: Queue, service: str, method: str, publisher: PublisherDoor, consumer: ConsumerDoor
    ) -> None:
        self.queue = queue
        self.parked = parking_queue(queue)
        self.service = service
        self.method = method
        self.publisher = publisher
        self.consumer = consumer
        self.exists_since: float | None = None  # on the host's clock

    def prepare(self) -> None:
        """Have the parked queue there from the start, unless the queue itself comes and goes. Call in ``setup``."""
        if self.queue.durable and not (self.queue.exclusive or self.queue.auto_delete):
            self.publisher.ensure(self.parked)
            self.exists_since = -math.inf

    def park(self, item: Delivery, failure: Failure) -> None:
        """Publish the message to the parked queue; acknowledge the original once the broker has confirmed that.

        Raises:
            PublishError: The copy is not certain to be there; the original is untouched.
        """
        place = Place(item.queue, self.service, self.method, item.exchange, item.routing_key)
        properties = parked_properties(
            readable_properties(item), place, failure, identifier=str(uuid.uuid4()), traceback=traceback_of(failure)
        )
        publication = Publication("", self.parked.name, item.body, properties, mandatory=True)
        self.publisher.connect()
        try:
            self.publisher.publish(publication)
        except Unroutable:
            self.publisher.ensure(self.parked)
            self.exists_since = None
            self.publisher.publish(publication)
        self.consumer.acknowledge_at(item, self.safe_at())

    def safe_at(self) -> float:
        """When the parked queue is sure to survive that the broker is killed, on the host's clock."""
        now = self.consumer.host.clock.now()
        if self.exists_since is None:
            self.exists_since = now
        # After a reconnect it may be another broker that has it, and has it since then.
        since = max(self.exists_since, self.publisher.ready_at)
        return since + self.consumer.source.broker.durable_after

    def run_again(self, item: Delivery, crashes: int, failed: FailedAttempt) -> None:
        """Publish the message to its queue again, marked; acknowledge the original once the broker has confirmed that.

        Raises:
            PublishError: The copy is not certain to be there; the original is untouched.
        """
        self.publisher.connect()
        self.publisher.publish(copy_of(item, crash_headers(item.headers, crashes, failed)))
        item.settle(Verdict.ACK)

    def give_back(self, item: Delivery) -> None:
        """Put a message back that was not run, or whose run does not count. Waits once, for the queue's type.

        A queue that counts what comes back (quorum) gets it as a new message: its count is to tell of deaths alone, and
        RabbitMQ from 4.0 on drops a message that came back 20 times.
        """
        if not self.consumer.counts(item.queue):
            item.settle(Verdict.REQUEUE)
            return
        crashes = crashes_of(item.headers, redelivered=item.redelivered)
        copy = copy_of(item, crash_headers(item.headers, crashes) if crashes else {})
        self.publisher.connect()
        try:
            confirmation = self.publisher.door.publish(copy)
        except PublishError:
            item.settle(Verdict.REQUEUE)
        else:
            self.consumer.acknowledge_after(item, confirmation)


def readable_properties(item: Delivery) -> Properties:
    """The properties of a message, none where they cannot be read: the body is kept all the same."""
    try:
        return item.properties
    except Exception:  # noqa: BLE001 - whatever py-amqp finds wrong with bytes of somebody else's
        return Properties()


def traceback_of(failure: Failure) -> str:
    """The traceback of a failure, and after it that of its callback."""
    parts = traceback.format_exception(failure.error)
    if failure.callback_error is not None:
        parts += ["\nThen the callback failed:\n\n", *traceback.format_exception(failure.callback_error)]
    return "".join(parts)
