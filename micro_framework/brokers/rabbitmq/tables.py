"""Header tables as bytes. Pure functions.

Most headers are Nameko's and this framework's: texts, lists of texts, whole numbers. Such plain tables are packed and
taken apart here, in less than half of the time that py-amqp's code for all of AMQP's types takes; if anything else is
in one, py-amqp does the whole table. The bytes are the same either way. Layout: AMQP 0-9-1 specification, 4.2.5.5;
letters of types: RabbitMQ's errata of it.
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

from amqp.serialization import dumps, loads

__all__ = ["pack_table", "unpack_table"]

TEXT, LIST, INT, LONG, RABBITMQ_LONG = b"SAILl"
"""The letters of types. py-amqp writes a long as the former and reads both; RabbitMQ sends the latter."""
WITH_SIZE, LONGS = (TEXT, LIST), (RABBITMQ_LONG, LONG)
SIZED, SMALL, LARGE = Struct(">BI"), Struct(">Bi"), Struct(">Bq")
"""The letter with the size of a text or a list behind it, or with a number."""
MOST_SMALL = 2**31 - 1
LENGTH = Struct(">I")
EMPTY = bytes(LENGTH.size)


def pack_table(table: Mapping[str, Any]) -> bytes:
    """A table.

    Raises:
        FrameSyntaxError: It holds what AMQP has no type for.
        Exception: What else py-amqp raises where something does not fit.
    """
    if not table:
        return EMPTY
    quick = packed_plain(table)
    if quick is not None:
        return quick
    packed: bytes = dumps("F", [dict(table)])
    return packed


def unpack_table(data: bytes, at: int) -> tuple[Mapping[str, Any], int]:
    """The table at an offset, and the offset behind it.

    Raises:
        Exception: It is none, or a name in it is no UTF-8.
    """
    if data.startswith(EMPTY, at):
        return {}, at + len(EMPTY)
    quick = plain_in(data, at)
    if quick is not None:
        return quick
    (table,), end = loads("F", data, at)
    return table, end


def packed_plain(table: Mapping[str, Any]) -> bytes | None:
    """A plain table; None where it is none."""
    parts: list[bytes] = []
    try:
        for key, value in table.items():
            if type(value) is str:
                raw = value.encode("utf-8", "surrogatepass")
                parts += (packed_key(key), SIZED.pack(TEXT, len(raw)), raw)
            elif type(value) is list and (packed := packed_list(value)) is not None:
                parts += (packed_key(key), SIZED.pack(LIST, len(packed)), packed)
            elif type(value) is int:
                small = -MOST_SMALL <= value <= MOST_SMALL
                parts += (packed_key(key), SMALL.pack(INT, value) if small else LARGE.pack(LONG, value))
            else:
                return None
    except (AttributeError, ValueError, struct.error):  # py-amqp says what is wrong
        return None
    content = b"".join(parts)
    return LENGTH.pack(len(content)) + content


@lru_cache(maxsize=256)
def packed_key(key: str) -> bytes:
    """A name in a table; a service has few of them. Raises ValueError where it is too long."""
    name = key.encode("utf-8", "surrogatepass")
    return bytes((len(name),)) + name


def packed_list(texts: list[Any]) -> bytes | None:
    """What is in a list of texts; None where it holds anything else."""
    parts: list[bytes] = []
    for text in texts:
        if type(text) is not str:
            return None
        raw = text.encode("utf-8", "surrogatepass")
        parts += (SIZED.pack(TEXT, len(raw)), raw)
    return b"".join(parts)


def plain_in(data: bytes, at: int) -> tuple[dict[str, Any], int] | None:
    """A plain table, and the offset behind it; None where it is none."""
    table: dict[str, Any] = {}
    try:
        end = at + LENGTH.size + LENGTH.unpack_from(data, at)[0]
        at += LENGTH.size
        while at < end:
            value_at = at + 1 + data[at]
            name = data[at + 1 : value_at].decode("utf-8", "surrogatepass")
            kind = data[value_at]
            if kind in WITH_SIZE:
                start = value_at + SIZED.size
                at = start + SIZED.unpack_from(data, value_at)[1]
                value = data[start:at].decode("utf-8", "surrogatepass") if kind == TEXT else list_in(data, start, at)
            elif kind in LONGS:
                at, value = value_at + LARGE.size, LARGE.unpack_from(data, value_at)[1]
            elif kind == INT:
                at, value = value_at + SMALL.size, SMALL.unpack_from(data, value_at)[1]
            else:
                return None
            if value is None:
                return None
            table[name] = value
    except (IndexError, struct.error, UnicodeError):
        return None
    return (table, end) if at == end <= len(data) else None


def list_in(data: bytes, at: int, end: int) -> list[str] | None:
    """The texts in a list; None where it holds anything else."""
    texts = []
    while at < end:
        kind, size = SIZED.unpack_from(data, at)
        if kind != TEXT:
            return None
        start = at + SIZED.size
        at = start + size
        texts.append(data[start:at].decode("utf-8", "surrogatepass"))
    return texts if at == end else None
