"""What a message looks like after the journey: nothing works on ``memory://`` that RabbitMQ would refuse or change.

A header table is copied, so publisher and consumers share nothing that can be changed, and its values become what AMQP
0-9-1 carries and py-amqp reads back: tuples become lists, bytes text where they are UTF-8, aware datetimes naive UTC in
whole seconds (py-amqp 5.4 ``serialization.py``). Other types are refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from micro_framework.brokers.memory.queues import Message
from micro_framework.brokers.port import Publication
from micro_framework.exceptions import PublishError
from micro_framework.wire.headers import is_dead_letter_trace

__all__ = ["delayed_message", "published_message", "travelled"]

LARGEST_INT = 2**63 - 1
SMALLEST_INT = -(2**63)


def published_message(publication: Publication) -> Message:
    """The message a publication arrives as.

    Raises:
        PublishError: A header or the expiration is nothing that AMQP can carry.
    """
    properties = publication.properties
    if properties.headers:
        properties = replace(properties, headers=travelled_table(properties.headers, "header"))
    expires_in = seconds_from(properties.expiration)
    return Message(publication.exchange, publication.routing_key, publication.body, properties, expires_in)


def delayed_message(publication: Publication, exchange: str, routing_key: str) -> Message:
    """The message that a publication comes back as after a delay: without what would expire or mark it.

    Raises:
        PublishError: As in `published_message`.
    """
    headers = {name: value for name, value in publication.properties.headers.items() if not is_dead_letter_trace(name)}
    properties = replace(publication.properties, headers=headers, expiration=None)
    back = replace(publication, exchange=exchange, routing_key=routing_key, properties=properties)
    return published_message(back)


def travelled(value: object, where: str) -> Any:
    """A header's value as the other side reads it.

    Args:
        value: The value.
        where: Its place, for the error's text.
    """
    if value is None or isinstance(value, str | bool | float | Decimal):
        return value
    if isinstance(value, int) and SMALLEST_INT <= value <= LARGEST_INT:
        return value
    if isinstance(value, Mapping):
        return travelled_table(value, where)
    if isinstance(value, list | tuple):
        return [travelled(item, where) for item in value]
    if isinstance(value, bytes):
        return text_where_possible(value)
    if isinstance(value, datetime):
        return naive_utc_seconds(value)
    raise PublishError(f"{where} cannot travel in an AMQP table: {type(value).__name__} {value!r:.80}; send text")


def travelled_table(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {name: travelled(value, f"{where} {name!r}") for name, value in table.items()}


def text_where_possible(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def naive_utc_seconds(value: datetime) -> datetime:
    utc = value.astimezone(UTC) if value.tzinfo else value
    return utc.replace(microsecond=0, tzinfo=None)


def seconds_from(expiration: str | None) -> float | None:
    if expiration is None:
        return None
    if not expiration.isdecimal():
        raise PublishError(f"expiration must be a number of milliseconds as text, like '60000'; it is {expiration!r}")
    return int(expiration) / 1000
