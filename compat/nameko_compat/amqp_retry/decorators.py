"""`entrypoint_retry`, for methods that do not raise `Backoff` themselves."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from nameko_compat.amqp_retry.backoff import Backoff

__all__ = ["entrypoint_retry"]

Method = TypeVar("Method", bound=Callable[..., Any])

SETTINGS = ("limit", "schedule", "random_sigma", "random_groups_per_sigma")


def entrypoint_retry(
    *, retry_for: type[Exception] | tuple[type[Exception], ...] | None = None, **settings: Any
) -> Callable[[Method], Method]:
    """Have a method tried again that fails; the entrypoint must be one of this package's.

    Args:
        retry_for: What it is tried again for; None: every ``Exception``.
        settings: ``limit``, ``schedule``, ``random_sigma``, ``random_groups_per_sigma``, as of `Backoff`; None means
            its own.

    Raises:
        TypeError: There is no such setting.
    """
    if unknown := settings.keys() - set(SETTINGS):
        names, known = ", ".join(sorted(unknown)), ", ".join(SETTINGS)
        raise TypeError(f"entrypoint_retry() does not take {names}; it takes {known}")
    failures = retry_for or Exception
    given = {name: value for name, value in settings.items() if value is not None}
    asked = type("CustomBackoff", (Backoff,), given)

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def retried(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except failures as error:
                raise asked() from error

        return retried  # type: ignore[return-value]

    return decorate
