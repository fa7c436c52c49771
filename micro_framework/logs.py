"""Log lines that say during which call they were written, and what they look like.

While a call runs, in whatever thread or process, `running_call` is that call: user code logs through `logging` as ever
and its lines carry the call's fields. The formatters here add them by themselves; for any other formatter `CallFilter`
puts them on the records. Threads that a target starts itself know of no call, unless it runs them in a copy of its
`contextvars` context.

In a ``LOGGING`` configuration of one's own::

    formatters: {json: {"()": micro_framework.logs.JSONFormatter}}
    filters: {call: {"()": micro_framework.logs.CallFilter}}
"""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from micro_framework.calls import Call, CallIdentity

__all__ = [
    "CALL_ATTRIBUTES",
    "CallFilter",
    "JSONFormatter",
    "TextFormatter",
    "call_fields",
    "running_call",
]

CALL_ATTRIBUTES = ("service", "method", "call_id", "origin_call_id")
"""What a record carries when it was logged during a call."""

running_call: ContextVar[Call | None] = ContextVar("micro_framework_running_call", default=None)
"""The call that runs here; None outside of any."""

ONLY_PROCESS = "MainProcess"
"""What the standard library calls a process that has no name of its own."""

RESET, GREY, BLUE, YELLOW, RED, BRIGHT_RED = "\x1b[0m", "\x1b[90m", "\x1b[34m", "\x1b[33m", "\x1b[31m", "\x1b[1;31m"
LEVEL_COLOURS = {"DEBUG": GREY, "INFO": BLUE, "WARNING": YELLOW, "ERROR": RED, "CRITICAL": BRIGHT_RED}


def call_fields(identity: CallIdentity) -> dict[str, str | None]:
    """What a record carries of a call; a call that nothing caused is its own origin."""
    origin = identity.origin or identity.call_id
    return dict(zip(CALL_ATTRIBUTES, (identity.service, identity.method, identity.call_id, origin), strict=True))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """A record's own fields, and for the rest those of the call that runs."""
    own = {name: getattr(record, name) for name in CALL_ATTRIBUTES if hasattr(record, name)}
    call = running_call.get()
    if call is None or (own.get("call_id") or call.identity.call_id) != call.identity.call_id:
        return own
    return {**call_fields(call.identity), **{name: value for name, value in own.items() if value is not None}}


def process_of(record: logging.LogRecord) -> str | None:
    """The name of the process that logged, such as ``copy-1``; None where there is but one."""
    return None if record.processName == ONLY_PROCESS else record.processName


class CallFilter(logging.Filter):
    """Lets every record pass, with the fields of the running call on it; None outside of calls.

    Put it on *handlers*: filters of a logger do not see what loggers below it log. A formatter can then name the
    fields: ``%(call_id)s``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the fields on the record."""
        fields = fields_of(record)
        for name in CALL_ATTRIBUTES:
            setattr(record, name, fields.get(name))
        return True


class TextFormatter(logging.Formatter):
    """Local time, level, process where there are several, logger and message; of a call its id and what began it.

    Args:
        colour: Whether levels are coloured, with ANSI escapes.
    """

    def __init__(self, colour: bool = False) -> None:
        super().__init__("%(asctime)s %(shown_level)s %(where)s%(name)s: %(message)s")
        self.colour = colour

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the first line."""
        process = process_of(record)
        record.where = f"{process} " if process else ""
        record.shown_level = self.painted(LEVEL_COLOURS.get(record.levelname, ""), f"{record.levelname:<8}")
        line = super().formatMessage(record)
        fields = fields_of(record)
        call_id, origin = fields.get("call_id"), fields.get("origin_call_id")
        if call_id is None:
            return line
        begun_by = "" if origin in (None, call_id) else f" from {origin}"
        return f"{line} {self.painted(GREY, f'[{call_id}{begun_by}]')}"

    def painted(self, colour: str, text: str) -> str:
        """Text in a colour, if there are any."""
        return f"{colour}{text}{RESET}" if self.colour and colour else text


class JSONFormatter(logging.Formatter):
    """One object a line: time (ISO, UTC), level, logger, message; the process, the call and the exception if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a value that JSON does not know goes out as its ``str``."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if process := process_of(record):
            entry["process"] = process
        entry |= fields_of(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return json.dumps(entry, ensure_ascii=False, default=str)
