"""eventlet's ``Timeout``, and how everything in this package waits."""

import threading
import time
from collections.abc import Callable
from typing import Any

from nameko_compat.managed import Killed, current

__all__ = ["Timeout", "may_be_interrupted", "wait_for", "with_timeout"]

LOOK_SECONDS = 0.05
"""How often a wait looks whether its thread was killed."""

local = threading.local()


class Timeout(BaseException):
    """Raised in its own block when that takes longer than so many seconds.

    Args:
        seconds: None: never.
        exception: What to raise instead; False: end the block silently.
    """

    def __init__(self, seconds: float | None = None, exception: Any = None) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.exception = exception
        self.due = float("inf")
        self.start()

    @classmethod
    def expired(cls, seconds: float) -> "Timeout":
        """One that counts nothing any more, to be raised."""
        made = cls(None)
        made.seconds = seconds
        return made

    def start(self) -> None:
        """Begin to count."""
        if self.seconds is not None and self not in active():
            self.due = time.monotonic() + self.seconds
            active().append(self)

    @property
    def pending(self) -> bool:
        """Whether it counts."""
        return any(each is self for each in active())

    def cancel(self) -> None:
        """Count no more."""
        local.timeouts = [each for each in active() if each is not self]

    close = cancel

    def to_raise(self) -> BaseException:
        """What is raised."""
        if self.exception is None or isinstance(self.exception, bool):
            return self
        made: BaseException = self.exception() if isinstance(self.exception, type) else self.exception
        return made

    def __enter__(self) -> "Timeout":
        if not self.pending:
            self.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        late = self.pending and time.monotonic() >= self.due
        self.cancel()
        if error is self and self.exception is False:
            return True
        if error is None and late and self.exception is not False:
            raise self.to_raise()
        return False

    def __str__(self) -> str:
        return "1 second" if self.seconds == 1 else f"{self.seconds} seconds"


def active() -> list[Timeout]:
    """The timeouts that count in this thread."""
    if not hasattr(local, "timeouts"):
        local.timeouts = []
    found: list[Timeout] = local.timeouts
    return found


def may_be_interrupted() -> bool:
    """Whether a wait in this thread may have to end early: by a `Timeout`, or because the thread is killed."""
    return bool(active()) or current() is not None


def wait_for(attempt: Callable[[float], bool], seconds: float | None = None) -> bool:
    """Wait as eventlet does: until an attempt succeeds, a timeout of this thread is due, or the thread is killed.

    Args:
        attempt: Waits for so many seconds; whether it was successful.
        seconds: At most this long, None for ever.

    Returns:
        Whether the attempt succeeded.

    Raises:
        Killed: The thread was killed.
        BaseException: What a `Timeout` raises.
    """
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    managed = current()
    while True:
        if managed is not None and managed.killed.is_set():
            raise Killed
        now = time.monotonic()
        first = min(active(), key=lambda each: each.due, default=None)
        if first is not None and now >= first.due:
            raise first.to_raise()
        left = min(deadline, first.due if first is not None else float("inf")) - now
        if attempt(max(0.0, min(left, LOOK_SECONDS if managed is not None else 3600.0))):
            return True
        if time.monotonic() >= deadline:
            return False


def with_timeout(seconds: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function under a `Timeout`; ``timeout_value`` is returned instead of raising it."""
    missing = object()
    value = kwargs.pop("timeout_value", missing)
    timeout = Timeout(seconds)
    try:
        with timeout:
            return function(*args, **kwargs)
    except Timeout as error:
        if error is timeout and value is not missing:
            return value
        raise
