"""Header tables as bytes. Pure functions.

Most headers are Nameko's: texts and lists of texts. Such tables are packed and taken apart here, in a third of the time
that py-amqp's code for all of AMQP's types takes; whatever else is in one, py-amqp does the whole table. The bytes are
the same either way. Layout: AMQP 0-9-1 specification, 4.2.5.5; letters of types: RabbitMQ's errata of it.
"""

import struct
from collections.abc import Mapping
from struct import Struct
from typing import Any

from amqp.serialization import dumps, loads

__all__ = ["pack_table", "unpack_table"]

TEXT, LIST = ord("S"), ord("A")
VALUE_HEAD = Struct(">BI")
LENGTH = Struct(">I")
MOST_KEY = 255
EMPTY = bytes(LENGTH.size)


def pack_table(table: Mapping[str, Any]) -> bytes:
    """A table.

    Raises:
        FrameSyntaxError: It holds what AMQP has no type for.
        Exception: What else py-amqp raises where something does not fit.
    """
    quick = packed_texts(table)
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
    quick = texts_in(data, at)
    if quick is not None:
        return quick
    (table,), end = loads("F", data, at)
    return table, end


def packed_texts(table: Mapping[str, Any]) -> bytes | None:
    """A table of texts and lists of texts; None where it is none."""
    parts: list[bytes] = []
    try:
        for key, value in table.items():
            name = key.encode("utf-8", "surrogatepass")
            if len(name) > MOST_KEY:
                return None
            if type(value) is str:
                kind, raw = TEXT, value.encode("utf-8", "surrogatepass")
            elif type(value) is list and (packed := packed_list(value)) is not None:
                kind, raw = LIST, packed
            else:
                return None
            parts += (bytes((len(name),)), name, VALUE_HEAD.pack(kind, len(raw)), raw)
    except (AttributeError, UnicodeError):  # a name that is no text, or no mapping at all: py-amqp says so
        return None
    content = b"".join(parts)
    return LENGTH.pack(len(content)) + content


def packed_list(texts: list[Any]) -> bytes | None:
    """What is in a list of texts; None where it holds anything else."""
    parts: list[bytes] = []
    for text in texts:
        if type(text) is not str:
            return None
        raw = text.encode("utf-8", "surrogatepass")
        parts += (VALUE_HEAD.pack(TEXT, len(raw)), raw)
    return b"".join(parts)


def texts_in(data: bytes, at: int) -> tuple[dict[str, Any], int] | None:
    """A table of texts and lists of texts, and the offset behind it; None where it is none."""
    table: dict[str, Any] = {}
    try:
        end = at + LENGTH.size + LENGTH.unpack_from(data, at)[0]
        at += LENGTH.size
        while at < end:
            value_at = at + 1 + data[at]
            name = data[at + 1 : value_at].decode("utf-8", "surrogatepass")
            kind, size = VALUE_HEAD.unpack_from(data, value_at)
            value_at += VALUE_HEAD.size
            at = value_at + size
            if kind == TEXT:
                table[name] = data[value_at:at].decode("utf-8", "surrogatepass")
            elif kind == LIST and (texts := list_in(data, value_at, at)) is not None:
                table[name] = texts
            else:
                return None
    except (IndexError, struct.error, UnicodeError):
        return None
    return (table, end) if at == end <= len(data) else None


def list_in(data: bytes, at: int, end: int) -> list[str] | None:
    """The texts in a list; None where it holds anything else."""
    texts = []
    while at < end:
        kind, size = VALUE_HEAD.unpack_from(data, at)
        if kind != TEXT:
            return None
        start = at + VALUE_HEAD.size
        at = start + size
        texts.append(data[start:at].decode("utf-8", "surrogatepass"))
    return texts if at == end else None
