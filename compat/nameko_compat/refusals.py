"""Options that Nameko takes: those that mean nothing here, and those that are refused by name."""

from collections.abc import Mapping
from typing import Any

__all__ = ["refuse_options"]

MEANINGLESS = frozenset({"retry", "retry_policy"})
"""Publishes here wait for the connection to come back, until ``PUBLISH_TIMEOUT``."""


def refuse_options(what: str, options: Mapping[str, Any]) -> None:
    """Refuse options that would change what is sent, and are not there.

    Args:
        what: What they were given to.
        options: The options that nothing has taken.

    Raises:
        NotImplementedError: There are some.
    """
    left = sorted(options.keys() - MEANINGLESS)
    if left:
        raise NotImplementedError(f"{what}: {', '.join(left)} is not built in nameko_compat; leave it out")
