"""What a parked message carries: the message as it was, and what is known of its failure, in headers of our own.

A message is *parked* when it has failed for good: it waits in a queue beside the one it failed in until somebody looks
at it, replays it or drops it. Its body and its own headers stay what they were. What is known of the failure is in
headers ``mf-parked-…``, which are bounded: a broker closes the connection of a client whose headers fit no frame.

Some things would not let the copy rest: with an ``expiration`` it vanishes, a foreign ``user_id`` makes the broker
refuse it, ``CC`` sends it elsewhere too. They are taken off and kept, see `Parked.withheld`.

Pure functions: the time, the identifier and the traceback's text are arguments.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from micro_framework.backoff import (
    HISTORY,
    HISTORY_LIMIT,
    failed_attempt,
    listed_history,
    parsed_history,
    parsed_time,
)
from micro_framework.calls import FailedAttempt
from micro_framework.wire.headers import OWN_PREFIX, is_dead_letter_trace
from micro_framework.wire.messages import PERSISTENT, TRANSIENT, Properties

__all__ = [
    "HEADERS_LIMIT",
    "ORIGIN_KEY",
    "Failure",
    "Parked",
    "Place",
    "Reason",
    "copied_headers",
    "crash_headers",
    "crashes_of",
    "first_failure_header",
    "is_copy",
    "parked_properties",
    "parked_queue_name",
    "read_parked",
    "renewed_properties",
    "replayed_properties",
    "table_size",
    "times_returned",
]

HEADERS_LIMIT = 65_536
"""Bytes that the headers of a parked message stay under, all together, as long as its own ones leave room for that."""

TEXT_LIMIT = 2_000
"""Characters of an error's text; the traceback ends with the whole of it, as far as there is room."""

CLASS_LIMIT = 200
"""Characters of the name of an error's class."""

LONGEST_NAME = 255
"""Bytes of a queue's name: AMQP 0-9-1 sends it as a short string."""

SUFFIX = ".parked"

ORIGIN_EXCHANGE, ORIGIN_KEY = "mf-exchange", "mf-routing-key"
"""Headers of a message that was published again: where it was published to in the first place."""

FIRST_FAILED = "mf-first-failed"
"""When it failed for the first time: the history does not hold every attempt."""

CRASHES = "mf-crashes"
"""How many workers have died of it."""

DELIVERY_COUNT = "x-delivery-count"
"""How often the queue has taken the message back; only quorum queues count."""

SELECTED_BY_SENDER = ("CC", "BCC")
"""Headers with further routing keys for a message (RabbitMQ's sender-selected distribution)."""

PARKED = "mf-parked-"
"""What the headers of a parked message start with."""


