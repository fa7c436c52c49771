"""The publishing door: one connection; a channel for publishing, another for delays, each with pipelined confirms.

Any thread packs its message, appends it to a channel's outbox and flushes the link; whoever gets the link's gate
numbers and writes everything in the outbox. What is written waits under its number until the broker's answer comes.
When the connection or the channel is lost, what waits goes back to the head of the outbox, in order, and is sent again.

Of the queues that messages will be delayed for (`expect_delays`) each new connection asks the type, before any delay is
published on it. Then the delay queues of the quorum ones are declared, and again every few minutes, so that they are
there and old when they are needed.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from time import monotonic

import amqp

from micro_framework.brokers.port import Publication
from micro_framework.brokers.rabbitmq.blame import locked_queue, missing_exchange, queue_away
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.confirming import ConfirmingChannel
from micro_framework.brokers.rabbitmq.connection import LinkChannel, LinkConnection
from micro_framework.brokers.rabbitmq.declarations import Adoptions, Declarer
from micro_framework.brokers.rabbitmq.delays import KEPT, MAX_NAME, Holding, Way, held_back, packed
from micro_framework.brokers.rabbitmq.frames import declare_queue_frame, publish_frames
from micro_framework.brokers.rabbitmq.link import LinkedDoor, LinkFor
from micro_framework.brokers.rabbitmq.plugin import require_plugin
from micro_framework.brokers.rabbitmq.refusals import is_away, readable
from micro_framework.brokers.rabbitmq.targets import Targets, holding_for, type_of
from micro_framework.exceptions import BrokerError, BrokerRefused, PublishError
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["RabbitMQPublisher"]

logger = logging.getLogger(__name__)

PUBLISH_CHANNEL, DELAY_CHANNEL, KEEP_CHANNEL = 1, 2, 3
DECLARE_SECONDS = 10.0
REJECTED_TRIES, REJECTED_PAUSE = 20, 0.2
"""How often, and after how many seconds each, a delayed message is sent again that a quorum queue refused."""
ASK_SECONDS = 5.0
"""Longest wait for the type of a queue."""
KEEP_SECONDS = KEPT / 1000 / 6
"""How often the delay queues of quorum queues are declared again: five of six may fail."""


class RabbitMQPublisher(LinkedDoor):
    """A publishing connection (`micro_framework.brokers.port.Publisher`); opened once, never again after `stop`.

    Args:
        link_for: Gives the connection.
        adoptions: Who tells of exchanges with other flags.
        delayed_by_plugin: Whether the broker's plugin holds back what is delayed, and not queues.
    """

    def __init__(self, link_for: LinkFor, adoptions: Adoptions, *, delayed_by_plugin: bool = False) -> None:
        self._adoptions = adoptions
        self._targets = Targets(plugin=delayed_by_plugin)
        self._exchanges: list[Exchange] = []
        self._queues: list[Queue] = []
        self._ensured: list[Queue] = []
        self._direct = ConfirmingChannel(PUBLISH_CHANNEL, self._on_channel_closed)
        self._delayed = ConfirmingChannel(DELAY_CHANNEL, self._on_channel_closed, self._on_rejected)
        self._channels = (self._direct, self._delayed)
        self._keeping: deque[bytes] = deque()  # declarations of delay queues to be written
        self._can_keep = False
        self._elsewhere: dict[str, str] = {}  # what is used instead of delay queues whose node is down
        self._numbers = count(2)
        self._unchecked: set[str] = set()  # exclusive queues: they exist, but may not be looked at from here
        self._refusal: BrokerRefused | None = None
        self._closing = False
        self._link = link_for(self)

    # The port.

    def declare(self, exchanges: Sequence[Exchange] = (), queues: Sequence[Queue] = ()) -> None:
        """Declare now if connected (waiting up to 10 s for that), and whenever the connection comes back."""
        self._exchanges += exchanges
        self._queues += queues
        # In this order: whoever connects from now on reads the lists. A connection that is there, ready or not yet, may
        # have declared already what was in them before.
        if self._link.connection is not None:
            self._link.call(lambda: self._declare_now(exchanges, queues), monotonic() + DECLARE_SECONDS)

    def ensure(self, queue: Queue, deadline: float) -> None:
        """Have a queue exist, whatever its flags.

        Raises:
            PublishError: It cannot be declared, or no answer came in time.
        """
        if not self._link.started:
            self._ensured.append(queue)
            return
        refusals: list[amqp.AMQPError] = []

        def declare() -> None:
            try:
                self._with_connection(lambda connection: self._ensure(connection, queue))
            except amqp.ChannelError as error:
                refusals.append(error)  # told to whoever asked: the door is none the worse

        if not self._link.call(declare, deadline):
            raise PublishError(f"queue {queue.name!r} was not declared in time ({self._state()})")
        if refusals:
            raise PublishError(f"queue {queue.name!r} cannot be declared: {readable(refusals[0])}") from refusals[0]

    def publish(self, publication: Publication, *, confirm: bool = True, more: bool = False) -> PendingPublish:
        """Publish without waiting; without a connection the message is sent when there is one.

        Raises:
            PublishError: The publisher is not started, or not any more.
        """
        pending = PendingPublish(
            publication, partial(publish_frames, PUBLISH_CHANNEL, publication), confirm, self._state
        )
        return self._hand_in(self._direct, pending, more)

    def delay(
        self, publication: Publication, *, queue: str, delay: int, exchange: str = "", routing_key: str | None = None
    ) -> PendingPublish:
        """Have a message come back to a queue after ``delay`` milliseconds, rounded up to two significant digits.

        Raises:
            PublishError: The publisher is not started, or not any more.
            ValueError: The delay is negative.
        """
        way = Way.of(queue, exchange, routing_key)
        held = held_back(publication, way, delay, self._targets.holding(queue))
        if (elsewhere := self._elsewhere.get(held.publication.routing_key)) and not held.publication.exchange:
            held = replace(held, publication=replace(held.publication, routing_key=elsewhere))

        def pack(frame_max: int) -> bytes:
            return packed(
                replace(held, publication=pending.publication),
                DELAY_CHANNEL,
                frame_max,
                check_queue=queue not in self._unchecked,
            )

        # A quorum queue that is being declared just now, by another channel or another process, refuses for a moment:
        # it has no leader yet.
        tries = REJECTED_TRIES if held.holding is Holding.QUORUM else 0
        pending = PendingPublish(held.publication, pack, True, self._state, queue, exchange, tries)
        return self._hand_in(self._delayed, pending)

    def expect_delays(
        self, queue: Queue, delays: Sequence[int], *, exchange: str = "", routing_key: str | None = None
    ) -> None:
        """Find out the type of a queue whenever connected, and keep the delay queues of a quorum queue declared.

        Raises:
            BrokerError: It was started already.
        """
        if self._link.started:
            raise BrokerError(f"{self._link.title} is started already; say which delays to expect before start()")
        self._targets.expect(queue, Way.of(queue.name, exchange, routing_key), delays)

    def stop(self, deadline: float) -> None:
        """Wait for outstanding confirms, close the connection, end the thread."""
        self.finish(deadline)
        super().stop(deadline)

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

    def _hand_in(self, channel: ConfirmingChannel, pending: PendingPublish, more: bool = False) -> PendingPublish:
        link = self._link
        if self._closing or not link.started or link.finished:
            raise self._closed_error()
        try:
            pending.frames(link.frame_max)
            channel.append(pending)
        except PublishError as error:
            pending.finish(error)
            return pending
        if not (more and channel.gathers):
            link.flush()
        if self._link.finished:  # it came too late
            channel.fail_all(self._closed_error)
        return pending

    def _closed_error(self) -> PublishError:
        if self._link.forked:
            why = "it belongs to the process that this one was forked from; make a new one here"
        else:
            why = "it was stopped" if self._link.started or self._closing else "call start() first"
        return PublishError(f"{self._link.title} cannot publish: {self._refusal or why}")

    def _state(self) -> str:
        link = self._link
        if link.blocked:
            return f"the broker takes no messages for now: {link.blocked_by}"
        return "connected" if link.ready else f"not connected: {link.trouble}"

    # What the link asks, see `LinkOwner`.

    def set_up(self, connection: LinkConnection) -> None:
        """Declare everything, learn what is to be known of targets, open the channels in confirm mode."""
        self._elsewhere.clear()
        self._declare(connection, self._exchanges, self._queues)
        self._ensure_noted(connection)
        for channel in self._channels:
            channel.open(connection)
        if self._targets:
            self._open_keep_channel(connection)
            self._learn_targets(connection)

    def has_output(self) -> bool:
        direct, delayed, keeping = self._direct, self._delayed, self._keeping
        if not (direct.outbox or delayed.outbox or keeping):  # as most times that it is asked
            return False
        return direct.has_output or delayed.has_output or (bool(keeping) and self._can_keep)

    def take_output(self) -> bytes:
        size = self._link.frame_max
        output = self._direct.take(size)
        if self._delayed.outbox:
            output += self._delayed.take(size)
        return output + self._take_keeping() if self._keeping else output

    def _take_keeping(self) -> bytes:
        if not self._can_keep:
            return b""
        frames = [self._keeping.popleft() for _ in range(len(self._keeping))]
        return b"".join(frames)

    def output_written(self) -> None:
        for channel in self._channels:
            if channel.without_confirm:
                channel.finish_without_confirm()

    def lost(self, error: BaseException) -> None:
        self._can_keep = False
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
                try:
                    declarer.queue(queue)
                except amqp.NotFound as error:
                    if not is_away(error):
                        raise
                    logger.warning("%s: queue %r is not there: %s", self._link.title, queue.name, readable(error))

    def _learn_targets(self, connection: LinkConnection) -> None:
        if self._targets.plugin and self._targets:
            require_plugin(self._link.connect_apart(f"{self._link.title} probe"), self._link.address)
        self._ask_for_types(connection)
        self._link.call_later(0, self._keep_delay_queues)

    def _ask_for_types(self, connection: LinkConnection) -> None:
        """Where there is no answer, what is safe for every type is used meanwhile.

        A queue that is out of order must not keep anything else from being published.
        """
        declarer = Declarer(connection, self._adoptions)
        for target in self._targets.unsure():
            target.holding = None
            try:
                with connection.within(ASK_SECONDS):
                    target.holding = holding_for(type_of(target.queue, declarer, connection.server_properties))
            except (amqp.ChannelError, TimeoutError) as error:
                logger.info("%s: the type of queue %r is not known: %s", self._link.title, target.queue.name, error)
                declarer = Declarer(connection, self._adoptions)  # that channel may still get its answer

    def _keep_delay_queues(self) -> None:
        """Have the delay queues of quorum queues declared, without waiting for that."""
        for target in self._targets if not self._targets.plugin else ():
            for name, arguments in target.delay_queues():
                self._keeping.append(declare_queue_frame(KEEP_CHANNEL, name, durable=True, arguments=arguments))
        self._link.flush()
        self._link.call_later(KEEP_SECONDS, self._keep_delay_queues)

    def _open_keep_channel(self, connection: LinkConnection) -> None:
        channel: LinkChannel = connection.channel(KEEP_CHANNEL)
        channel.on_closed = self._on_keep_channel_closed
        self._keeping.clear()
        self._can_keep = True

    def _on_keep_channel_closed(self, error: Exception) -> None:
        """Publishing a delay declares its queue too, so this is no reason to give anything up."""
        with self._link.gate:  # whoever writes has written
            self._can_keep = False
        logger.warning("%s: a delay queue cannot be kept: %s", self._link.title, readable(error))
        self._link.post(lambda: self._with_connection(self._open_keep_channel))

    def _ensure(self, connection: LinkConnection, queue: Queue) -> None:
        with Declarer(connection, self._adoptions) as declarer:
            declarer.any_queue(queue)

    def _ensure_noted(self, connection: LinkConnection) -> None:
        for queue in self._ensured:
            try:
                self._ensure(connection, queue)
            except amqp.NotFound as error:
                # In a cluster, a queue on a node that is down: nothing else waits for it.
                logger.warning("%s: queue %r is not there: %s", self._link.title, queue.name, readable(error))

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
        if self._substitute(channel, queue_away(error)):
            pass  # the messages are sent again, to the other queue
        elif self._declares(missing_exchange(error)):
            # Deleted, or gone by itself with its last queue: it is declared again, and the messages are sent again.
            self._link.post(lambda: self._declare_now(self._exchanges, self._queues))
        else:
            channel.blame(error)
        connection = self._link.connection
        self._link.post(lambda: self._open_again(channel, connection))

    def _substitute(self, channel: ConfirmingChannel, away: str | None) -> bool:
        """Have another queue hold messages back instead of a delay queue whose node is down; whether that is possible.

        What the queue holds already stays there until its node is back.
        """
        waiting = [each for each in channel.pending() if each.publication.routing_key == away]
        if away is None or not any(
            each.queue not in (None, away) and not each.publication.exchange for each in waiting
        ):
            return False
        name = next((name for name, substitute in self._elsewhere.items() if substitute == away), away)
        elsewhere = f"{name}.{next(self._numbers)}"
        if len(elsewhere.encode()) > MAX_NAME:
            return False
        self._elsewhere[name] = elsewhere
        for pending in waiting:
            pending.publication = replace(pending.publication, routing_key=elsewhere)
            pending.pack_again()
        return True

    def _open_again(self, channel: ConfirmingChannel, connection: LinkConnection | None) -> None:
        # On a connection that came meanwhile the channel is open, and its tags must not be counted from 1 again.
        if connection is self._link.connection:
            self._with_connection(channel.open)

    def _on_rejected(self, channel: ConfirmingChannel) -> None:
        def again() -> None:
            channel.send_rejected()
            self._link.flush()

        self._link.call_later(REJECTED_PAUSE, again)

    def _declares(self, exchange: str | None) -> bool:
        return any(declared.name == exchange for declared in self._exchanges)

    def _with_connection(self, work: Callable[[LinkConnection], None]) -> None:
        connection = self._link.connection
        if connection is not None:
            with connection.within(DECLARE_SECONDS):
                work(connection)
