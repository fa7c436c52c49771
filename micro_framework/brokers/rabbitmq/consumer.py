"""The consuming door: one connection, one channel, any number of queues.

A delivery belongs to the channel it came by, its generation: `Generation` holds that channel's tags. When the channel
or the connection is lost the generation is too: later verdicts about its deliveries are dropped, for the broker has
taken the messages back and delivers them again, under new tags.

In a cluster a queue may be on a node that is down. It is asked for again and again then, and the other queues are
consumed meanwhile; one that is this consumer's alone, as the queue for replies, gets a substitute.
"""

import logging
from collections import deque
from dataclasses import replace
from functools import partial
from itertools import count
from time import monotonic, sleep
from typing import Any

import amqp

from micro_framework.brokers.port import Subscription, Verdict
from micro_framework.brokers.rabbitmq.acknowledgements import Acknowledgements, Command
from micro_framework.brokers.rabbitmq.connection import LinkChannel, LinkConnection
from micro_framework.brokers.rabbitmq.declarations import Adoptions, Declarer
from micro_framework.brokers.rabbitmq.delays import Holding
from micro_framework.brokers.rabbitmq.deliveries import RabbitMQDelivery
from micro_framework.brokers.rabbitmq.frames import (
    ack_frame,
    reject_frame,
    requeue_frame,
    unpack_deliver,
)
from micro_framework.brokers.rabbitmq.link import Link, LinkedDoor, LinkFor
from micro_framework.brokers.rabbitmq.refusals import is_away, overdue_after, readable
from micro_framework.brokers.rabbitmq.targets import certain_holding, holding_for, type_of
from micro_framework.exceptions import BrokerError, BrokerRefused
from micro_framework.wire.naming import Queue

__all__ = ["Generation", "RabbitMQConsumer"]

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1000
"""Verdicts in one write."""
QUEUE_SECONDS = 20.0
"""Longest time for declaring and consuming one queue: all of a thousand take a busy broker longer than that."""
CANCEL_SECONDS = 5.0
"""Longest wait for the broker's answers when its consumers are cancelled."""
AWAY_SECONDS = 1.0
"""How often a queue is asked for whose node in the cluster is down."""
QUICK_SECONDS = 5.0
"""When the broker closes a channel sooner than this after the last time, a pause and a new connection follow."""
UNDER_WAY = 32
"""Commands that RabbitMQ's channel has under way to a quorum queue. What comes beyond, it holds back until they are
on disk, and a channel that is closed forgets that: 71 of 200 acknowledgements once (RabbitMQ 3.10.8)."""
RECENT_SECONDS = 5.0
"""Commands older than this are on disk."""
TAKEN_IN_SECONDS = 0.1
"""Least time between the last command to a quorum queue and the end of the channel, where it may hold some back."""
TAKEN_IN_WRITES = 5
"""That time in writes to the queue's log, of which the cancelling of its consumer was one."""
MOST_TAKEN_IN_SECONDS = 2.0
"""A broker that takes longer to write is not waited for: the stop has a budget."""


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
        self._number: int = channel.channel_id
        self._acknowledgements = Acknowledgements()
        self.finished: deque[tuple[int, Verdict]] = deque()
        """Verdicts that wait to be written."""
        self._written: deque[tuple[float, int]] = deque(maxlen=UNDER_WAY + 1)  # when, and how many commands

    def settle(self, tag: int, verdict: Verdict) -> None:
        """Take a verdict and have it written. Thread safe, never waits."""
        if self.alive:
            self.finished.append((tag, verdict))
            self._link.flush()

    def has_output(self) -> bool:
        """Whether verdicts wait to be written."""
        return bool(self.finished) and self.alive

    def take_output(self) -> bytes:
        """Everything that finished, as commands to the broker."""
        finished = self.finished
        if not finished:  # as where something else is to be written; `_written` is of what was
            return b""
        batch: list[tuple[int, Verdict]] = []
        while finished and len(batch) < MOST_AT_ONCE:
            batch.append(finished.popleft())
        if not self.alive:
            return b""
        commands = self._acknowledgements.settle(batch)
        self._written.append((monotonic(), len(commands)))
        return b"".join(map(self.frame_of, commands))

    def frame_of(self, command: Command) -> bytes:
        """A command as it is written."""
        verdict, tag, multiple = command
        if verdict is Verdict.ACK:
            return ack_frame(self._number, tag, multiple)
        return (requeue_frame if verdict is Verdict.REQUEUE else reject_frame)(self._number, tag)

    def held_back_since(self) -> float | None:
        """When the last command was written (``time.monotonic()``), if some may be held back from a quorum queue.

        None where they are too few or too old for that; see `UNDER_WAY`.
        """
        recent = [(at, count) for at, count in list(self._written) if monotonic() - at < RECENT_SECONDS]
        return recent[-1][0] if sum(count for _, count in recent) > UNDER_WAY else None


