"""Whether to try a failed call again, when, and how the next attempt knows about the ones before.

Pure functions: the time and the random number are arguments. The state of a retried message travels in headers of our
own (``mf-retry…``), so the body stays the original one, byte for byte, and a Nameko process on the same queue can still
handle it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from micro_framework.calls import FIRST_ATTEMPT, Attempt, FailedAttempt

__all__ = [
    "HISTORY",
    "HISTORY_LIMIT",
    "LONGEST_DELAY",
    "RetryPolicy",
    "attempt_from_headers",
    "attempt_to_headers",
    "expected_delays",
    "failed_attempt",
    "listed_history",
    "matches",
    "next_attempt",
    "next_delay",
    "parsed_history",
    "parsed_time",
    "should_retry",
]

HISTORY_LIMIT = 10
"""How many failed attempts a message carries; with `TEXT_LIMIT` it keeps the headers far below the frame size."""

TEXT_LIMIT = 200
"""Characters of an exception's text that are kept per failed attempt."""

LONGEST_DELAY = 10 * 365 * 24 * 3600 * 1000
"""Milliseconds; RabbitMQ takes no longer time to live (seen with 3.10 to 4.3)."""

JITTER_STEPS = 9
"""Places at which a spread delay may lie: on RabbitMQ each distinct delay is a queue. An odd number has a middle."""

MOST_EXPECTED = 64
"""Distinct delays that are foreseen at most: one that grows by little for ever has no end of them."""

COUNT, LAST, HISTORY = "mf-retry-count", "mf-retry-last", "mf-retry-history"

ExceptionSpec = type[BaseException] | str
"""An exception class, or its dotted name."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long apart a failed call is tried again.

    Args:
        max_retries: Attempts after the first one; 0 never, None for ever.
        interval: Milliseconds before the first retry, or a function of the `Attempt` that failed which returns them.
        exceptions: What to retry, by ``isinstance``; None: every ``Exception``.
        factor: Each delay is the one before times this.
        max_interval: Milliseconds no delay exceeds, None for no cap.
        jitter: Share of the delay, 0 to 1, by which it is spread at random in both directions, in `JITTER_STEPS`.
        delay_of: Instead of ``interval``, where the error decides: gets the `Attempt` that failed, what it raised and a
            random number from 0 to 1, and returns milliseconds.
    """

    max_retries: int | None
    interval: float | Callable[[Attempt], float]
    exceptions: tuple[ExceptionSpec, ...] | None = None
    factor: float = 1.0
    max_interval: float | None = None
    jitter: float = 0.0
    delay_of: Callable[[Attempt, BaseException, float], float] | None = None


def matches(error: BaseException, exceptions: Sequence[ExceptionSpec] | None) -> bool:
    """Whether an error is among the exceptions named; classes and dotted names, by ``isinstance``.

    A dotted name is compared with the error's class and all its bases, so nothing is imported.
    """
    if exceptions is None:
        return isinstance(error, Exception)
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__}
    return any(spec in names if isinstance(spec, str) else isinstance(error, spec) for spec in exceptions)


def should_retry(policy: RetryPolicy, attempt: Attempt, error: BaseException) -> bool:
    """Whether the call that failed in this attempt is tried again."""
    left = policy.max_retries is None or attempt.retry_count < policy.max_retries
    return left and matches(error, policy.exceptions)


def next_delay(policy: RetryPolicy, attempt: Attempt, random: float, error: BaseException | None = None) -> int:
    """Milliseconds to wait after a failed attempt.

    Args:
        policy: The route's policy.
        attempt: The attempt that failed.
        random: A number from 0 to 1, used for the jitter.
        error: What it raised; needed where the error decides.
    """
    if policy.delay_of is not None and error is not None:
        delay = policy.delay_of(attempt, error, random)
    elif callable(policy.interval):
        delay = policy.interval(attempt)
    else:
        delay = grown(policy.interval, policy.factor, attempt.retry_count)
    limit = LONGEST_DELAY if policy.max_interval is None else min(policy.max_interval, LONGEST_DELAY)
    step = min(int(random * JITTER_STEPS), JITTER_STEPS - 1) / (JITTER_STEPS - 1)
    spread = min(delay, limit) * (1 + policy.jitter * (2 * step - 1))
    return round(min(max(0, spread), limit))