class Reason(StrEnum):
    """Why a message is parked."""

    FAILED = "failed"
    """Its last attempt failed."""
    CALLBACK_FAILED = "callback failed"
    """Its last attempt failed, and then its callback did."""
    UNDECODABLE = "undecodable"
    """It cannot be decoded."""
    CRASHED = "crashed"
    """Workers died of it, or the whole service did."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known when a message has failed for good.

    Args:
        reason: Why it is to be parked.
        error: What its last attempt raised.
        when: When that was, aware UTC.
        retries: How often it had been put off before.
        crashes: How many workers have died of it, the last one included.
        call_id: The id of the last call, None where there was none.
        callback_error: What the callback raised, None where it did not.
    """

    reason: Reason
    error: BaseException
    when: datetime
    retries: int = 0
    crashes: int = 0
    call_id: str | None = None
    callback_error: BaseException | None = None

    @property
    def attempts(self) -> int:
        """How often it was run, as far as known; a run that crashed is one."""
        return self.retries + self.crashes + (self.reason in (Reason.FAILED, Reason.CALLBACK_FAILED))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message failed.

    Args:
        queue: The queue it was consumed from.
        service: The service's name.
        method: The target's name.
        exchange: The exchange it was delivered from.
        routing_key: The routing key it was delivered with.
    """

    queue: str
    service: str
    method: str
    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Parked:
    """What the headers of a parked message say; times are aware UTC, None where they cannot be read.

    Args:
        identifier: Its id among the parked ones, a new one each time that a message is parked.
        queue: The queue it failed in, and is replayed to.
        service: The service's name.
        method: The target's name.
        exchange: The exchange it was published to in the first place.
        routing_key: The routing key it was published with.
        reason: A value of `Reason`.
        error: The error's class, with its module unless that is ``builtins``.
        text: The error's text, shortened.
        callback: Class and text of what the callback raised, empty where it did not.
        traceback: The traceback's end.
        attempts: How often it was run, as far as known.
        crashes: How many workers have died of it.
        first: When it failed for the first time.
        last: When it failed for the last time, and was parked.
        call_id: The id of the last call, empty where there was none.
        history: The failed attempts, oldest first, the last ones only where they were many.
        withheld: What was taken off the message so that it can rest: properties and headers, by their names.
        headers: The message's own headers.
    """

    identifier: str
    queue: str
    service: str
    method: str
    exchange: str
    routing_key: str
    reason: str
    error: str
    text: str
    callback: str
    traceback: str
    attempts: int
    crashes: int
    first: datetime | None
    last: datetime | None
    call_id: str
    history: tuple[FailedAttempt, ...]
    withheld: Mapping[str, Any] = field(hash=False)
    headers: Mapping[str, Any] = field(hash=False)


def parked_queue_name(queue: str) -> str:
    """The name of the queue that a queue's messages are parked in; a long one is cut and told apart by a hash."""
    raw = queue.encode()
    room = LONGEST_NAME - len(SUFFIX)
    if len(raw) > room:
        from hashlib import sha256  # here: hardly any name is that long, and it costs the start

        mark = "~" + sha256(raw).hexdigest()[:16]
        queue = raw[: room - len(mark)].decode(errors="ignore") + mark
    return queue + SUFFIX


# Messages that are published again to their own queue


def copied_headers(headers: Mapping[str, Any], exchange: str, routing_key: str) -> dict[str, Any]:
    """The headers of a message that is published again, to its own queue alone; they say where it came from.

    Args:
        headers: As it was delivered.
        exchange: As it was delivered.
        routing_key: As it was delivered.
    """
    first = origin_of(headers, exchange, routing_key)
    kept = {name: value for name, value in headers.items() if not (is_withheld(name) or str(name).startswith(PARKED))}
    return {**kept, **first}


def is_copy(headers: Mapping[str, Any]) -> bool:
    """Whether a message was published again, and so may carry what the broker added on its way."""
    return ORIGIN_EXCHANGE in headers


def origin_of(headers: Mapping[str, Any], exchange: str, routing_key: str) -> dict[str, str]:
    """The headers that say where a message was published to in the first place."""
    for names in ((ORIGIN_EXCHANGE, ORIGIN_KEY), (f"{PARKED}exchange", f"{PARKED}routing-key")):
        match [headers.get(name) for name in names]:
            case [str(exchange), str(routing_key)]:
                break
    return {ORIGIN_EXCHANGE: exchange, ORIGIN_KEY: routing_key}


def crashes_of(headers: Mapping[str, Any], *, redelivered: bool) -> int:
    """How many workers have died of a message, as far as its headers tell: what we counted, and its queue since then.

    Args:
        headers: As it was delivered.
        redelivered: As it was delivered. Where it is false, a queue's count comes from another queue.
    """
    if CRASHES not in headers and DELIVERY_COUNT not in headers:
        return 0
    counts = (headers.get(CRASHES), headers.get(DELIVERY_COUNT) if redelivered else None)
    return sum(count for count in counts if isinstance(count, int) and count > 0)


def times_returned(headers: Mapping[str, Any]) -> int | None:
    """How often a message came back to the queue it was taken from; None where that queue does not count."""
    count = headers.get(DELIVERY_COUNT)
    return count if isinstance(count, int) else None


def crash_headers(headers: Mapping[str, Any], crashes: int, failed: FailedAttempt | None = None) -> dict[str, Any]:
    """The headers that carry how many workers have died of a message.

    Args:
        headers: As it was delivered.
        crashes: The number.
        failed: The attempt in which the last one died; None where it is not to be noted.
    """
    if failed is None:
        return {CRASHES: crashes}
    return {
        CRASHES: crashes,
        **first_failure_header(headers, failed),
        HISTORY: listed_history(grown(headers, failed)),
    }


