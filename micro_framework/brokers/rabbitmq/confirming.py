"""A channel in confirm mode: an outbox, and what was written and waits for the broker's answer.

Written under the link's gate by any thread; answers are handled on the reading thread. Tags count from 1 on each
channel the broker opens, in the order of writing.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from micro_framework.brokers.rabbitmq.blame import blamed
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.connection import LinkConnection
from micro_framework.brokers.rabbitmq.frames import pack_properties, short_string_at
from micro_framework.exceptions import PublishError, PublishRejected, Unroutable

__all__ = ["GATHERED", "ConfirmingChannel"]

logger = logging.getLogger(__name__)

BYTES_AT_ONCE = 262_144
GATHERED = 32
"""Messages that are written together where more are announced: beyond that a write is no longer what they cost."""
MOST_WAITING = 100_000
"""Unwritten messages beyond which publishing is refused: without a connection they would fill the memory."""


class ConfirmingChannel:
    """See the module's text.

    Args:
        number: The channel's number on every connection.
        on_closed: Told when the broker closes the channel.
        on_rejected: Told that a message was refused that may be sent again: `send_rejected` is to follow soon.
    """

    def __init__(
        self,
        number: int,
        on_closed: Callable[["ConfirmingChannel", Exception], None],
        on_rejected: Callable[["ConfirmingChannel"], None] = lambda channel: channel.send_rejected(),
    ) -> None:
        self.number = number
        self._on_closed = on_closed
        self._on_rejected = on_rejected
        self._channel: Any = None
        self.outbox: deque[PendingPublish] = deque()
        """What is to be written."""
        self._unconfirmed: dict[int, PendingPublish] = {}
        self._rejected: deque[PendingPublish] = deque()  # to be sent again
        self.without_confirm: list[PendingPublish] = []
        """What was written and asked for no confirm."""
        self._forget_tags()

    def _forget_tags(self) -> None:
        self._tag = 0  # the last one written
        self._lowest = 1  # every tag below is answered
        self._returned = 0  # the last one that came back

    # From any thread.

    def append(self, pending: PendingPublish) -> None:
        """Have a message written.

        Raises:
            PublishError: Too many wait already.
        """
        if len(self.outbox) >= MOST_WAITING:
            raise PublishError(f"{MOST_WAITING} messages wait to be sent already; is the broker there? Try again later")
        self.outbox.append(pending)

    @property
    def has_output(self) -> bool:
        """Whether anything can be written now."""
        return bool(self.outbox) and self._channel is not None

    @property
    def gathers(self) -> bool:
        """Whether what was put in may wait for more, to be written with it: few wait, and an answer is still to come.

        It does not wait longer than for that answer: the thread that reads it writes everything before it sleeps.
        (Nagle's rule for small segments, RFC 896.)
        """
        return len(self.outbox) < GATHERED and bool(self._unconfirmed)

    def pending(self) -> list[PendingPublish]:
        """Everything without an outcome, in order."""
        everything = [*self._unconfirmed.values(), *self._rejected, *self.outbox]
        return [pending for pending in everything if not pending.is_done]

    # Under the gate.

    def take(self, frame_max: int) -> bytes:
        """The next messages as frames; their tags are given here, in the order of writing."""
        if self._channel is None:
            return b""
        parts: list[bytes] = []
        size = 0
        while self.outbox and size < BYTES_AT_ONCE:
            frames = self._enter(self.outbox.popleft(), frame_max)
            parts.append(frames)
            size += len(frames)
        return b"".join(parts)

    def _enter(self, pending: PendingPublish, frame_max: int) -> bytes:
        # In this order: who gives up between the two is told that it may have been delivered, which is never untrue.
        pending.written = True
        if pending.is_done:
            return b""  # whoever waited has given up
        try:
            frames = pending.frames(frame_max)
        except PublishError as error:  # the frame size has changed
            pending.finish(error)
            return b""
        self._tag += 1
        if pending.confirm:
            self._unconfirmed[self._tag] = pending
        else:
            self.without_confirm.append(pending)
        return frames

    def finish_without_confirm(self) -> None:
        """What asked for no confirm is done once it is written."""
        while self.without_confirm:
            self.without_confirm.pop().finish(None)

    def take_back(self) -> None:
        """The channel is gone: what has no answer goes back to the head of the outbox, in order."""
        self._channel = None
        unanswered = [pending for pending in self._unconfirmed.values() if not pending.is_done]
        self._unconfirmed.clear()
        self.outbox.extendleft(reversed(unanswered))
        self.send_rejected()

    def send_rejected(self) -> None:
        """Have what was refused sent again."""
        while self._rejected:
            self.outbox.append(self._rejected.popleft())

    # On the reading thread.

    def open(self, connection: LinkConnection) -> None:
        """Open the channel on a connection, in confirm mode."""
        channel: Any = connection.channel(self.number)
        channel.confirm_select()
        channel.on_return = self._on_return
        channel.on_confirm = self._on_confirm
        channel.on_closed = lambda error: self._on_closed(self, error)
        self._forget_tags()
        self._channel = channel

    def blame(self, error: Exception) -> None:
        """Finish the messages that made the broker close the channel; the others are sent again.

        Call after `take_back`. Where the broker's words name nobody, everything that was written is in doubt.
        """
        written = [pending for pending in self.pending() if pending.written]
        found = blamed(error, written)
        for pending, why in found:
            pending.finish(why)

    def fail_all(self, error: Callable[[], PublishError]) -> None:
        """Finish everything: no further connection comes."""
        self.send_rejected()
        for pending in list(self._unconfirmed.values()):
            pending.give_up(str(error()))
        # One by one, for other threads may put in more meanwhile, or do the same as this one.
        while self.outbox:
            try:
                pending = self.outbox.popleft()
            except IndexError:
                return
            if pending.written:
                pending.give_up(str(error()))
            else:
                pending.finish(error())

    def _on_confirm(self, tag: int, multiple: bool, confirmed: bool) -> None:
        if not multiple:
            self._answer(tag, confirmed)
            return
        for each in range(self._lowest, tag + 1):
            self._answer(each, confirmed)
        self._lowest = tag + 1

    def _answer(self, tag: int, confirmed: bool) -> None:
        pending = self._unconfirmed.pop(tag, None)
        if pending is None:
            return
        if not confirmed and pending.more_tries and not pending.is_done:
            pending.more_tries -= 1
            self._rejected.append(pending)
            self._on_rejected(self)
        else:
            pending.finish(None if confirmed else rejected(pending))

    def _on_return(self, method: bytes, header: bytes, body: bytes) -> None:
        """A mandatory message that no queue took; its confirm comes after this, and changes nothing any more."""
        _, at = short_string_at(method, 6)  # the reason's text, behind its number
        exchange, at = short_string_at(method, at)
        routing_key, _ = short_string_at(method, at)
        tag = self._tag_of(exchange.decode(), routing_key.decode(), header[12:], body)
        if tag is None:
            logger.warning(
                "a message came back that nobody waits for: exchange %r, routing key %r", exchange, routing_key
            )
            return
        self._returned = tag
        pending = self._unconfirmed[tag]
        pending.finish(unroutable(pending))

    def _tag_of(self, exchange: str, routing_key: str, properties: bytes, body: bytes) -> int | None:
        """Which message came back: the first after the last that did, with the same content.

        Exact, for the broker returns in the order of publishing, and of equal messages it makes no difference which.
        """
        # Other threads put more in meanwhile: a copy of the keys is made in one step, one of the items is not.
        later = [(tag, self._unconfirmed[tag]) for tag in list(self._unconfirmed) if tag > self._returned]
        alike = [
            tag
            for tag, pending in later
            if pending.publication.mandatory
            and not pending.is_done
            and pending.publication.routing_key == routing_key
            and pending.publication.exchange == exchange
            and pending.publication.body == body
        ]
        # The broker may have changed the properties (it takes a BCC header away); then the body must do.
        same = (tag for tag in alike if pack_properties(self._unconfirmed[tag].publication.properties) == properties)
        return next(same, alike[0] if alike else None)


def rejected(pending: PendingPublish) -> PublishError:
    publication = pending.publication
    return PublishRejected(
        f"the broker refused the message for exchange {publication.exchange!r}, "
        f"routing key {publication.routing_key!r} (basic.nack): a queue it goes to is full "
        "(x-overflow: reject-publish), is just being deleted, or broken; other queues may have it; see the broker's log"
    )


def unroutable(pending: PendingPublish) -> PublishError:
    publication = pending.publication
    if pending.queue is not None:
        return Unroutable(f"queue {pending.queue!r} does not exist, so nothing can be delayed for it; declare it first")
    if not publication.exchange:
        return Unroutable(f"queue {publication.routing_key!r} does not exist; declare it first, or correct the name")
    return Unroutable(
        f"no queue is bound to exchange {publication.exchange!r} for routing key {publication.routing_key!r}; "
        "start the service that handles it, or do not ask for mandatory delivery"
    )
