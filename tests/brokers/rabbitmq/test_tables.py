"""Header tables: the same bytes as py-amqp's, and the same tables out of them."""

import random
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from amqp.exceptions import FrameSyntaxError
from amqp.serialization import dumps, loads

from micro_framework.brokers.rabbitmq.tables import pack_table, packed_plain, plain_in, unpack_table

PLAIN = [
    {},
    {"a": ""},
    {"nameko.call_id_stack": ["shop.buy.1", "orders.create.2"], "nameko.language": "en"},
    {"é" * 127: ["", "日本", "\udcff"], "": "empty name"},
    {"none": []},
    {
        "mf-deadline": 1_800_000_000_000,
        "mf-retry": 3,
        "zero": 0,
        "least": -(2**63),
        "small": -(2**31),
        "most": 2**63 - 1,
    },
    {"long": "x" * 100_000},
]
OTHERS: list[dict[str, Any]] = [
    {"a": "text", "b": 1.5},
    {"a": True},
    {"a": [1]},
    {"a": ["text", ["nested"]]},
    {"a": ("tuple",)},
    {"a": {"table": "nested"}},
    {"a": None, "b": True, "c": 1.5, "d": Decimal("1.5"), "e": 2**40, "f": b"bytes"},
    {"a": datetime(2026, 11, 30, tzinfo=UTC)},
    {b"name": "text"},  # type: ignore[dict-item]
]


@pytest.mark.parametrize("table", PLAIN)
def test_plain_tables_are_packed_as_py_amqp_does(table: dict[str, Any]) -> None:
    data = dumps("F", [table])
    assert pack_table(table) == packed_plain(table) == data
    assert unpack_table(b"before" + data + b"behind", 6) == (table, 6 + len(data))
    assert plain_in(data, 0) == (table, len(data))


@pytest.mark.parametrize("table", OTHERS)
def test_of_everything_else_py_amqp_does_the_whole(table: dict[str, Any]) -> None:
    data = dumps("F", [table])
    assert packed_plain(table) is None
    assert pack_table(table) == data
    assert unpack_table(data, 0) == (loads("F", data, 0)[0][0], len(data))


def test_what_amqp_has_no_type_for_is_refused() -> None:
    with pytest.raises(FrameSyntaxError):
        pack_table({"a": object()})
    with pytest.raises(FrameSyntaxError):
        pack_table({"a": ["text", object()]})
    with pytest.raises(struct.error):
        pack_table({"a": 2**63})
    with pytest.raises(Exception, match="255"):
        pack_table({"x" * 256: "text"})


@pytest.mark.parametrize("table", PLAIN[1:6])
def test_damaged_tables_are_read_as_py_amqp_reads_them(table: dict[str, Any]) -> None:
    """Cut short at each place, and with each of its bytes changed."""
    chance, data = random.Random(5), dumps("F", [table])
    damaged = [data[:size] for size in range(len(data))]
    damaged += [data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :] for at in range(len(data))]
    for each in damaged:
        assert read(unpack_table, each) == read(by_library, each), each


def by_library(data: bytes, at: int) -> tuple[Any, int]:
    (table,), end = loads("F", data, at)
    return table, end


def read(reader: Any, data: bytes) -> Any:
    """What a reader makes of it, or the kind of error."""
    try:
        return reader(data, 0)
    except Exception as error:  # noqa: BLE001 -- which one is the question
        return type(error)
