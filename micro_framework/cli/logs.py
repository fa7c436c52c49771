"""Logging of the command line: text for people on a terminal, one JSON object a line for everything else.

What the lines look like is in `micro_framework.logs`, for a ``LOGGING`` configuration of one's own too.
"""

import logging
import logging.config
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from micro_framework.config.kinds import dict_config
from micro_framework.exceptions import ConfigError
from micro_framework.logs import JSONFormatter, TextFormatter

__all__ = ["configure_logging"]

QUIET_LIBRARIES = ("amqp", "kombu", "watchfiles", "websockets")

NO_COLOUR = "NO_COLOR"
"""The environment variable that, set to anything, keeps colours away (https://no-color.org)."""


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
    handler.setFormatter(formatter_for(stream))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for library in QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)


def formatter_for(stream: TextIO) -> logging.Formatter:
    """Text for a terminal, in colour unless that is unwanted or impossible; else JSON."""
    if not stream.isatty():
        return JSONFormatter()
    return TextFormatter(colour=not os.environ.get(NO_COLOUR) and os.environ.get("TERM") != "dumb")


def configure_as_told(user_config: Mapping[str, Any]) -> None:
    try:
        logging.config.dictConfig(dict_config(user_config))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise ConfigError(
            "the configuration cannot be used",
            [f"LOGGING is not a valid logging.config.dictConfig: {error}{cause}"],
        ) from error
