"""What of the service's logging is repeated in worker processes."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from micro_framework.logs import JSONFormatter
from micro_framework.spawners.log_mirror import LoggerState, drop_doubles, logging_now, repeat_logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that nobody else knows, untouched afterwards."""
    logger = logging.getLogger("tests.log_mirror.own")
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def own(logger: logging.Logger) -> LoggerState:
    (state,) = [state for state in logging_now() if state.name == logger.name]
    return state


def untouched(logger: logging.Logger) -> None:
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def test_levels_and_propagation_are_repeated(logger: logging.Logger) -> None:
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    state = own(logger)
    untouched(logger)
    assert repeat_logging((state,)) == []
    assert (logger.level, logger.propagate) == (logging.ERROR, False)


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_a_handler_of_a_standard_stream_is_repeated_with_level_and_formatter(
    logger: logging.Logger, stream: str
) -> None:
    handler = logging.StreamHandler(getattr(sys, stream))
    handler.setLevel(logging.WARNING)
    handler.setFormatter(JSONFormatter())
    logger.addHandler(handler)
    state = own(logger)
    untouched(logger)
    ((of, again),) = repeat_logging((state,))
    assert of is logger
    assert logger.handlers == [again]
    assert isinstance(again, logging.StreamHandler)
    assert (again.stream, again.level, type(again.formatter)) == (
        getattr(sys, stream),
        logging.WARNING,
        JSONFormatter,
    )


def test_other_handlers_are_not(logger: logging.Logger) -> None:
    for handler in (logging.StreamHandler(io.StringIO()), logging.NullHandler()):
        logger.addHandler(handler)
    assert own_or_none(logger) is None


def own_or_none(logger: logging.Logger) -> LoggerState | None:
    return next((state for state in logging_now() if state.name == logger.name), None)


def test_what_nobody_touched_is_not_mentioned(logger: logging.Logger) -> None:
    assert own_or_none(logger) is None


def test_the_root_is_called_by_an_empty_name() -> None:
    assert logging_now()[0].name == ""


class Unpicklable(logging.Formatter):
    def __reduce__(self) -> str:
        raise TypeError("no")


def test_a_formatter_that_cannot_be_sent_leaves_plain_lines(logger: logging.Logger) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Unpicklable())
    logger.addHandler(handler)
    state = own(logger)
    untouched(logger)
    ((_, again),) = repeat_logging((state,))
    assert again.formatter is None


def test_a_logger_that_has_handlers_already_keeps_them(logger: logging.Logger) -> None:
    logger.addHandler(logging.StreamHandler(sys.stderr))
    state = own(logger)
    assert repeat_logging((state,)) == []
    assert len(logger.handlers) == 1


@pytest.mark.parametrize("doubled", [True, False])
def test_a_handler_goes_again_where_an_import_brought_its_own(logger: logging.Logger, doubled: bool) -> None:
    logger.addHandler(logging.StreamHandler(sys.stderr))
    state = own(logger)
    untouched(logger)
    added = repeat_logging((state,))
    theirs = logging.StreamHandler(sys.stderr)
    if doubled:
        logger.addHandler(theirs)
    drop_doubles(added)
    assert logger.handlers == ([theirs] if doubled else [added[0][1]])
