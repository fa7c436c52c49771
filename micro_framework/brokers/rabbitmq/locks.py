"""Locks at RabbitMQ: whoever has the exclusive queue of that name holds the lock.

An exclusive queue belongs to one connection in the whole cluster and is gone the moment that connection is: closed,
reset by a killed process, or given up after its heartbeats stayed out. Nothing has to be cleaned up, nothing outlives a
restart, and of all kinds of queues it alone comes back on another node when its own dies. What is left to do:

- *Waiting.* A second declaration would be refused with an error in the broker's log, each time. So those who wait ask
  by a mandatory message to that queue, once a second: does it come back, the queue is gone, and they declare it. Who is
  too late then is refused once. The messages expire at once.
- *Being sure.* A process that was stopped for a while wakes up and believes that it still holds what another one has
  long got. So the holder does nothing of its own accord: it announces it, and only when the broker has brought its own
  words back, by a queue that lives and ends with the same connection, did it hold the lock a moment ago.
- *Knowing.* The words go through ``amq.direct`` to everybody who takes part, so whoever gets the lock next knows what
  the last holder did. A busy broker may bring the last words later than the news that the holder has gone; so
  whoever has taken the lock sends itself a message behind them, and holds it once that has come.

The connection's heartbeat is short: a machine that vanishes without a word is noticed within three of them, whatever
other connections use.
"""

import logging
from collections.abc import Callable
from functools import partial
from threading import Lock as ThreadLock
from typing import Any
from uuid import uuid4

import amqp

from micro_framework.brokers.port import Lock, Publication
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.confirming import ConfirmingChannel
from micro_framework.brokers.rabbitmq.connection import LinkChannel, LinkConnection
from micro_framework.brokers.rabbitmq.frames import publish_frames, short_string_at, unpack_properties
from micro_framework.brokers.rabbitmq.link import LinkedDoor, LinkFor
from micro_framework.brokers.rabbitmq.refusals import PASSING, readable
from micro_framework.exceptions import BrokerError, BrokerRefused, PublishError, Unroutable
from micro_framework.wire.messages import Properties

__all__ = ["LOCK_HEARTBEAT", "RabbitMQLocks"]

logger = logging.getLogger(__name__)

LOCK_HEARTBEAT = 3
"""Seconds; the broker gives a silent connection up after two to three of them."""
ASK_SECONDS = 1.0
"""How often somebody who waits asks whether the holder is still there."""
DECLARE_SECONDS = 5.0
LISTEN_CHANNEL, SEND_CHANNEL = 1, 2
EXCHANGE = "amq.direct"
PASSING_QUEUE = {"x-queue-type": "classic"}
"""Said even if it is the default: no other type can be exclusive."""


