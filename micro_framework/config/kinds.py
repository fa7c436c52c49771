"""What a value of the configuration may be, in words and as a check."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from micro_framework.config.spelling import nearest
from micro_framework.config.uris import uri_problem

__all__ = [
    "LARGEST_PREFETCH",
    "Kind",
    "UnfitError",
    "choice",
    "dict_config",
    "dotted_path",
    "flag",
    "free_mapping",
    "logging",
    "name",
    "names",
    "seconds",
    "ssl",
    "text",
    "uri",
    "whole",
]

LARGEST_PREFETCH = 65535
"""AMQP counts prefetch and heartbeat in 16 bits."""
LONGEST_WAIT = 1e9
"""Seconds, about thirty years: no platform lets a thread wait for as long as a float can say."""
LONGEST_NAME = 255
"""Bytes of an AMQP short string."""


TLS_OPTIONS = (
    "ca_certs",
    "cert_reqs",
    "certfile",
    "ciphers",
    "context",
    "do_handshake_on_connect",
    "keyfile",
    "server_hostname",
    "server_side",
    "ssl_version",
    "suppress_ragged_eofs",
    "tls_maximum_version",
    "tls_minimum_version",
)
"""What py-amqp takes; it fails at each attempt to connect for any other."""


class UnfitError(Exception):
    """A value is not what its key expects; the text, if any, says more than the key's `Kind` does."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be.

    Args:
        expected: What is accepted, in words.
        read: Turns an accepted value into the one that `Settings` holds; raises `UnfitError` for any other.
    """

    expected: str
    read: Callable[[Any], object]


def whole(least: int, most: int | None = None) -> Kind:
    """A whole number; a float without a fraction counts."""

    def read(value: object) -> int:
        number = read_number(value)
        if isinstance(number, float) and not number.is_integer():
            raise UnfitError
        if number < least or (most is not None and number > most):
            raise UnfitError
        return int(number)

    return Kind(
        f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}",
        read,
    )


def seconds(*, zero: bool = False, endless: bool = False) -> Kind:
    """A duration in seconds."""

    def read(value: object) -> float:
        number = read_number(value)
        if endless and number == math.inf:
            return math.inf
        if number < 0 or number > LONGEST_WAIT or (number == 0 and not zero):
            raise UnfitError
        return number

    limits = f"{'from' if zero else 'above'} 0 (at most {LONGEST_WAIT:.0f})"
    return Kind(f"a number of seconds {limits}" + (", or null for no deadline" if endless else ""), read)


def choice(*values: str) -> Kind:
    """One of a few words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in values:
            near = nearest(value, values) if isinstance(value, str) else None
            raise UnfitError(f"did you mean {near!r}?" if near else "")
        return value

    return Kind("one of " + ", ".join(values), read)


def read_number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise UnfitError
    return value


def read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise UnfitError
    return value


def read_text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UnfitError
    return value


def read_name(value: object) -> str:
    given = read_text(value)
    if len(given.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        raise UnfitError(f"it has more than {LONGEST_NAME} bytes")
    return given


def read_dotted_path(value: object) -> str:
    path = read_text(value)
    if "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise UnfitError
    return path


def read_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise UnfitError
    return tuple(read_text(item) for item in value)


def read_mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UnfitError
    return value


def dict_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a ``LOGGING`` value: ``version`` may be left out, and the framework's loggers stay on.

    The plain default of ``logging.config.dictConfig`` silences every logger that exists already (seen with
    Nameko).
    """
    return {"version": 1, "disable_existing_loggers": False, **given}


def read_ssl(value: object) -> Mapping[str, Any] | bool:
    if isinstance(value, bool):
        return value
    options = read_mapping(value)
    for option in options:
        if option not in TLS_OPTIONS:
            near = nearest(option, TLS_OPTIONS)
            raise UnfitError(f"there is no option {option!r}" + (f"; did you mean {near!r}?" if near else ""))
    required = options.get("cert_reqs")
    if required is not None and required not in (0, 1, 2):
        raise UnfitError("cert_reqs is 2 for a certificate that is checked, or 0 for one that is not")
    return options


def read_uri(value: object) -> str:
    given = read_text(value)
    if problem := uri_problem(given):
        raise UnfitError(problem)
    return given


flag = Kind("true or false", read_flag)
text = Kind("a text", read_text)
name = Kind(f"a text of at most {LONGEST_NAME} bytes", read_name)
names = Kind("a list of names", read_names)
dotted_path = Kind("a dotted path to a function", read_dotted_path)
free_mapping = Kind("a mapping", read_mapping)
logging = Kind("a mapping", lambda value: dict_config(read_mapping(value)))
ssl = Kind("true, false or a mapping", read_ssl)
uri = Kind("a text", read_uri)
