"""The publishing door: one connection; a channel for publishing, another for delays, each with pipelined confirms.

Any thread packs its message, appends it to a channel's outbox and flushes the link; whoever gets the link's gate
numbers and writes everything in the outbox. What is written waits under its number until the broker's answer comes.
When the connection or the channel is lost, what waits goes back to the head of the outbox, in order, and is sent again.
"""

import logging
from collections.abc import Callable, Sequence
from time import monotonic

from micro_framework.brokers.port import DoorEvents, Publication
from micro_framework.brokers.rabbitmq.blame import locked_queue, missing_exchange
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.confirming import ConfirmingChannel
from micro_framework.brokers.rabbitmq.connection import LinkConnection
from micro_framework.brokers.rabbitmq.declarations import Adoptions, Declarer
from micro_framework.brokers.rabbitmq.delays import held_back, packed
from micro_framework.brokers.rabbitmq.frames import publish_frames
from micro_framework.brokers.rabbitmq.link import LinkFor
from micro_framework.brokers.rabbitmq.refusals import readable
from micro_framework.exceptions import BrokerRefused, PublishError
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["RabbitMQPublisher"]

logger = logging.getLogger(__name__)

PUBLISH_CHANNEL, DELAY_CHANNEL = 1, 2
DECLARE_SECONDS = 10.0


