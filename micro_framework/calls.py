"""`Call` and `Outcome`: the two records that cross every boundary, threads and processes alike.

Both are frozen and hold plain data only (as far as the user's own arguments and results are plain), so they pickle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, NamedTuple

__all__ = ["FIRST_ATTEMPT", "Attempt", "Call", "CallIdentity", "FailedAttempt", "Happening", "Outcome", "Underway"]


class FailedAttempt(NamedTuple):
    """One earlier attempt of a call that failed.

    ``attempt`` counts from 0, ``when`` is aware UTC, ``exc_type`` the exception's class name, ``text`` its shortened
    text.
    """

    attempt: int
    when: datetime
    exc_type: str
    text: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which attempt of a call this is.

    Args:
        retry_count: 0 on the first attempt, n on the n-th retry.
        last_retry: When the last retry was due, aware UTC; None on the first attempt.
        max_retries: The route's limit, None for no limit (or no backoff).
        history: The failed attempts before this one, oldest first; the oldest are dropped when it grows long.
    """

    retry_count: int = 0
    last_retry: datetime | None = None
    max_retries: int | None = None
    history: tuple[FailedAttempt, ...] = ()


FIRST_ATTEMPT = Attempt()


class CallIdentity(NamedTuple):
    """Who calls whom.

    ``stack`` is Nameko's ``call_id_stack``: oldest first, this call's id last, the oldest dropped when it grows long.
    ``origin`` and ``parent`` are the first and the last id that came with the message, before any were dropped; None
    for a call that nothing caused.
    """

    service: str
    method: str
    stack: tuple[str, ...]
    origin: str | None = None
    parent: str | None = None

    @property
    def call_id(self) -> str:
        """This call's id: ``service.method.uuid``."""
        return self.stack[-1]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a target.

    Args:
        identity: The call's service, method and call id stack.
        args: Positional arguments.
        kwargs: Keyword arguments.
        context: Context data that came with the call and goes out with everything it sends (Nameko's headers).
        attempt: Which attempt this is.
        deadline: When its caller gives up, in seconds since 1970; None where nobody waits or nobody said.
    """

    identity: CallIdentity
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    attempt: Attempt = FIRST_ATTEMPT
    deadline: float | None = None


class Underway(NamedTuple):
    """A call that is being run, or was a moment ago.

    ``target`` is ``Class.method`` or ``module.function``, ``call_id`` the call's id, ``seconds`` for how long it has
    been running, or was.
    """

    target: str
    call_id: str
    seconds: float


class Happening(Enum):
    """What can become of a message besides being run."""

    REFUSED = auto()
    """It cannot be decoded."""
    UNRUN = auto()
    """Workers died of it too often."""
    SKIPPED = auto()
    """The entrypoint's filter left it out."""
    UNPREPARED = auto()
    """A translator or the filter raised, which is a failure of the call."""
    FAILED = auto()
    """It raised, and is not tried again."""
    RETRYING = auto()
    """It raised, and is tried again if that can be had."""
    RETRIED = auto()
    """It has been put off."""
    CRASHED = auto()
    """A worker died of it."""
    HELD_OFF = auto()
    """It could not be run, put off or parked, and comes again."""
    PARKED = auto()
    """It has been parked."""


class Outcome(NamedTuple):
    """How a call ended: ``error`` is None and ``result`` what the target returned, or ``error`` is what it raised."""

    result: Any = None
    error: BaseException | None = None
