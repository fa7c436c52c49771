"""`Backoff`, which a method raises to be tried again, and what gives entrypoints their retries."""

from statistics import NormalDist
from typing import Any, ClassVar

from micro_framework.backoff import RetryPolicy
from micro_framework.calls import Attempt
from micro_framework.retry import AsyncBackOff
from nameko_compat.extensions import Entrypoint

__all__ = ["Backoff", "Retried", "expect_backoff_exception"]

NEARLY = 1e-6
"""How near to 0 and 1 a random number may come for a normal distribution."""


class Backoff(Exception):
    """Raise it, or a subclass, to have the call tried again later."""

    schedule: ClassVar[tuple[int, ...]] = (1000, 2000, 3000, 5000, 8000, 13000, 21000, 34000, 55000)
    """Milliseconds before each retry; the last of them before all others."""

    limit: ClassVar[int] = 20
    """How often it is tried again; 0 for ever."""

    random_sigma: ClassVar[int] = 100
    """Standard deviation, in milliseconds, by which a delay is spread; 0: none."""

    random_groups_per_sigma: ClassVar[int] = 5
    """Delays are rounded: so many distinct ones lie within one standard deviation. Each is a queue on the broker."""

    class Expired(Exception):
        """It was tried as often as the limit allows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.upcoming: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.upcoming is None:
            return "Backoff(uninitialised)"
        number, delay = self.upcoming
        return f"Backoff(retry #{number} in {delay}ms)"

    @classmethod
    def get_next_schedule_item(cls, index: int) -> int:
        """Milliseconds before the retry of this number, counted from 0."""
        return cls.schedule[min(index, len(cls.schedule) - 1)]

    @property
    def max_delay(self) -> int:
        """Milliseconds that all retries wait together."""
        return sum(map(self.get_next_schedule_item, range(self.limit)))

    def delay_after(self, attempt: Attempt, random: float) -> int:
        """Milliseconds to wait after a failed attempt.

        Args:
            attempt: The attempt that failed.
            random: A number from 0 to 1.
        """
        delay = self.get_next_schedule_item(attempt.retry_count)
        if self.random_sigma:
            spread = NormalDist(delay, self.random_sigma).inv_cdf(min(max(random, NEARLY), 1 - NEARLY))
            group = self.random_sigma / self.random_groups_per_sigma
            delay = abs(int(group * round(spread / group)))
        self.upcoming = attempt.retry_count + 1, delay
        return delay

    def expired_after(self, attempt: Attempt) -> "Backoff.Expired | None":
        """What the call failed with if it is not tried again."""
        if not self.limit or attempt.retry_count < self.limit:
            return None
        seconds = self.max_delay / 1000
        expired = Backoff.Expired(f"Backoff aborted after '{self.limit}' retries (~{seconds:.0f} seconds)")
        expired.__cause__ = self
        return expired


def delay_of(attempt: Attempt, error: BaseException, random: float) -> float:
    """The delay that a `Backoff` asks for."""
    if not isinstance(error, Backoff):
        raise TypeError(f"only Backoff is tried again, not {type(error).__name__}")
    return error.delay_after(attempt, random)


class Asked(AsyncBackOff):
    """Tries again what raised `Backoff`, for as long as that says."""

    def __init__(self) -> None:
        super().__init__(max_retries=None, interval=0, exception_list=[Backoff])
        self.policy = RetryPolicy(None, 0, (Backoff,), delay_of=delay_of)


class Retried(Entrypoint):
    """What entrypoints have whose methods may raise `Backoff`; stands before Nameko's class in the bases."""

    backoff: ClassVar[AsyncBackOff | None] = Asked()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["expected_exceptions"] = expect_backoff_exception(kwargs.get("expected_exceptions", ()))
        super().__init__(*args, **kwargs)

    def failed_with(self, error: BaseException, attempt: Attempt) -> BaseException:
        """`Backoff.Expired` in place of a `Backoff` that comes too often."""
        return error.expired_after(attempt) or error if isinstance(error, Backoff) else error


def expect_backoff_exception(expected_exceptions: Any) -> tuple[Any, ...]:
    """Expected exceptions, and `Backoff`: it is no error to be alarmed of.

    Args:
        expected_exceptions: A class, or a tuple of them.
    """
    expected = expected_exceptions if isinstance(expected_exceptions, tuple) else (expected_exceptions,)
    return expected if issubclass(Backoff, expected) else (*expected, Backoff)
