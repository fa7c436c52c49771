"""Logging in worker processes as in their service: the same levels, and the same lines on stderr and stdout.

With ``LOGGING`` both are configured by it. Without it logging is the user's own affair, or the command line's, and
whatever they set up happened in the service's process only. So what of it can be repeated is: the levels of loggers,
and plain handlers that write to the standard streams, with their formatters. A handler with a file or a connection of
its own is left out, since many processes must not share one unasked.
"""

import logging
import pickle
import sys
from collections.abc import Iterator
from typing import NamedTuple, TextIO

__all__ = ["LoggerState", "drop_doubles", "logging_now", "repeat_logging"]


class StreamState(NamedTuple):
    """A plain handler that writes to a standard stream.

    Args:
        stream: ``stderr`` or ``stdout``.
        level: The handler's level.
        formatter: Its formatter, pickled; None for none, or one that cannot be pickled.
    """

    stream: str
    level: int
    formatter: bytes | None


class LoggerState(NamedTuple):
    """What was set on a logger.

    Args:
        name: Its name, empty for the root.
        level: Its level, 0 where none was set.
        propagate: Whether its records go on to the loggers above.
        streams: Its handlers.
    """

    name: str
    level: int
    propagate: bool
    streams: tuple[StreamState, ...]


# -- in the service


def logging_now() -> tuple[LoggerState, ...]:
    """What has been set on loggers in this process, as far as it can be repeated in another one."""
    return tuple(state for state in map(state_of, loggers()) if state.level or state.streams or not state.propagate)


def loggers() -> Iterator[logging.Logger]:
    """Every logger there is, the root first."""
    yield logging.getLogger()
    for logger in tuple(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def state_of(logger: logging.Logger) -> LoggerState:
    """What was set on one logger."""
    name = "" if logger is logging.root else logger.name
    streams = tuple(state for state in map(stream_of, logger.handlers) if state is not None)
    return LoggerState(name, logger.level, logger.propagate, streams)


def stream_of(handler: logging.Handler) -> StreamState | None:
    """What a handler is, None unless it is a plain one that writes to a standard stream."""
    if type(handler) is not logging.StreamHandler:
        return None
    for name in ("stderr", "stdout"):
        if handler.stream in (getattr(sys, name), getattr(sys, f"__{name}__")):
            return StreamState(name, handler.level, pickled(handler.formatter))
    return None


def pickled(formatter: logging.Formatter | None) -> bytes | None:
    """A formatter pickled, None where that cannot be."""
    try:
        return None if formatter is None else pickle.dumps(formatter)
    except Exception:  # noqa: BLE001 - the formatter may be the user's; the lines look plainer then
        return None


# -- in a worker process


def repeat_logging(states: tuple[LoggerState, ...]) -> list[tuple[logging.Logger, logging.Handler]]:
    """Set on the loggers of this process what was set on those of the service; handlers only where there are none yet.

    Returns:
        The handlers that were added, each with its logger.
    """
    added = []
    for state in states:
        logger = logging.getLogger(state.name or None)
        logger.setLevel(state.level)
        logger.propagate = state.propagate
        if not logger.handlers:
            added += [(logger, handler_of(stream)) for stream in state.streams]
    for logger, handler in added:
        logger.addHandler(handler)
    return added


def handler_of(state: StreamState) -> logging.Handler:
    """A handler like the one of the service."""
    stream: TextIO = getattr(sys, state.stream)
    handler = logging.StreamHandler(stream)
    handler.setLevel(state.level)
    if state.formatter is not None:
        try:
            handler.setFormatter(pickle.loads(state.formatter))  # noqa: S301 - from the service of this process
        except Exception:  # noqa: BLE001 - a user's class; a plain line is better than none
            logging.getLogger(__name__).warning("a formatter of the service cannot be had in %s", sys.argv[0])
    return handler


def drop_doubles(added: list[tuple[logging.Logger, logging.Handler]]) -> None:
    """Take handlers away again where a module of the service has put its own beside them as it was imported here."""
    ours = {handler for _, handler in added}
    for logger, handler in added:
        if any(other not in ours for other in logger.handlers):
            logger.removeHandler(handler)
