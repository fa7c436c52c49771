"""Which messages made the broker close a channel. Pure: its words are all there is to go by.

The broker closes a channel without saying which publish was wrong. Its text names the exchange, the queue or the size;
the texts here were seen on RabbitMQ 3.10 and 4.0.
"""

import re
from collections.abc import Iterable, Sequence

import amqp

from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.refusals import is_away, readable
from micro_framework.exceptions import MessageTooLarge, PublishError, UnknownExchange, Unroutable

__all__ = ["blamed", "locked_queue", "missing_exchange", "queue_away"]

# Not compiled here, for refusals are rare and every service would pay for it at its start.
EXCHANGE = r"exchange '([^']*)' in vhost"
QUEUE = r"queue '([^']*)' in vhost"
LOCKED = r"locked queue '([^']*)' in vhost"
TOO_LARGE = r"message size (\d+) is larger than (?:configured )?max size (\d+)"

Blamed = list[tuple[PendingPublish, PublishError]]


def locked_queue(error: Exception) -> str | None:
    """The exclusive queue of another connection that an error is about: it exists, that is all we wanted to know."""
    match = re.search(LOCKED, text_of(error)) if isinstance(error, amqp.ResourceLocked) else None
    return match[1] if match else None


def queue_away(error: Exception) -> str | None:
    """The queue that an error says is on a node of the cluster that is down."""
    match = re.search(QUEUE, text_of(error)) if is_away(error) else None
    return match[1] if match else None


def missing_exchange(error: Exception) -> str | None:
    """The exchange that an error says is not there."""
    match = re.search(EXCHANGE, text_of(error)) if isinstance(error, amqp.NotFound) else None
    return match[1] if match else None


def blamed(error: Exception, written: Sequence[PendingPublish]) -> Blamed:
    """Who gets which error; the others can be sent again.

    Args:
        error: What the broker closed the channel with.
        written: What was written on it and not answered.

    Returns:
        At least one of ``written`` if there is any: whatever was written is in doubt where the text names nobody.
    """
    if locked_queue(error) is not None:
        return []
    found = for_exchange(error, written) or for_queue(error, written) or for_size(error, written)
    return found or [(pending, in_doubt(error)) for pending in written]


def text_of(error: Exception) -> str:
    return str(getattr(error, "reply_text", None) or error)


def for_exchange(error: Exception, written: Iterable[PendingPublish]) -> Blamed:
    match = re.search(EXCHANGE, text_of(error))
    if match is None:
        return []
    name = match[1]
    why: PublishError
    if isinstance(error, amqp.NotFound):
        why = UnknownExchange(
            f"exchange {name!r} does not exist, so the message went nowhere; start the service that declares it, "
            "declare it before publishing, or correct the name"
        )
    else:
        why = PublishError(
            f"the broker refused the message for exchange {name!r}: {readable(error)}; grant the user the right to "
            "write there (rabbitmqctl set_permissions), or use another exchange"
        )
    return [(pending, why) for pending in written if name in (pending.publication.exchange, pending.back_through)]


def for_queue(error: Exception, written: Iterable[PendingPublish]) -> Blamed:
    match = re.search(QUEUE, text_of(error))
    if match is None:
        return []
    name = match[1]
    missing = Unroutable(f"queue {name!r} does not exist, so nothing can be delayed for it; declare it first")
    refused = PublishError(f"the broker refused to delay a message: {readable(error)}")
    return [
        (pending, missing if pending.queue == name and isinstance(error, amqp.NotFound) else refused)
        for pending in written
        if name in (pending.queue, pending.publication.routing_key)
    ]


def for_size(error: Exception, written: Iterable[PendingPublish]) -> Blamed:
    match = re.search(TOO_LARGE, text_of(error))
    if match is None:
        return []
    limit = int(match[2])
    why = f"expected a body of at most {limit} bytes, the broker's max_message_size; got "
    return [
        (pending, MessageTooLarge(f"{why}{len(pending.publication.body)}; send a reference to the data instead"))
        for pending in written
        if len(pending.publication.body) > limit
    ]


def in_doubt(error: Exception) -> PublishError:
    return PublishError(
        f"the broker closed the channel ({readable(error)}) before it confirmed the message; it may have been delivered"
    )
