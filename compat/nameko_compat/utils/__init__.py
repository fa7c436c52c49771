"""Nameko's helpers: arguments without secrets, importing by path, addresses without passwords."""

import inspect
import pkgutil
import re
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

__all__ = ["REDACTED", "get_redacted_args", "import_from_path", "sanitize_url"]

REDACTED = "********"


def get_redacted_args(entrypoint: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by name, those that the entrypoint calls sensitive replaced by stars.

    Args:
        entrypoint: A bound entrypoint; its ``sensitive_arguments`` are names, or paths such as ``card.numbers[0]``.
        args: The call's arguments, without ``self``.
        kwargs: Likewise.

    Raises:
        TypeError: They do not fit the method.
    """
    method = getattr(entrypoint.container.service_cls, entrypoint.method_name)
    given = inspect.getcallargs(method, None, *args, **kwargs)
    given.pop("self", None)
    shown = deepcopy(given)
    sensitive = entrypoint.sensitive_arguments
    for path in (sensitive,) if isinstance(sensitive, str) else sensitive:
        redact(shown, steps_of(path))
    return shown


def steps_of(path: str) -> list[str | int]:
    """``card.numbers[0]`` as ``["card", "numbers", 0]``."""
    return [int(index) if index else key for key, index in re.findall(r"(\w+)|\[(\d+)\]", path)]


def redact(value: Any, steps: list[str | int]) -> None:
    """Put stars where the path leads; a path that leads nowhere is none of our business."""
    *way, last = steps
    try:
        for step in way:
            value = value[step]
        if last in value or isinstance(last, int):
            value[last] = REDACTED
    except (KeyError, IndexError, TypeError):
        pass


def import_from_path(path: str | None) -> Any:
    """The object that a dotted path names; None for None.

    Raises:
        ImportError: There is none.
    """
    if path is None:
        return None
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImportError(f"`{path}` could not be imported") from error


def sanitize_url(url: str) -> str:
    """An address with stars in place of its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:{REDACTED}@{host}").geturl()
