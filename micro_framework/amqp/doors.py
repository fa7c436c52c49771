"""The connections AMQP extensions share: one consuming per context, one publishing per process, one broker for all."""

import logging
import math
import threading
import time
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from micro_framework.amqp.overdue import overdue_report, standstill_report
from micro_framework.brokers.factory import broker_for
from micro_framework.brokers.port import (
    Broker,
    Confirmation,
    Consumer,
    Delivery,
    Door,
    DoorEvents,
    Publication,
    Publisher,
    Subscription,
    Verdict,
)
from micro_framework.brokers.serializers import Serializers
from micro_framework.entrypoints import RouteHandle
from micro_framework.exceptions import BrokerError, ConfigError, PublishError
from micro_framework.extensions import Extension, Host
from micro_framework.wire.naming import Exchange, Queue

if TYPE_CHECKING:  # a service without metrics starts sooner without
    from micro_framework.metrics.tallies import Tallies

__all__ = ["CLOSE_BUDGET", "BrokerSource", "ConsumerDoor", "PublisherDoor", "SharedDoor", "counted"]

P = TypeVar("P", bound=Publisher)

logger = logging.getLogger(__name__)

CLOSE_BUDGET = 5.0
"""Seconds that a connection may take to cancel its consumers, and to write what is left and close."""

ASK_SECONDS = 2.0
"""Longest wait for the type of a queue."""

NO_URI = (
    "AMQP_URI is missing and something declared here needs a broker; set AMQP_URI: amqp://guest:guest@localhost:5672 "
    "for RabbitMQ, or AMQP_URI: memory:// for the broker inside the process (first steps and tests)"
)

PLUGIN_IN_MEMORY = "RETRY_BACKEND is plugin, which RabbitMQ may have; memory:// delays by itself: leave it out there"


def counted(door: P, tallies: "Tallies | None") -> P:
    """A door that counts what is published, where things are counted."""
    if tallies is None:
        return door
    from micro_framework.brokers.measured import counted_publishes

    return counted_publishes(door, tallies)


class BrokerSource(Extension):
    """The broker and the serializers of the process."""

    broker: Broker
    serializers: Serializers

    def sharing_key(self, host: Host) -> Hashable:
        """One per process."""
        return "process"

    def problems(self) -> list[str]:
        """Whether there is a broker, with what is asked of it, and serializers by the names configured."""
        try:
            Serializers(self.host.settings)
        except ConfigError as error:
            return list(error.problems)
        settings = self.host.settings
        if settings.retry_backend == "plugin" and (settings.amqp_uri or "").startswith("memory:"):
            return [PLUGIN_IN_MEMORY]
        return [] if settings.amqp_uri else [NO_URI]

    def setup(self) -> None:
        """Make both; nothing connects."""
        self.broker = broker_for(self.host.settings)
        self.serializers = Serializers(self.host.settings)


class SharedDoor(Extension):
    """What all kinds of doors have in common: they connect when started, and report to the runner."""

    source = BrokerSource()
    door: Door
    used = False
    ready_at = -math.inf
    """When it was connected last, on the host's clock."""

    def start(self) -> None:
        """Begin to connect, if anything uses the door."""
        if self.used:
            self.door.start(self.events())

    def events(self) -> DoorEvents:
        """What the door tells."""
        events = DoorEvents(
            on_ready=self.became_ready,
            on_lost=self.lost,
            on_refused=self.refused,
            on_overdue=self.overdue,
            on_standstill=self.stood_still,
        )
        tallies = self.host.tallies
        if tallies is None:
            return events
        from micro_framework.brokers.measured import counted_events

        return counted_events(events, str(self), self.door, tallies)

    def stop(self) -> None:
        """Write what is left and close."""
        self.close()

    def close(self) -> None:
        """Close the door, used or not."""
        self.door.stop(self.close_by())

    def close_by(self) -> float:
        """When a close that begins now must be over, in ``time.monotonic()`` seconds."""
        return time.monotonic() + CLOSE_BUDGET

    def is_ready(self) -> bool:
        """Whether it is connected, or nothing uses it."""
        return not self.used or self.door.ready

    def became_ready(self) -> None:
        """Connected, for the first time or again."""
        self.ready_at = self.host.clock.now()
        self.host.lifecycle.notify()

    def lost(self, error: BaseException) -> None:
        """The connection broke; the door reconnects."""
        self.host.lifecycle.notify()

    def refused(self, error: BrokerError) -> None:
        """An answer that will not change ends the runner."""
        self.host.lifecycle.fail(error)

    def overdue(self, seconds: float | None) -> None:
        """The broker took back what was not acknowledged within so many seconds, None where it did not say."""

    def stood_still(self, began: float, ended: float) -> None:
        """The connection was lost, for the process stood still for so long."""


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
        self.door = self.make_door()
        self.served: list[RouteHandle] = []
        self.put_off: dict[Delivery, None] = {}
        self.awaited: dict[Delivery, Confirmation] = {}

    def make_door(self) -> Consumer:
        """The door."""
        return self.source.broker.consumer(self.host.context)

    def serve(self, route: RouteHandle) -> None:
        """Note a route whose messages come by this connection. Call in ``setup``."""
        self.served.append(route)

    def overdue(self, seconds: float | None) -> None:
        """Tell which calls kept their messages for too long, and the ways out."""
        logger.error(
            "%s: %s", self, overdue_report(seconds, [call for each in self.served for call in each.underway()])
        )

    def stood_still(self, began: float, ended: float) -> None:
        """Tell which calls ran meanwhile, for one of them has held the interpreter."""
        ran = [call for each in self.served for call in each.ran_during(began, ended)]
        logger.error("%s: %s", self, standstill_report(ended - began, ran))

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue once started. Call in ``setup``."""
        self.used = True
        self.door.subscribe(subscription)

    def acknowledge_at(self, delivery: Delivery, due: float) -> None:
        """Acknowledge a delivery at a time of the host's clock, now if that has passed; when the door closes at last.

        Thread safe.
        """
        clock = self.host.clock
        if clock.now() >= due:
            delivery.settle(Verdict.ACK)
            return
        self.put_off[delivery] = None
        clock.call_at(due, lambda: self.acknowledge(delivery))

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge a delivery that was put off."""
        self.put_off.pop(delivery, None)
        delivery.settle(Verdict.ACK)

    def counts(self, queue: str) -> bool:
        """Whether a queue counts how often each of its messages comes back; asked once, which is waited for briefly."""
        return self.door.counts(queue, time.monotonic() + ASK_SECONDS)

    def acknowledge_after(self, delivery: Delivery, confirmation: Confirmation) -> None:
        """Acknowledge a delivery once a publish is confirmed, put it back if that fails; the door closes only then.

        Thread safe, never waits.
        """
        self.awaited[delivery] = confirmation
        confirmation.add_done_callback(partial(self.published, delivery))

    def published(self, delivery: Delivery, error: BaseException | None) -> None:
        """The publish that a delivery waits for has ended."""
        self.awaited.pop(delivery, None)
        delivery.settle(Verdict.REQUEUE if error else Verdict.ACK)

    def stop(self) -> None:
        """Acknowledge what was put off, write what is left and close."""
        for delivery in list(self.put_off):
            self.acknowledge(delivery)
        deadline = self.close_by()
        for delivery in list(self.awaited):
            confirmation = self.awaited.get(delivery)
            if confirmation is None:
                continue  # confirmed meanwhile
            try:
                confirmation.wait(deadline)
            except PublishError as error:
                self.published(delivery, error)
            else:
                self.published(delivery, None)
        super().stop()

    def close_by(self) -> float:
        """As long as the stop may take: a call whose answer the broker has not confirmed would run again."""
        return max(super().close_by(), self.host.lifecycle.stop_by)

    def cancel(self) -> None:
        """Receive nothing more, on any queue of the context; what was received can still be settled.

        Every entrypoint of the context asks for it, and a broker that does not answer is waited for once.
        """
        if not self.cancelled:
            self.cancelled = True
            self.door.cancel(time.monotonic() + CLOSE_BUDGET)


