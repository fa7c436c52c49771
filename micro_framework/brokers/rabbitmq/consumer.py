"""The consuming door: one connection, one channel, any number of queues.

A delivery belongs to the channel it came by, its generation: `Generation` holds that channel's tags. When the channel
or the connection is lost the generation is too: later verdicts about its deliveries are dropped, for the broker has
taken the messages back and delivers them again, under new tags.
"""

import logging
from collections import deque
from time import monotonic
from typing import Any

from micro_framework.brokers.port import DoorEvents, Subscription, Verdict
from micro_framework.brokers.rabbitmq.acknowledgements import Acknowledgements, Command
from micro_framework.brokers.rabbitmq.connection import LinkChannel, LinkConnection
from micro_framework.brokers.rabbitmq.declarations import Adoptions, Declarer
from micro_framework.brokers.rabbitmq.deliveries import RabbitMQDelivery
from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.frames import (
    ack_frame,
    reject_frame,
    requeue_frame,
    short_string_at,
    unpack_tag,
)
from micro_framework.brokers.rabbitmq.link import Link
from micro_framework.brokers.rabbitmq.refusals import readable
from micro_framework.exceptions import BrokerError, BrokerRefused

__all__ = ["CHANNEL", "Generation", "RabbitMQConsumer"]

logger = logging.getLogger(__name__)

CHANNEL = 1
MOST_AT_ONCE = 1000
"""Verdicts in one write."""
CANCEL_SECONDS = 5.0
"""Longest wait for the broker's answers when its consumers are cancelled."""
QUICK_SECONDS = 5.0
"""When the broker closes a channel sooner than this after the last time, a pause and a new connection follow."""


class Generation:
    """One channel with its unsettled deliveries.

    Args:
        link: Writes what is settled.
        channel: The open channel.
    """

    def __init__(self, link: Link, channel: LinkChannel) -> None:
        self.channel = channel
        self.alive = True
        self._link = link
        self._acknowledgements = Acknowledgements()
        self._finished: deque[tuple[int, Verdict]] = deque()

    def settle(self, tag: int, verdict: Verdict) -> None:
        """Take a verdict and have it written. Thread safe, never waits."""
        if self.alive:
            self._finished.append((tag, verdict))
            self._link.flush()

    def has_output(self) -> bool:
        """Whether verdicts wait to be written."""
        return bool(self._finished) and self.alive

    def take_output(self) -> bytes:
        """Everything that finished, as commands to the broker."""
        finished = self._finished
        batch = [finished.popleft() for _ in range(min(len(finished), MOST_AT_ONCE))]
        if not self.alive:
            return b""
        return b"".join([frame_of(command) for command in self._acknowledgements.settle(batch)])


def frame_of(command: Command) -> bytes:
    verdict, tag, multiple = command
    if verdict is Verdict.ACK:
        return ack_frame(CHANNEL, tag, multiple)
    return requeue_frame(CHANNEL, tag) if verdict is Verdict.REQUEUE else reject_frame(CHANNEL, tag)


