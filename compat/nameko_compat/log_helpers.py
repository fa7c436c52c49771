"""Logging how long something took."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

__all__ = ["make_timing_logger"]


def make_timing_logger(
    logger: logging.Logger, precision: int = 3, level: int = logging.DEBUG
) -> Callable[..., AbstractContextManager[None]]:
    """A context manager that logs its message with the seconds that its block took.

    Args:
        logger: Where to.
        precision: Digits after the point.
        level: At which level.
    """

    @contextmanager
    def log_time(msg: str, *args: Any) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            logger.log(level, f"{msg} in %0.{precision}fs", *args, time.monotonic() - start)

    return log_time
