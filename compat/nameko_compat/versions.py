"""What of Nameko's two versions a configuration asks for."""

from collections.abc import Mapping
from typing import Any

from nameko_compat import config as process_config

__all__ = ["NAMEKO_API", "api_of", "chosen_config", "split_config"]

NAMEKO_API = "NAMEKO_API"
"""The key of the configuration that says whose behaviour is wanted where the versions differ: 2 (the default) or 3."""


def api_of(config: Mapping[str, Any]) -> int:
    """The version whose behaviour is wanted.

    Raises:
        ValueError: There is no such version.
    """
    wanted = config.get(NAMEKO_API, 2)
    if wanted not in (2, 3):
        raise ValueError(f"{NAMEKO_API} is 2 (as Nameko 2.14.1 behaves) or 3 (as 3.0.0rc11 does), not {wanted!r}")
    return int(wanted)


def chosen_config(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The configuration that was given, as in 2.x; None: the process's own, as in 3.x."""
    return process_config if config is None else config


def split_config(args: tuple[Any, ...]) -> tuple[Mapping[str, Any], tuple[Any, ...]]:
    """The configuration and the other arguments: a mapping as the first one is the configuration (2.x)."""
    if args and isinstance(args[0], Mapping):
        return args[0], args[1:]
    return process_config, args