def expected_delays(policy: RetryPolicy) -> tuple[int, ...]:
    """The delays that `next_delay` can give, in the order in which they come up first.

    Empty where a function gives them, for nobody knows what it will say; the first `MOST_EXPECTED` if there are more.
    """
    if callable(policy.interval) or policy.delay_of is not None:
        return ()
    chances = [(step + 0.5) / JITTER_STEPS for step in range(JITTER_STEPS)] if policy.jitter else [0.0]
    found: dict[int, None] = {}
    for count in range(min(policy.max_retries if policy.max_retries is not None else 1000, 1000)):
        found |= dict.fromkeys(next_delay(policy, Attempt(retry_count=count), chance) for chance in chances)
        if len(found) >= MOST_EXPECTED:
            break
    return tuple(found)[:MOST_EXPECTED]


def grown(interval: float, factor: float, times: int) -> float:
    """``interval * factor ** times``, infinity where that overflows a float."""
    try:
        return interval * factor**times
    except OverflowError:
        return float("inf")


def next_attempt(
    policy: RetryPolicy, attempt: Attempt, error: BaseException, *, now: datetime, due: datetime
) -> Attempt:
    """The attempt after a failed one.

    Args:
        policy: The route's policy.
        attempt: The attempt that failed.
        error: What it raised.
        now: When it failed, aware UTC.
        due: When the next attempt is due, aware UTC.
    """
    history = (*attempt.history, failed_attempt(attempt.retry_count, error, now))[-HISTORY_LIMIT:]
    return Attempt(attempt.retry_count + 1, due, policy.max_retries, history)


def failed_attempt(attempt: int, error: BaseException, when: datetime) -> FailedAttempt:
    """The entry of the history for an attempt that failed."""
    return FailedAttempt(attempt, when, type(error).__name__, shortened(error))


def shortened(error: BaseException) -> str:
    """The error's text, cut to `TEXT_LIMIT`; a text that cannot be had is said to be so."""
    try:
        text = str(error).encode("utf-8", "backslashreplace").decode()  # headers are UTF-8
    except Exception:  # noqa: BLE001 - whatever the __str__ of a user's exception raises
        text = "<its text cannot be had>"
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def attempt_to_headers(attempt: Attempt) -> dict[str, Any]:
    """The headers that carry an attempt to the process that will run it."""
    return {
        COUNT: attempt.retry_count,
        LAST: attempt.last_retry.isoformat() if attempt.last_retry else "",
        HISTORY: listed_history(attempt.history),
    }


def listed_history(history: Sequence[FailedAttempt]) -> list[list[Any]]:
    """Failed attempts as a header holds them."""
    return [[each.attempt, each.when.isoformat(), each.exc_type, each.text] for each in history]


def attempt_from_headers(headers: Mapping[str, Any], max_retries: int | None) -> Attempt:
    """The attempt that the headers carry; headers that are not ours to the letter count as a first attempt.

    Args:
        headers: A message's headers.
        max_retries: The route's limit today, whatever it was when the message was sent.
    """
    count = headers.get(COUNT)
    if not isinstance(count, int) or count < 1:
        return FIRST_ATTEMPT if max_retries is None else Attempt(max_retries=max_retries)
    return Attempt(count, parsed_time(headers.get(LAST)), max_retries, parsed_history(headers.get(HISTORY)))


def parsed_time(value: object) -> datetime | None:
    """An ISO time as aware UTC, None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None


def parsed_history(value: object) -> tuple[FailedAttempt, ...]:
    """The failed attempts a header lists; entries of another shape are left out."""
    entries = value if isinstance(value, list) else []
    return tuple(entry for entry in map(parsed_failure, entries) if entry is not None)


def parsed_failure(value: object) -> FailedAttempt | None:
    """One entry of the history header, None where it is of another shape."""
    match value:
        case [int(attempt), str(when), str(exc_type), str(text)]:
            moment = parsed_time(when)
            return FailedAttempt(attempt, moment, exc_type, text) if moment else None
    return None