class RabbitMQPublisher:
    """A publishing connection (`micro_framework.brokers.port.Publisher`); opened once, never again after `stop`.

    Args:
        link_for: Gives the connection.
        adoptions: Who tells of exchanges with other flags.
    """

    def __init__(self, link_for: LinkFor, adoptions: Adoptions) -> None:
        self._adoptions = adoptions
        self._exchanges: list[Exchange] = []
        self._queues: list[Queue] = []
        self._direct = ConfirmingChannel(PUBLISH_CHANNEL, self._on_channel_closed)
        self._delayed = ConfirmingChannel(DELAY_CHANNEL, self._on_channel_closed)
        self._channels = (self._direct, self._delayed)
        self._unchecked: set[str] = set()  # exclusive queues: they exist, but may not be looked at from here
        self._refusal: BrokerRefused | None = None
        self._closing = False
        self._link = link_for(self)

    # The port.

    def start(self, events: DoorEvents) -> None:
        """Begin connecting on a thread of its own.

        Raises:
            BrokerError: It was started or stopped before.
        """
        self._link.start(events)

    @property
    def ready(self) -> bool:
        return self._link.ready

    def wait_ready(self, deadline: float) -> bool:
        return self._link.wait_ready(deadline)

    def declare(self, exchanges: Sequence[Exchange] = (), queues: Sequence[Queue] = ()) -> None:
        """Declare now if connected (waiting up to 10 s for that), and whenever the connection comes back."""
        self._exchanges += exchanges
        self._queues += queues
        if self._link.ready:
            self._link.call(lambda: self._declare_now(exchanges, queues), monotonic() + DECLARE_SECONDS)

    def publish(self, publication: Publication, *, confirm: bool = True) -> PendingPublish:
        """Publish without waiting; without a connection the message is sent when there is one.

        Raises:
            PublishError: The publisher is not started, or not any more.
        """
        pending = PendingPublish(
            publication, lambda size: publish_frames(PUBLISH_CHANNEL, publication, size), confirm, self._state
        )
        return self._hand_in(self._direct, pending)

    def delay(self, publication: Publication, *, queue: str, delay: int) -> PendingPublish:
        """Put a message into one queue after ``delay`` milliseconds, rounded up to two significant digits.

        Raises:
            PublishError: The publisher is not started, or not any more.
            ValueError: The delay is negative.
        """
        held = held_back(publication, queue, delay)

        def pack(frame_max: int) -> bytes:
            return packed(held, DELAY_CHANNEL, frame_max, check_queue=queue not in self._unchecked)

        return self._hand_in(self._delayed, PendingPublish(held.publication, pack, True, self._state, queue))

    def stop(self, deadline: float) -> None:
        """Wait for outstanding confirms, close the connection, end the thread."""
        self.finish(deadline)
        self._link.stop(deadline)

    def finish(self, deadline: float) -> None:
        """Take no more messages, and wait for outstanding confirms."""
        self._closing = True
        if self._link.started and not self._link.finished:
            for pending in self._outstanding(deadline):
                pending.wait_quietly(deadline)

    def _outstanding(self, deadline: float) -> list[PendingPublish]:
        # Under the gate: on its way from the outbox to the wire a message would be missed.
        if not self._link.gate.acquire(timeout=max(0.0, deadline - monotonic())):
            return []
        try:
            return [pending for channel in self._channels for pending in channel.pending()]
        finally:
            self._link.gate.release()

    def _hand_in(self, channel: ConfirmingChannel, pending: PendingPublish) -> PendingPublish:
        if self._closing or not self._link.started or self._link.finished:
            raise self._closed_error()
        try:
            pending.frames(self._link.frame_max)
            channel.append(pending)
        except PublishError as error:
            pending.finish(error)
            return pending
        self._link.flush()
        self._fail_what_came_too_late(channel)
        return pending

    def _fail_what_came_too_late(self, channel: ConfirmingChannel) -> None:
        if self._link.finished:
            channel.fail_all(self._closed_error)

    def _closed_error(self) -> PublishError:
        if self._link.forked:
            why = "it belongs to the process that this one was forked from; make a new one here"
        else:
            why = "it was stopped" if self._link.started or self._closing else "call start() first"
        return PublishError(f"{self._link.title} cannot publish: {self._refusal or why}")

    def _state(self) -> str:
        link = self._link
        if link.blocked:
            return "the broker takes no messages for now: a memory or disk alarm, see its log"
        return "connected" if link.ready else f"not connected: {link.trouble}"

    # What the link asks, see `LinkOwner`.

    def set_up(self, connection: LinkConnection) -> None:
        """Declare everything, open the channels in confirm mode."""
        self._declare(connection, self._exchanges, self._queues)
        for channel in self._channels:
            channel.open(connection)

    def has_output(self) -> bool:
        return self._direct.has_output or self._delayed.has_output

    def take_output(self) -> bytes:
        size = self._link.frame_max
        return self._direct.take(size) + self._delayed.take(size)

    def output_written(self) -> None:
        for channel in self._channels:
            channel.finish_unconfirmed()

    def lost(self, error: BaseException) -> None:
        with self._link.gate:
            for channel in self._channels:
                channel.take_back()

    def ended(self, refusal: BrokerRefused | None) -> None:
        self._refusal = refusal
        with self._link.gate:
            for channel in self._channels:
                channel.take_back()
        for channel in self._channels:
            channel.fail_all(self._closed_error)

    # On the reading thread.

    def _declare(self, connection: LinkConnection, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        with Declarer(connection, self._adoptions) as declarer:
            declarer.exchanges(exchanges)
            for queue in queues:
                declarer.queue(queue)

    def _declare_now(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        self._with_connection(lambda connection: self._declare(connection, exchanges, queues))

    def _on_channel_closed(self, channel: ConfirmingChannel, error: Exception) -> None:
        with self._link.gate:
            channel.take_back()
        logger.warning("%s: the broker closed a channel: %s; opening another", self._link.title, readable(error))
        exclusive = locked_queue(error)
        if exclusive is not None:
            self._unchecked.add(exclusive)
            for pending in channel.pending():
                pending.pack_again()
        if self._declares(missing_exchange(error)):
            # Deleted, or gone by itself with its last queue: it is declared again, and the messages are sent again.
            self._link.post(lambda: self._declare_now(self._exchanges, self._queues))
        else:
            channel.blame(error)
        self._link.post(lambda: self._with_connection(channel.open))

    def _declares(self, exchange: str | None) -> bool:
        return any(declared.name == exchange for declared in self._exchanges)

    def _with_connection(self, work: Callable[[LinkConnection], None]) -> None:
        connection = self._link.connection
        if connection is not None:
            with connection.within(DECLARE_SECONDS):
                work(connection)