class PublisherDoor(SharedDoor):
    """The publishing connection of the process; made at the start where that was asked for, else when it is needed."""

    door: Publisher

    def __str__(self) -> str:
        return "publishing connection"

    def sharing_key(self, host: Host) -> Hashable:
        """One per process: many threads that publish at once share writes and confirms."""
        return "process"

    def setup(self) -> None:
        """Make the door."""
        process = self.host.process
        door = self.source.broker.publisher(f"publisher of {process}" if process else "publisher")
        self.door = counted(door, self.host.tallies)
        self.beginning = threading.Lock()
        self.begun = self.ended = False

    def use(self, exchanges: tuple[Exchange, ...] = (), queues: tuple[Queue, ...] = ()) -> None:
        """Connect once started, and declare these. Call in ``setup``."""
        self.used = True
        self.door.declare(exchanges, queues)

    def start(self) -> None:
        """Begin to connect, if anything is sure to use the door."""
        if self.used:
            self.connect()

    def connect(self) -> None:
        """Begin to connect, unless that has begun already, or everything ends. Thread safe."""
        with self.beginning:
            if self.begun or self.ended:
                return
            self.begun = True
            self.door.start(self.events())

    def stop(self) -> None:
        """Write what is left and close."""
        with self.beginning:
            self.ended = True
        self.close()

    def ensure(self, queue: Queue) -> None:
        """Have a queue exist; in ``setup`` this is noted for the start.

        Raises:
            PublishError: It cannot be declared.
        """
        self.door.ensure(queue, self.deadline())

    def deadline(self) -> float:
        """When a publish that begins now is given up: ``PUBLISH_TIMEOUT`` from now, in ``time.monotonic()`` seconds."""
        return time.monotonic() + self.host.settings.publish_timeout

    def publish(self, publication: Publication, *, confirm: bool = True) -> None:
        """Publish and wait for the confirm, at most ``PUBLISH_TIMEOUT``.

        Raises:
            PublishError: See `Confirmation.wait`.
        """
        self.door.publish(publication, confirm=confirm).wait(self.deadline())

    def expect_delays(
        self, queue: Queue, delays: Sequence[int], *, exchange: str = "", routing_key: str | None = None
    ) -> None:
        """Connect once started, ready to delay messages for a queue. Call in ``setup``; arguments as in the port."""
        self.use()
        self.door.expect_delays(queue, delays, exchange=exchange, routing_key=routing_key)

    def delay(
        self, publication: Publication, *, queue: str, delay: int, exchange: str = "", routing_key: str | None = None
    ) -> None:
        """Have a message come back to a queue after ``delay`` milliseconds; waits for the confirm.

        Raises:
            PublishError: See `Confirmation.wait`.
        """
        pending = self.door.delay(publication, queue=queue, delay=delay, exchange=exchange, routing_key=routing_key)
        pending.wait(self.deadline())
