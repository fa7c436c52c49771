"""``retry``: call a function again while it raises."""

import functools
import itertools
from collections.abc import Callable
from time import sleep
from typing import Any

__all__ = ["RetryDelay", "retry"]


class RetryDelay:
    """How long to wait before each further attempt.

    Args:
        delay: Seconds.
        backoff: What they are multiplied by each time.
        max_delay: The longest; None for no limit.
    """

    def __init__(self, delay: float, backoff: float, max_delay: float | None) -> None:
        self.delay = delay
        self.backoff = backoff
        self.max_delay = max_delay

    def next(self) -> float:
        """The next one."""
        if self.backoff:
            self.delay *= self.backoff
        return min(self.delay, self.max_delay) if self.max_delay else self.delay


def retry(
    wrapped: Callable[..., Any] | None = None,
    for_exceptions: Any = Exception,
    max_attempts: float | None = 3,
    delay: float = 1,
    backoff: float = 1,
    max_delay: float | None = None,
) -> Any:
    """Decorate a function so that it is called again while it raises: ``@retry`` or ``@retry(...)``.

    Args:
        wrapped: The function.
        for_exceptions: What it is called again for.
        max_attempts: How many further attempts there are; None: any number.
        delay: Seconds before the next one.
        backoff: What they are multiplied by each time.
        max_delay: The longest.
    """
    if wrapped is None:
        return functools.partial(
            retry,
            for_exceptions=for_exceptions,
            max_attempts=max_attempts,
            delay=delay,
            backoff=backoff,
            max_delay=max_delay,
        )
    function = wrapped
    pauses = RetryDelay(delay, backoff, max_delay)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        attempts = itertools.count()
        while True:
            try:
                return function(*args, **kwargs)
            except for_exceptions:
                if max_attempts is not None and next(attempts) >= max_attempts:
                    raise
                sleep(pauses.next())

    return wrapper
