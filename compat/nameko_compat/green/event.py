"""eventlet's ``Event``: one value or one error, once, for all who wait."""

import threading
from typing import Any

from nameko_compat.green.timeout import wait_for

__all__ = ["NOT_USED", "Event"]

NOT_USED = object()


class Event:
    """A value that is sent once."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Have it to be sent once more."""
        self._done = threading.Event()
        self._result: Any = NOT_USED
        self._error: BaseException | None = None

    def ready(self) -> bool:
        """Whether it has been sent."""
        return self._done.is_set()

    def has_exception(self) -> bool:
        """Whether an error was sent."""
        return self._error is not None

    def has_result(self) -> bool:
        """Whether a value was sent."""
        return self.ready() and self._error is None

    def poll(self, notready: Any = None) -> Any:
        """The value, if it has been sent."""
        return self.wait() if self.ready() else notready

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for the value; None where it has not come within ``timeout`` seconds.

        Raises:
            BaseException: The error that was sent.
        """
        if not wait_for(self._done.wait, timeout):
            return None
        if self._error is not None:
            raise self._error
        return self._result

    def send(self, result: Any = None, exc: Any = None) -> None:
        """Send a value, or an error.

        Raises:
            AssertionError: One has been sent already.
        """
        if self._done.is_set():
            raise AssertionError("this event has been sent already; reset() it first")
        self._result = result
        self._error = error_of(exc)
        self._done.set()

    def send_exception(self, *args: Any) -> None:
        """Send an error: an exception, or what ``sys.exc_info()`` has."""
        self.send(None, args if len(args) > 1 else args[0])


def error_of(exc: Any) -> BaseException | None:
    """An exception from what eventlet takes for one."""
    if exc is None or isinstance(exc, BaseException):
        return exc
    if isinstance(exc, type):
        made: BaseException = exc()
        return made
    kind, value, *_ = exc
    return value if isinstance(value, BaseException) else kind(value) if value is not None else kind()