class RabbitMQConsumer(LinkedDoor):
    """A consuming connection (`micro_framework.brokers.port.Consumer`); opened once, never again after `stop`.

    Args:
        link_for: Gives the connection.
        adoptions: Who tells of exchanges with other flags.
        channel: The number of its channel on every connection.
    """

    def __init__(self, link_for: LinkFor, adoptions: Adoptions, *, channel: int = 1) -> None:
        self._adoptions = adoptions
        self._channel_number = channel
        self._substitutes = count(2)
        self._declared: set[str] = set()  # queues that were there once
        self._untold: set[str] = set()  # queues that were lost, before `on_lost` was called
        self._given: dict[bytes, Subscription] = {}
        self._by_tag: dict[bytes, Subscription] = {}  # as given, or with the substitute of its queue
        self._types: dict[str, Holding] = {}  # by the name of a queue, as far as they were asked for
        self._away: set[bytes] = set()  # whose queue is on a node that is down
        self._generation: Generation | None = None
        self._unseen: list[tuple[bytes, RabbitMQDelivery]] = []  # received since `cancel`, by its consumer's tag
        self._delivered: set[bytes] = set()  # tags of the consumers that have received something
        self._cancelled = False
        self._cancelled_within = 0.0  # seconds
        self._reopened_at = float("-inf")
        self._link = link_for(self)

    # The port.

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue once started.

        Raises:
            BrokerError: It was started already.
        """
        if self._link.started:
            raise BrokerError(f"{self._link.title} is started already; subscribe before start()")
        tag = f"mf-{len(self._given)}".encode()
        self._given[tag] = self._by_tag[tag] = subscription

    @property
    def ready(self) -> bool:
        return super().ready and not self._cancelled and not self._away

    def wait_ready(self, deadline: float) -> bool:
        return self._link.wait_ready(deadline, lambda: not self._away) and not self._cancelled

    def counts(self, queue: str, deadline: float) -> bool:
        """Whether it is a quorum queue; asked of the broker once, where the declaration does not say."""
        if queue not in self._types:
            declared = next(each.queue for each in self._by_tag.values() if each.queue.name == queue)
            certain = certain_holding(declared)
            if certain is not None:
                self._types[queue] = certain
            elif self._link.ready:
                self._link.call(lambda: self._ask_for_type(declared, deadline), deadline)
        return self._types.get(queue) is Holding.QUORUM

    def cancel(self, deadline: float) -> None:
        """Stop receiving; what no callback has seen yet goes back to its queue, unless that would be counted."""
        self._cancelled = True
        began = monotonic()
        self._link.call(lambda: self._cancel_consumers(deadline), deadline)
        self._cancelled_within = monotonic() - began

    def stop(self, deadline: float) -> None:
        """Write the verdicts that are left, close the connection, end the thread."""
        self.delete_own_queues(deadline)
        self.have_verdicts_taken_in(deadline)
        super().stop(deadline)

    def have_verdicts_taken_in(self, deadline: float) -> None:
        """Wait while a quorum queue may not have been told of all verdicts: those messages would come again."""
        generation = self._generation
        since = generation.held_back_since() if generation is not None and generation.alive else None
        if since is None:
            return
        seconds = min(max(TAKEN_IN_SECONDS, TAKEN_IN_WRITES * self._cancelled_within), MOST_TAKEN_IN_SECONDS)
        until = min(since + seconds, deadline)
        # What is deleted by now needs no verdicts, and to ask for its type would declare it again.
        subscriptions = [self._by_tag[tag] for tag in list(self._delivered)]
        queues = [each.queue.name for each in subscriptions if not each.delete_at_stop]
        if any(monotonic() < until and self.counts(queue, deadline) for queue in queues):
            sleep(max(0.0, until - monotonic()))

    def delete_own_queues(self, deadline: float) -> None:
        """Delete the queues that are of no use without this consumer, if it is connected."""
        own = [each.queue.name for each in self._by_tag.values() if each.delete_at_stop]
        if own and self._link.ready and not self._link.over:
            self._link.call(lambda: self._delete_now(own, deadline), deadline)

    # What the link asks, see `LinkOwner`.

    def set_up(self, connection: LinkConnection) -> None:
        """Declare and consume everything, unless cancelled."""
        with Declarer(connection, self._adoptions) as declarer:
            for tag in self._by_tag:
                connection.prolong(QUEUE_SECONDS)
                self._declare(declarer, tag)
        self._open_generation(connection)
        lookouts = {each.lookout for each in self._by_tag.values()}
        if len(lookouts) == 1 and (lookout := lookouts.pop()) is not None:
            connection.share(lookout)

    def has_output(self) -> bool:
        generation = self._generation
        return generation is not None and generation.alive and bool(generation.finished)

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

    def _declare(self, declarer: Declarer, tag: bytes) -> None:
        """Have a subscription's queue there; or note that it is away."""
        subscription, was_away = self._by_tag[tag], tag in self._away
        try:
            self._declare_queue(declarer, subscription)
            self._away.discard(tag)
        except amqp.NotFound as error:
            if not is_away(error):
                raise
            if subscription.delete_at_stop:
                self._substitute(declarer, tag)
                return
            self._away.add(tag)
            if not was_away:
                name = subscription.queue.name
                logger.warning("%s: queue %r is not there: %s; waiting for it", self._link.title, name, readable(error))

    def _substitute(self, declarer: Declarer, tag: bytes) -> None:
        """Another queue with the same bindings, in the place of one that nobody else uses."""
        subscription, given = self._by_tag[tag], self._given[tag].queue
        queue = replace(given, name=f"{given.name}.{next(self._substitutes)}")
        logger.warning(
            "%s: queue %r is on a node that is down; queue %r takes its place",
            self._link.title,
            subscription.queue.name,
            queue.name,
        )
        if subscription.on_lost is not None and subscription.queue.name in self._declared:
            self._untold.add(queue.name)
        substitute = self._by_tag[tag] = replace(subscription, queue=queue)
        self._declare_queue(declarer, substitute)

    def _declare_queue(self, declarer: Declarer, subscription: Subscription) -> None:
        name = subscription.queue.name
        if subscription.on_lost is not None and name in self._declared and not declarer.exists(name):
            logger.warning("%s: queue %r was deleted or has expired; declaring it again", self._link.title, name)
            self._declared.discard(name)
            self._untold.add(name)
        declarer.queue(subscription.queue, exchanges=subscription.declare_exchanges)
        self._declared.add(name)
        if name in self._untold:  # only now: whoever asks again at once needs the queue
            self._untold.discard(name)
            self._tell_loss(subscription)

    def _tell_loss(self, subscription: Subscription) -> None:
        try:
            if subscription.on_lost is not None:
                subscription.on_lost()
        except Exception:  # it must not raise; if it does, the queue is consumed all the same
            name = subscription.queue.name
            logger.exception("the callback for the loss of queue %r raised, and callbacks must not", name)

    def _open_generation(self, connection: LinkConnection) -> None:
        channel: LinkChannel = connection.channel(self._channel_number)
        channel.on_deliver = self._on_deliver
        channel.on_closed = self._on_channel_closed
        self._generation = Generation(self._link, channel)
        self._unseen = []
        if not self._cancelled:
            for tag, subscription in self._by_tag.items():
                connection.prolong(QUEUE_SECONDS)
                if tag not in self._away:
                    self._consume(channel, tag, subscription)
                else:
                    self._link.call_later(AWAY_SECONDS, partial(self._consume_again, tag, self._generation))

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
        consumer_tag, tag, redelivered, names_at = unpack_deliver(method)
        self._delivered.add(consumer_tag)
        subscription = self._by_tag[consumer_tag]
        delivery = RabbitMQDelivery(
            generation, tag, redelivered, subscription.queue.name, method, names_at, header, body
        )
        if self._cancelled:
            self._unseen.append((consumer_tag, delivery))
            return
        try:
            subscription.on_message(delivery)
        except Exception:  # it must not raise; if it does, the others still get theirs
            logger.exception("the callback for queue %r raised, and callbacks must not", subscription.queue.name)

    def _on_cancelled(self, tag: bytes) -> None:
        if self._cancelled:
            return
        name, generation = self._by_tag[tag].queue.name, self._generation
        logger.warning("%s: the broker ended the consumer of queue %r; declaring it again", self._link.title, name)
        self._link.post(lambda: self._replace_consumer(tag, generation))

    def _is_over(self, generation: Generation | None) -> bool:
        """Whether somebody set up what came after, and has consumed everything already; or nobody is to consume."""
        return generation is None or generation is not self._generation or not generation.alive or self._cancelled

    def _replace_consumer(self, tag: bytes, generation: Generation | None) -> None:
        if generation is None or self._is_over(generation):
            return
        channel: Any = generation.channel
        with channel.connection.within(QUEUE_SECONDS):
            # RabbitMQ 4.3 keeps a consumer that it has ended, and its tag, until it hears of it from here.
            channel.basic_cancel(tag.decode())
        overdue = self._kept_too_long(self._by_tag[tag].queue, channel.connection)
        self._consume_again(tag, generation)
        if overdue:
            self._link.tell_overdue(None)

    def _kept_too_long(self, queue: Queue, connection: LinkConnection) -> bool:
        """Whether a message must have been the reason why a consumer was ended.

        RabbitMQ 4.3 does that to a consumer of a quorum queue instead of closing the channel, and does not say why.
        There is no other reason as long as such a queue is there.
        """
        try:
            with connection.within(QUEUE_SECONDS), Declarer(connection, self._adoptions) as declarer:
                there = declarer.exists(queue.name)
        except amqp.ChannelError:
            return False
        return there and self.counts(queue.name, monotonic() + QUEUE_SECONDS)

    def _consume_again(self, tag: bytes, generation: Generation | None) -> None:
        if generation is None or self._is_over(generation):
            return
        connection, was_away = generation.channel.connection, tag in self._away
        with connection.within(QUEUE_SECONDS), Declarer(connection, self._adoptions) as declarer:
            self._declare(declarer, tag)
            if tag in self._away:
                self._link.call_later(AWAY_SECONDS, partial(self._consume_again, tag, generation))
                return
            self._consume(generation.channel, tag, self._by_tag[tag])
        if was_away:
            logger.info("%s: queue %r is there again", self._link.title, self._by_tag[tag].queue.name)
            self._link.tell_ready()

    def _on_channel_closed(self, error: Exception) -> None:
        generation = self._generation
        assert generation is not None
        with self._link.gate:  # whoever writes has written
            generation.alive = False
        logger.warning("%s: the broker closed its channel: %s; opening another", self._link.title, readable(error))
        if (seconds := overdue_after(error)) is not None:
            self._link.tell_overdue(seconds)
        now = monotonic()
        too_soon, self._reopened_at = now - self._reopened_at < QUICK_SECONDS, now
        if too_soon:
            raise error  # ends the connection; the next one comes after a pause
        self._link.post(lambda: self._reopen(generation))

    def _reopen(self, generation: Generation) -> None:
        connection = self._link.connection
        if connection is not None and generation is self._generation:  # else the next connection has set it up
            with connection.within(QUEUE_SECONDS):
                self.set_up(connection)

    def _ask_for_type(self, queue: Queue, deadline: float) -> None:
        connection = self._link.connection
        if connection is None:
            return
        try:
            # A refusal closes the channel that was asked on, and nothing else.
            with connection.within(deadline - monotonic()), Declarer(connection, self._adoptions) as declarer:
                self._types[queue.name] = holding_for(type_of(queue, declarer, connection.server_properties))
        except (TimeoutError, amqp.ChannelError) as error:
            logger.info("%s: the type of queue %r is not known: %s", self._link.title, queue.name, readable(error))

    def _delete_now(self, queues: list[str], deadline: float) -> None:
        self._cancelled = True  # the broker ends the consumers with their queues, which is no reason to declare them
        connection = self._link.connection
        if connection is None:
            return
        try:
            with connection.within(min(CANCEL_SECONDS, deadline - monotonic())):
                # On a channel of their own: a refusal must not take along what is settled and still to be written.
                with Declarer(connection, self._adoptions) as declarer:
                    for queue in queues:
                        declarer.delete(queue)
        except (TimeoutError, amqp.AMQPError) as error:  # it expires, or stays behind: no reason not to stop
            logger.warning("%s: its queues could not be deleted: %s", self._link.title, readable(error))

    def _cancel_consumers(self, deadline: float) -> None:
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
        self._give_back_unseen(deadline)

    def _give_back_unseen(self, deadline: float) -> None:
        """A queue that counts what comes back is to count deaths alone, so its callback has to send it once more."""
        unseen, self._unseen = self._unseen, []
        for tag, delivery in unseen:
            subscription = self._by_tag[tag]
            if subscription.delete_at_stop or not self.counts(delivery.queue, deadline):
                delivery.settle(Verdict.REQUEUE)
                continue
            try:
                subscription.on_message(delivery)
            except Exception:  # as in `_on_deliver`, which has it written out, for it is run for every message
                logger.exception("the callback for queue %r raised, and callbacks must not", delivery.queue)
