"""Logging of the command line: text for people on a terminal, one JSON object a line for everything else.

Both formatters can be named in a ``LOGGING`` configuration of one's own, as
``formatters: {json: {"()": micro_framework.cli.logs.JSONFormatter}}``.
"""

import json
import logging
import logging.config
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from micro_framework.config.kinds import dict_config
from micro_framework.exceptions import ConfigError

__all__ = ["CALL_ATTRIBUTES", "JSONFormatter", "TextFormatter", "configure_logging"]

CALL_ATTRIBUTES = ("service", "method", "call_id")
"""What a record carries when it was logged during a call."""

QUIET_LIBRARIES = ("amqp", "kombu")


ONLY_PROCESS = "MainProcess"
"""What the standard library calls a process that has no name of its own."""


def process_of(record: logging.LogRecord) -> str | None:
    """The name of the process that logged, such as ``copy-1``; None where there is but one."""
    return None if record.processName == ONLY_PROCESS else record.processName


class TextFormatter(logging.Formatter):
    """Local time, level, process where there are several, logger and message, and the call's id where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(where)s%(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the first line."""
        process = process_of(record)
        record.where = f"{process} " if process else ""
        line = super().formatMessage(record)
        call_id = getattr(record, "call_id", None)
        return line if call_id is None else f"{line} [{call_id}]"


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
        entry |= {name: getattr(record, name) for name in CALL_ATTRIBUTES if hasattr(record, name)}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure_logging(user_config: Mapping[str, Any] | None, stream: TextIO | None = None) -> None:
    """Set up logging for the process.

    Args:
        user_config: The ``LOGGING`` key; None gives the command line's default. ``version: 1`` may be left
            out, and loggers that exist already stay on unless it says ``disable_existing_loggers: true``: the
            plain default of ``dictConfig`` would silence the framework.
        stream: Where the default writes; by default stderr.

    Raises:
        ConfigError: ``LOGGING`` is not what ``logging.config.dictConfig`` accepts.
    """
    if user_config is None:
        configure_default(stream or sys.stderr)
    else:
        configure_as_told(user_config)


def configure_default(stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if stream.isatty() else JSONFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for library in QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)


def configure_as_told(user_config: Mapping[str, Any]) -> None:
    try:
        logging.config.dictConfig(dict_config(user_config))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise ConfigError(
            "the configuration cannot be used",
            [f"LOGGING is not a valid logging.config.dictConfig: {error}{cause}"],
        ) from error
