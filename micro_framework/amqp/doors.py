"""The connections AMQP extensions share: one consuming per context, one publishing per process, one broker for both."""

import time
from collections.abc import Hashable

from micro_framework.brokers.factory import broker_for
from micro_framework.brokers.port import (
    Broker,
    Consumer,
    Delivery,
    Door,
    DoorEvents,
    Publication,
    Publisher,
    Subscription,
)
from micro_framework.brokers.serializers import Serializers
from micro_framework.exceptions import BrokerError, ConfigError
from micro_framework.extensions import Extension, Host
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["BrokerSource", "ConsumerDoor", "PublisherDoor"]

CLOSE_BUDGET = 5.0
"""Seconds that a connection may take to cancel its consumers, and to write what is left and close."""

NO_URI = (
    "AMQP_URI is missing and something declared here needs a broker; set AMQP_URI: amqp://guest:guest@localhost:5672 "
    "for RabbitMQ, or AMQP_URI: memory:// for the broker inside the process (first steps and tests)"
)


class BrokerSource(Extension):
    """The broker and the serializers of the process."""

    broker: Broker
    serializers: Serializers

    def sharing_key(self, host: Host) -> Hashable:
        """One per process."""
        return "process"

    def problems(self) -> list[str]:
        """Whether there is a broker to speak of, and serializers by the names configured."""
        try:
            Serializers(self.host.settings)
        except ConfigError as error:
            return list(error.problems)
        return [] if self.host.settings.amqp_uri else [NO_URI]

    def setup(self) -> None:
        """Make both; nothing connects."""
        self.broker = broker_for(self.host.settings)
        self.serializers = Serializers(self.host.settings)


class SharedDoor(Extension):
    """What the two kinds of doors have in common: they connect when started, and report to the runner."""

    source = BrokerSource()
    door: Door
    used = False

    def start(self) -> None:
        """Begin to connect, if anything uses the door."""
        lifecycle = self.host.lifecycle
        if self.used:
            self.door.start(
                DoorEvents(on_ready=lifecycle.notify, on_lost=lambda error: lifecycle.notify(), on_refused=self.refused)
            )

    def stop(self) -> None:
        """Write what is left and close."""
        if self.used:
            self.door.stop(time.monotonic() + CLOSE_BUDGET)

    def is_ready(self) -> bool:
        """Whether it is connected, or nothing uses it."""
        return not self.used or self.door.ready

    def refused(self, error: BrokerError) -> None:
        """An answer that will not change ends the runner."""
        self.host.lifecycle.fail(error)


class ConsumerDoor(SharedDoor):
    """The consuming connection of a context. It closes last, after the last acknowledgement."""

    door: Consumer
    cancelled = False

    def __str__(self) -> str:
        return f"consuming connection of context {self.host.context!r}"

    def sharing_key(self, host: Host) -> Hashable:
        """One per context, so that a slow pool never holds up a fast one."""
        return host.context

    def setup(self) -> None:
        """Make the door."""
        self.door = self.source.broker.consumer(self.host.context)

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue once started. Call in ``setup``."""
        self.used = True
        self.door.subscribe(subscription)

    def cancel(self) -> None:
        """Receive nothing more, on any queue of the context; what was received can still be settled.

        Every entrypoint of the context asks for it, and a broker that does not answer is waited for once.
        """
        if not self.cancelled:
            self.cancelled = True
            self.door.cancel(time.monotonic() + CLOSE_BUDGET)


class PublisherDoor(SharedDoor):
    """The publishing connection of the process."""

    door: Publisher

    def __str__(self) -> str:
        return "publishing connection"

    def sharing_key(self, host: Host) -> Hashable:
        """One per process: many threads that publish at once share writes and confirms."""
        return "process"

    def setup(self) -> None:
        """Make the door."""
        process = self.host.process
        self.door = self.source.broker.publisher(f"publisher of {process}" if process else "publisher")

    def use(self, exchanges: tuple[Exchange, ...] = (), queues: tuple[Queue, ...] = ()) -> None:
        """Connect once started, and declare these. Call in ``setup``."""
        self.used = True
        self.door.declare(exchanges, queues)

    def deadline(self) -> float:
        """When a publish that begins now is given up: ``PUBLISH_TIMEOUT`` from now, in ``time.monotonic()`` seconds."""
        return time.monotonic() + self.host.settings.publish_timeout

    def publish(self, publication: Publication, *, confirm: bool = True) -> None:
        """Publish and wait for the confirm, at most ``PUBLISH_TIMEOUT``.

        Raises:
            PublishError: See `Confirmation.wait`.
        """
        self.door.publish(publication, confirm=confirm).wait(self.deadline())

    def delay(self, publication: Publication, delivery: Delivery, delay: int) -> None:
        """Put a message back into the queue a delivery came from, after ``delay`` milliseconds; waits for the confirm.

        Raises:
            PublishError: See `Confirmation.wait`.
        """
        self.door.delay(publication, queue=delivery.queue, delay=delay).wait(self.deadline())