class RabbitMQConsumer:
    """A consuming connection (`micro_framework.brokers.port.Consumer`); opened once, never again after `stop`.

    Args:
        name: Shown in the thread's name, in logs and in the broker's list of connections.
        endpoints: Where to connect.
        adoptions: Who tells of exchanges with other flags.
    """

    def __init__(self, name: str, endpoints: Endpoints, adoptions: Adoptions) -> None:
        self._adoptions = adoptions
        self._subscriptions: list[Subscription] = []
        self._by_tag: dict[bytes, Subscription] = {}
        self._generation: Generation | None = None
        self._unseen: list[int] = []
        self._cancelled = False
        self._reopened_at = float("-inf")
        self._link = Link("consumer", name, endpoints, self)

    # The port.

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue once started.

        Raises:
            BrokerError: It was started already.
        """
        if self._link.started:
            raise BrokerError(f"{self._link.title} is started already; subscribe before start()")
        self._by_tag[f"mf-{len(self._subscriptions)}".encode()] = subscription
        self._subscriptions.append(subscription)

    def start(self, events: DoorEvents) -> None:
        """Begin connecting on a thread of its own.

        Raises:
            BrokerError: It was started or stopped before.
        """
        self._link.start(events)

    @property
    def ready(self) -> bool:
        return self._link.ready and not self._cancelled

    def wait_ready(self, deadline: float) -> bool:
        return self._link.wait_ready(deadline) and not self._cancelled

    def cancel(self, deadline: float) -> None:
        """Stop receiving; what no callback has seen yet goes back to its queue."""
        if not self._cancelled:
            self._cancelled = True
        self._link.call(self._cancel_consumers, deadline)

    def stop(self, deadline: float) -> None:
        """Write the verdicts that are left, close the connection, end the thread."""
        self._link.stop(deadline)

    # What the link asks, see `LinkOwner`.

    def set_up(self, connection: LinkConnection) -> None:
        """Declare and consume everything, unless cancelled."""
        with Declarer(connection, self._adoptions) as declarer:
            for subscription in self._subscriptions:
                declarer.queue(subscription.queue, exchanges=subscription.declare_exchanges)
        self._open_generation(connection)

    def has_output(self) -> bool:
        generation = self._generation
        return generation is not None and generation.has_output()

    def take_output(self) -> bytes:
        generation = self._generation
        return generation.take_output() if generation is not None else b""

    def output_written(self) -> None:
        """Nobody waits for that."""

    def lost(self, error: BaseException) -> None:
        self._end_generation()

    def ended(self, refusal: BrokerRefused | None) -> None:
        self._end_generation()

    # On the reading thread.

    def _open_generation(self, connection: LinkConnection) -> None:
        channel: LinkChannel = connection.channel(CHANNEL)
        channel.on_deliver = self._on_deliver
        channel.on_closed = self._on_channel_closed
        self._generation = Generation(self._link, channel)
        self._unseen = []
        if not self._cancelled:
            for tag, subscription in self._by_tag.items():
                self._consume(channel, tag, subscription)

    def _end_generation(self) -> None:
        if self._generation is not None:
            self._generation.alive = False
        self._generation = None
        self._unseen.clear()

    def _consume(self, channel: Any, tag: bytes, subscription: Subscription) -> None:
        # Not global: RabbitMQ 4.3 no longer takes it, and quorum queues never did.
        channel.basic_qos(0, subscription.prefetch, False)
        channel.basic_consume(
            subscription.queue.name, consumer_tag=tag.decode(), on_cancel=lambda _tag: self._on_cancelled(tag)
        )

    def _on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        generation = self._generation
        if generation is None:
            return
        consumer_tag, at = short_string_at(method, 4)
        tag, redelivered = unpack_tag(method, at)
        if self._cancelled:
            self._unseen.append(tag)
            return
        subscription = self._by_tag[consumer_tag]
        delivery = RabbitMQDelivery(generation, tag, redelivered, subscription.queue.name, method, at + 9, header, body)
        try:
            subscription.on_message(delivery)
        except Exception:  # it must not raise; if it does, the others still get theirs
            logger.exception("the callback for queue %r raised, and callbacks must not", subscription.queue.name)

    def _on_cancelled(self, tag: bytes) -> None:
        name = self._by_tag[tag].queue.name
        logger.warning("%s: the broker ended the consumer of queue %r; declaring it again", self._link.title, name)
        self._link.post(lambda: self._consume_again(tag))

    def _consume_again(self, tag: bytes) -> None:
        generation = self._generation
        if generation is None or not generation.alive or self._cancelled:
            return  # whoever set that up has consumed it already, or nobody is to
        subscription = self._by_tag[tag]
        connection = generation.channel.connection
        with connection.within(20), Declarer(connection, self._adoptions) as declarer:
            declarer.queue(subscription.queue, exchanges=subscription.declare_exchanges)
            self._consume(generation.channel, tag, subscription)

    def _on_channel_closed(self, error: Exception) -> None:
        generation = self._generation
        assert generation is not None
        generation.alive = False
        logger.warning("%s: the broker closed its channel: %s; opening another", self._link.title, readable(error))
        now = monotonic()
        too_soon, self._reopened_at = now - self._reopened_at < QUICK_SECONDS, now
        if too_soon:
            raise error  # ends the connection; the next one comes after a pause
        self._link.post(self._reopen)

    def _reopen(self) -> None:
        connection = self._link.connection
        if connection is not None:
            with connection.within(20):
                self.set_up(connection)

    def _cancel_consumers(self) -> None:
        generation = self._generation
        if generation is None or not generation.alive:
            return
        channel: Any = generation.channel
        try:
            with channel.connection.within(CANCEL_SECONDS):
                for tag in self._by_tag:
                    channel.basic_cancel(tag.decode())
        except TimeoutError:
            # A broker that does not answer delivers nothing either. The connection stays: running calls may still be
            # acknowledged on it.
            logger.warning("%s: the broker did not agree to end the consumers in time", self._link.title)
        unseen, self._unseen = self._unseen, []
        for number in unseen:
            generation.settle(number, Verdict.REQUEUE)