def first_failure_header(headers: Mapping[str, Any], failed: FailedAttempt) -> dict[str, str]:
    """The header that says when a message failed for the first time.

    Args:
        headers: As it was delivered.
        failed: The attempt that failed now.
    """
    first = headers.get(FIRST_FAILED)
    return {FIRST_FAILED: first if isinstance(first, str) else failed.when.isoformat()}


def grown(headers: Mapping[str, Any], failed: FailedAttempt) -> tuple[FailedAttempt, ...]:
    """The history in a message's headers, and one more."""
    return (*parsed_history(headers.get(HISTORY)), failed)[-HISTORY_LIMIT:]


# Parking


def parked_properties(
    properties: Properties, place: Place, failure: Failure, *, identifier: str, traceback: str
) -> Properties:
    """The properties of the copy that is parked.

    Args:
        properties: As it was delivered.
        place: Where it failed.
        failure: What is known of that.
        identifier: A new one.
        traceback: Of any length; the end is kept.
    """
    headers = {name: value for name, value in properties.headers.items() if is_own(name)}
    last = failed_attempt(failure.retries, failure.error, failure.when)
    needed = essentials(properties.headers, place, failure, identifier, last)
    wanted = extras(properties, failure, last)
    about = fitting(HEADERS_LIMIT - table_size(headers), needed, wanted, traceback)
    return replace(properties, headers={**headers, **about}, expiration=None, user_id=None, delivery_mode=PERSISTENT)


def is_own(name: str) -> bool:
    """Whether a header is the message's own, and stays."""
    return not (str(name).startswith(OWN_PREFIX) or is_withheld(name))


def is_withheld(name: str) -> bool:
    # py-amqp gives the name as bytes where it is not UTF-8; as such it also goes out again.
    return name in SELECTED_BY_SENDER or is_dead_letter_trace(str(name))


def essentials(
    headers: Mapping[str, Any], place: Place, failure: Failure, identifier: str, last: FailedAttempt
) -> dict[str, Any]:
    """What is there at any price: some hundred bytes."""
    origin = origin_of(headers, place.exchange, place.routing_key)
    return {
        "id": identifier,
        "queue": place.queue,
        "service": place.service,
        "method": place.method,
        "exchange": origin[ORIGIN_EXCHANGE],
        "routing-key": origin[ORIGIN_KEY],
        "reason": failure.reason.value,
        "error": beginning(class_path(failure.error), CLASS_LIMIT),
        "attempts": failure.attempts,
        "crashes": failure.crashes,
        "first": first_failure_header(headers, last)[FIRST_FAILED],
        "last": failure.when.isoformat(),
    }


def extras(properties: Properties, failure: Failure, last: FailedAttempt) -> Iterator[tuple[str, Any]]:
    """What is there if it fits, the most important first."""
    if failure.call_id is not None:
        yield "call-id", failure.call_id
    if withheld := withheld_from(properties):
        yield "withheld", withheld
    yield "text", beginning(text_of(failure.error), TEXT_LIMIT)
    if failure.callback_error is not None:
        error = failure.callback_error
        yield "callback", beginning(f"{class_path(error)}: {text_of(error)}", TEXT_LIMIT)
    yield "history", listed_history(grown(properties.headers, last))


def withheld_from(properties: Properties) -> dict[str, Any]:
    """What would not let the copy rest."""
    headers = {
        name: value for name, value in properties.headers.items() if is_withheld(name) and name != DELIVERY_COUNT
    }
    mode = properties.delivery_mode or TRANSIENT
    others = {
        "expiration": properties.expiration,
        "user_id": properties.user_id,
        "delivery_mode": None if mode == PERSISTENT else mode,
    }
    return {**headers, **{name: value for name, value in others.items() if value is not None}}


