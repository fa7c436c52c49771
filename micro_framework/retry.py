"""`AsyncBackOff`: try a failed call again later, the broker waits; `BackOffData`: how often it was tried."""

from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any

from micro_framework.backoff import RetryPolicy
from micro_framework.calls import Attempt
from micro_framework.dependencies import Dependency, RunningCall

__all__ = ["AsyncBackOff", "BackOffData", "is_exception_class"]


EXAMPLE = "builtins.TimeoutError"


class AsyncBackOff:
    """Try a failed call again after a delay during which nothing in this process waits.

    Args:
        max_retries: Attempts after the first one: 3 is four attempts, 0 none, None for ever.
        interval: Milliseconds before a retry, or a callable that gets the failed attempt's data (as `BackOffData` gives
            it) and returns them.
        exception_list: Exception classes or dotted names that are retried, by ``isinstance``; None: every
            ``Exception``.
        factor: Each delay is the one before times this; 1.0 keeps it constant.
        max_interval: Milliseconds no delay exceeds.
        jitter: Share of the delay, 0 to 1, by which it is spread at random in both directions.
    """

    def __init__(
        self,
        max_retries: int | None,
        interval: float | Callable[[Attempt], float],
        exception_list: Sequence[type[BaseException] | str] | None = None,
        *,
        factor: float = 1.0,
        max_interval: float | None = None,
        jitter: float = 0.0,
    ) -> None:
        # A class alone is taken as a list of one; a name alone too, for it would become a list of letters.
        alone = [exception_list] if isinstance(exception_list, str | type) else exception_list
        exceptions = None if alone is None else tuple(alone)
        self.policy = RetryPolicy(max_retries, interval, exceptions, factor, max_interval, jitter)

    def problems(self) -> list[str]:
        """Arguments that do not fit, one sentence each."""
        policy = self.policy
        checks = [
            (
                policy.max_retries is None or is_number(policy.max_retries, int),
                f"max_retries must be 0 or more, or None for ever, not {policy.max_retries!r}",
            ),
            (
                callable(policy.interval) or is_number(policy.interval, int | float),
                f"interval must be milliseconds, 0 or more, or a callable, not {policy.interval!r}",
            ),
            (
                is_number(policy.factor, int | float) and policy.factor > 0,
                f"factor must be greater than 0, not {policy.factor!r}",
            ),
            (
                policy.max_interval is None or is_number(policy.max_interval, int | float),
                f"max_interval must be milliseconds, 0 or more, or None, not {policy.max_interval!r}",
            ),
            (
                is_number(policy.jitter, int | float) and policy.jitter <= 1,
                f"jitter must be a share from 0 to 1, not {policy.jitter!r}",
            ),
            (
                all(is_dotted(spec) or is_exception_class(spec) for spec in policy.exceptions or ()),
                f"exception_list must hold exception classes or dotted names ({EXAMPLE}), not {policy.exceptions!r}",
            ),
        ]
        return [f"AsyncBackOff: {problem}" for holds, problem in checks if not holds]


def is_number(value: Any, kind: type | UnionType) -> bool:
    """Whether a value is a number of this kind, 0 or more."""
    return isinstance(value, kind) and not isinstance(value, bool) and bool(value >= 0)  # type: ignore[operator]


def is_dotted(value: object) -> bool:
    """Whether a value is a dotted name."""
    return isinstance(value, str) and "." in value


def is_exception_class(value: object) -> bool:
    """Whether a value is an exception class."""
    return isinstance(value, type) and issubclass(value, BaseException)


class BackOffData(Dependency[Attempt]):
    """How often the running call was tried before.

    The target gets an `Attempt`: ``retry_count`` (0 on the first attempt, n on the n-th retry, ``max_retries`` in the
    callback), ``last_retry`` (aware UTC, or None), ``max_retries`` and ``history``, the failed attempts so far as
    ``(attempt, when, exc_type, text)``.
    """

    def get_dependency(self, worker: RunningCall) -> Attempt:
        """The running call's attempt."""
        return worker.call.attempt
