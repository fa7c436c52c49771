"""How parked messages are shown: a table, everything about one of them, and JSON for programs.

Texts come from strangers' messages: control characters are spelt out, so that none of them reaches a terminal.
"""

import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import click

from micro_framework.calls import FailedAttempt
from micro_framework.cli.dead_letters.desk import Letter
from micro_framework.wire.messages import Properties

__all__ = ["as_json", "as_row", "as_text", "print_table"]

COLUMNS = ("ID", "PARKED (UTC)", "TARGET", "REASON", "ATTEMPTS", "ERROR")
ID_SHOWN = 8
PREVIEW = 2_000
"""Characters of a body that are shown."""


# The table


def as_row(letter: Letter) -> tuple[str, ...]:
    """A message as a row of the table."""
    parked = letter.parked
    name = parked.error.rpartition(".")[2]
    first_line = parked.text.strip().partition("\n")[0]
    cells = (
        parked.identifier[:ID_SHOWN],
        "" if parked.last is None else f"{parked.last:%Y-%m-%d %H:%M:%S}",
        f"{parked.service}.{parked.method}",
        parked.reason,
        str(parked.attempts),
        f"{name}: {first_line}" if first_line else name,
    )
    return tuple(map(printable, cells))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the table: fitted into a terminal, else a line a message in aligned columns."""
    if sys.stdout.isatty():
        print_fitted(rows)
        return
    lines = [COLUMNS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_fitted(rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=column != "ERROR", overflow="fold" if column == "ERROR" else "ellipsis")
    for row in rows:
        table.add_row(*map(Text, row))  # as Text, for Rich reads [brackets] in a str as its own markup
    Console().print(table)


# Everything


def as_text(letter: Letter) -> Iterator[str]:
    """Everything about a message, a line at a time."""
    parked, properties = letter.parked, letter.delivery.properties
    yield f"message {parked.identifier}"
    for name, value in (
        ("target", f"{parked.service}.{parked.method}" + (f", call {parked.call_id}" if parked.call_id else "")),
        ("queue", f"{parked.queue}, parked in {letter.delivery.queue}"),
        ("sent to", f"exchange {parked.exchange!r}, routing key {parked.routing_key!r}"),
        ("reason", f"{parked.reason}; attempts: {parked.attempts}, crashes: {parked.crashes}"),
        ("failed", f"first {iso(parked.first)}, last {iso(parked.last)}"),
        ("error", f"{parked.error}: {parked.text}"),
        ("callback", parked.callback),
        ("properties", in_words(said_by(properties))),
        ("headers", in_words(parked.headers)),
        ("withheld", in_words(parked.withheld)),
    ):
        if value:
            yield f"  {name:<10}  " + printable(value, keep="\n").replace("\n", "\n" + " " * 14)
    yield from section("history", "\n".join(map(in_a_line, parked.history)))
    yield from section(f"body, {len(letter.delivery.body)} bytes", preview(letter.delivery.body))
    yield from section("traceback", parked.traceback)


def section(title: str, text: str) -> Iterator[str]:
    if text:
        yield f"  {title}"
        yield from (f"    {line}" for line in printable(text.rstrip("\n"), keep="\n\t").split("\n"))


def iso(moment: datetime | None) -> str:
    return "unknown" if moment is None else moment.isoformat()


def in_a_line(failed: FailedAttempt) -> str:
    return f"attempt {failed.attempt + 1} at {iso(failed.when)}: {failed.exc_type}: {failed.text}".replace("\n", " ")


def in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def said_by(properties: Properties) -> dict[str, Any]:
    """The properties that are there, without the headers."""
    found = {each.name: getattr(properties, each.name) for each in fields(properties) if each.name != "headers"}
    return {name: value for name, value in found.items() if value is not None}


def preview(body: bytes) -> str:
    """The beginning of a body."""
    text = body[: 4 * PREVIEW].decode("utf-8", "backslashreplace")
    return text if len(text) <= PREVIEW and len(body) <= 4 * PREVIEW else text[:PREVIEW] + "…"


def printable(text: str, keep: str = "") -> str:
    """A text in which every character that cannot be seen is spelt out, but for a space and those to keep."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )


# For programs


def as_json(letter: Letter, *, everything: bool) -> str:
    """A message as one line of JSON.

    Args:
        letter: The message.
        everything: With body, headers, history and traceback.
    """
    parked, delivery = letter.parked, letter.delivery
    found: dict[str, Any] = {
        "id": parked.identifier,
        "parked_in": delivery.queue,
        "queue": parked.queue,
        "service": parked.service,
        "method": parked.method,
        "exchange": parked.exchange,
        "routing_key": parked.routing_key,
        "reason": parked.reason,
        "error": parked.error,
        "text": parked.text,
        "callback": parked.callback or None,
        "attempts": parked.attempts,
        "crashes": parked.crashes,
        "first": parked.first,
        "last": parked.last,
        "call_id": parked.call_id or None,
        "size": len(delivery.body),
    }
    if everything:
        found |= {
            "properties": said_by(delivery.properties),
            "headers": parked.headers,
            "withheld": parked.withheld,
            "history": [each._asdict() for each in parked.history],
            "traceback": parked.traceback,
            **body_as_json(delivery.body),
        }
    return json.dumps(found, default=text_for_json)


def body_as_json(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode(), "body_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "body_encoding": "base64"}


def text_for_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