def fitting(room: int, needed: Mapping[str, Any], wanted: Iterable[tuple[str, Any]], traceback: str) -> dict[str, Any]:
    """The headers about a failure that fit into so many bytes; the traceback gets what is left."""
    about = {f"{PARKED}{name}": value for name, value in needed.items()}
    room -= table_size(about)
    for name, value in wanted:
        header = {f"{PARKED}{name}": value}
        if (size := table_size(header)) <= room:
            about |= header
            room -= size
    room -= table_size({f"{PARKED}traceback": ""})
    if room > 0:
        about[f"{PARKED}traceback"] = ending(readable(traceback), room)
    return about


def class_path(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException) -> str:
    try:
        return readable(str(error))
    except Exception:  # noqa: BLE001 - whatever the __str__ of a user's exception raises
        return "<its text cannot be had>"


def readable(text: str) -> str:
    """A text that UTF-8 can carry: half a surrogate pair, as in some names of files, is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def beginning(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def ending(text: str, size: int) -> str:
    """The end of a text, in whole characters, of at most so many bytes in UTF-8."""
    raw = text.encode()
    if len(raw) <= size:
        return text
    mark = "…\n".encode()
    return (mark + raw[len(raw) + len(mark) - size :]).decode(errors="ignore") if size > len(mark) else ""


def table_size(value: object) -> int:
    """Bytes that a value takes in an AMQP table, at most; for a table of headers, what all of them take."""
    match value:
        case Mapping():
            return 5 + sum(1 + text_size(name) + table_size(each) for name, each in value.items())
        case list() | tuple():
            return 5 + sum(map(table_size, value))
        case str() | bytes():
            return 5 + text_size(value)
    return 9


def text_size(value: str | bytes) -> int:
    return len(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)


# Reading and replaying


def read_parked(headers: Mapping[str, Any]) -> Parked | None:
    """What the headers of a message say of its failure; None where it was not parked by us.

    A field that is missing or of another kind is empty.
    """
    about = {name.removeprefix(PARKED): value for name, value in headers.items() if str(name).startswith(PARKED)}
    identifier, queue, withheld = about.get("id"), about.get("queue"), about.get("withheld")
    if not (isinstance(identifier, str) and isinstance(queue, str)):
        return None
    return Parked(
        identifier=identifier,
        queue=queue,
        service=text_in(about, "service"),
        method=text_in(about, "method"),
        exchange=text_in(about, "exchange"),
        routing_key=text_in(about, "routing-key"),
        reason=text_in(about, "reason"),
        error=text_in(about, "error"),
        text=text_in(about, "text"),
        callback=text_in(about, "callback"),
        traceback=text_in(about, "traceback"),
        attempts=number_in(about, "attempts"),
        crashes=number_in(about, "crashes"),
        first=parsed_time(about.get("first")),
        last=parsed_time(about.get("last")),
        call_id=text_in(about, "call-id"),
        history=parsed_history(about.get("history")),
        withheld=withheld if isinstance(withheld, Mapping) else {},
        headers={name: value for name, value in headers.items() if is_own(name)},
    )


def text_in(about: Mapping[str, Any], name: str) -> str:
    value = about.get(name)
    return value if isinstance(value, str) else ""


def number_in(about: Mapping[str, Any], name: str) -> int:
    value = about.get(name)
    return value if isinstance(value, int) else 0


def replayed_properties(properties: Properties, parked: Parked) -> Properties:
    """The properties with which a parked message goes back to its queue: its own, and where it came from.

    Its attempts begin anew, and so does its lifetime where it had one.

    Args:
        properties: Of the parked message.
        parked: What `read_parked` read from them.
    """
    restored = {name: value for name, value in parked.withheld.items() if name in ("expiration", "delivery_mode")}
    headers = {**parked.headers, ORIGIN_EXCHANGE: parked.exchange, ORIGIN_KEY: parked.routing_key}
    return replace(properties, headers=headers, **restored)


def renewed_properties(properties: Properties) -> Properties:
    """The properties with which a parked message goes to the end of the queue it is in, as if it had just been parked.

    Args:
        properties: Of the parked message.
    """
    headers = {name: value for name, value in properties.headers.items() if not is_withheld(name)}
    return replace(properties, headers=headers, user_id=None)