class RabbitMQLocks(LinkedDoor):
    """A connection that holds names, or waits for them (`micro_framework.brokers.port.Locks`).

    Args:
        link_for: Gives the connection.
    """

    def __init__(self, link_for: LinkFor) -> None:
        self._locks: dict[str, Lock] = {}
        self._joined: set[str] = set()  # whose owner has been told on this connection
        self._own = ""  # the queue for what is announced
        self._taken: set[str] = set()  # and the last words about them may still be on their way
        self._held: set[str] = set()
        self._announced: dict[str, Callable[[bool], None]] = {}
        self._guard = ThreadLock()  # what is held, and what was announced meanwhile, must fit
        self._listening: LinkChannel | None = None
        self._sending = ConfirmingChannel(SEND_CHANNEL, self._on_channel_closed)
        self._link = link_for(self)

    # The port.

    def want(self, lock: Lock) -> None:
        """Take part once started.

        Raises:
            BrokerError: It was started already, or takes part in that lock.
        """
        if self._link.started:
            raise BrokerError(f"{self._link.title} is started already; say what it wants before start()")
        if lock.name in self._locks:
            raise BrokerError(f"{self._link.title} wants {lock.name!r} already")
        self._locks[lock.name] = lock

    def announce(self, name: str, word: str, done: Callable[[bool], None]) -> None:
        """Tell everybody who takes part; the answer comes on the reading thread, or at once."""
        identifier = uuid4().hex
        with self._guard:
            held = name in self._held
            if held:
                self._announced[identifier] = done
        if not held:
            done(False)
            return
        self._send(Publication(EXCHANGE, name, word.encode(), Properties(correlation_id=identifier)), confirm=False)

    # What the link asks, see `LinkOwner`.

    def set_up(self, connection: LinkConnection) -> None:
        """Listen to what is announced; ask for every lock as soon as this is over."""
        listening: Any = connection.channel(LISTEN_CHANNEL)
        listening.on_deliver = self._on_deliver
        listening.on_closed = partial(self._on_channel_closed, self._sending)
        self._listening = listening
        own = self._own = f"mf-locks.{uuid4().hex}"
        listening.queue_declare(own, durable=False, exclusive=True, auto_delete=False, arguments=PASSING_QUEUE)
        for name in self._locks:
            listening.queue_bind(own, EXCHANGE, name)
        listening.basic_consume(own, no_ack=True, on_cancel=self._on_cancelled)
        self._sending.open(connection)
        for name in self._locks:
            self._link.call_later(0, partial(self._ask, name))

    def has_output(self) -> bool:
        return self._sending.has_output

    def take_output(self) -> bytes:
        return self._sending.take(self._link.frame_max)

    def output_written(self) -> None:
        self._sending.finish_without_confirm()

    def lost(self, error: BaseException) -> None:
        self._let_go()

    def ended(self, refusal: BrokerRefused | None) -> None:
        self._let_go()

    # On the reading thread.

    def _let_go(self) -> None:
        with self._link.gate:
            self._sending.take_back()
        self._sending.fail_all(lambda: PublishError("the connection was lost"))
        with self._guard:
            self._held.clear()
            self._taken.clear()
            waiting = list(self._announced.values())
            self._announced.clear()
        self._joined.clear()
        for done in waiting:
            tell(partial(done, False))

    def _ask(self, name: str) -> None:
        """Whether anybody holds the lock: whether its queue takes a message, which it then drops."""
        question = Publication("", name, b"", Properties(expiration="0"), mandatory=True)
        self._send(question, confirm=True).add_done_callback(partial(self._on_answer, name))

    def _send(self, publication: Publication, *, confirm: bool) -> PendingPublish:
        pending = PendingPublish(
            publication, lambda size: publish_frames(SEND_CHANNEL, publication, size), confirm, lambda: "not connected"
        )
        self._sending.append(pending)
        self._link.flush()
        return pending

    def _on_answer(self, name: str, error: BaseException | None) -> None:
        if self._link.connection is None:
            return  # the next connection asks anew
        if isinstance(error, Unroutable):
            self._link.post(partial(self._take, name))
        else:
            self._wait_for(name)

    def _wait_for(self, name: str) -> None:
        if name not in self._joined:
            self._joined.add(name)
            tell(partial(self._locks[name].on_joined, False))
        self._link.call_later(ASK_SECONDS, partial(self._ask, name))

    def _take(self, name: str) -> None:
        connection = self._link.connection
        if connection is None or name in self._held or name in self._taken:
            return
        try:
            with connection.within(DECLARE_SECONDS):
                self._declare(connection.channel(), name)
        except amqp.ChannelError as error:
            if not PASSING.search(error.reply_text or "") and not isinstance(error, amqp.ResourceLocked):
                raise
            logger.debug("%s: %r cannot be taken now: %s", self._link.title, name, readable(error))
            self._wait_for(name)
            return
        self._taken.add(name)
        self._send(Publication("", self._own, name.encode(), Properties()), confirm=False)

    def _declare(self, channel: Any, name: str) -> None:
        arguments = {**PASSING_QUEUE, "x-message-ttl": 0}
        channel.queue_declare(name, durable=False, exclusive=True, auto_delete=False, arguments=arguments)
        channel.close()
        # Consumed only to hear if somebody deletes it.
        listening: Any = self._listening
        listening.basic_consume(name, no_ack=True, on_cancel=self._on_cancelled)

    def _hold(self, name: str) -> None:
        with self._guard:
            self._held.add(name)
        logger.info("%s holds %s", self._link.title, name)
        lock = self._locks[name]
        if name in self._joined:
            tell(lock.on_held)
        else:
            self._joined.add(name)
            tell(partial(lock.on_joined, True))

    def _on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        _, at = short_string_at(method, 4)  # the consumer's tag; then the delivery's, and a flag
        exchange, at = short_string_at(method, at + 9)
        key, _ = short_string_at(method, at)
        if key.decode() == self._own:
            self._on_caught_up(body.decode())
            return
        lock = self._locks.get(key.decode())
        if exchange.decode() != EXCHANGE or lock is None:
            return  # somebody asks whether we are there
        tell(partial(lock.on_word, body.decode()))
        with self._guard:
            done = self._announced.pop(unpack_properties(header).correlation_id or "", None)
        if done is not None:
            tell(partial(done, True))

    def _on_caught_up(self, name: str) -> None:
        """Every word from before this process took the lock has come."""
        if name in self._taken:
            self._taken.remove(name)
            self._hold(name)

    def _on_cancelled(self, tag: str) -> None:
        raise BrokerError("a queue of the locks was deleted; taking part anew")

    def _on_channel_closed(self, channel: ConfirmingChannel, error: Exception) -> None:
        raise error  # ends the connection; the next one begins anew


def tell(event: Callable[[], None]) -> None:
    try:
        event()
    except Exception:  # it must not raise; if it does, the connection is none the worse
        logger.exception("a callback of a lock raised, and callbacks must not")
