"""Broker URIs, and taking secrets out of whatever is shown to people.

Redaction prefers hiding too much: a password with an unescaped ``@``, ``/`` or ``;`` is hidden as a whole
although such a URI is not valid, because it is the invalid ones that end up in error messages.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["SCHEMES", "redact", "redact_uri", "split_hosts", "uri_problem"]

SCHEMES = ("amqp", "amqps", "pyamqp", "memory")
"""The schemes ``AMQP_URI`` may have; ``pyamqp`` is Nameko's usual spelling of ``amqp``."""

HIDDEN = "***"

next_host = re.compile(r";(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)")
scheme_of = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
secret_name = re.compile(r"pass(word|wd|phrase)|^pass$|pwd|secret|token|credential|key$", re.IGNORECASE)
secret_argument = re.compile(r"([?&;][^=&;]*(?:pass|pwd|secret|token|key)[^=&;]*=)[^&;]*", re.IGNORECASE)
has_credentials = re.compile(r"://[^\n]*@")


def split_hosts(uri: str) -> list[str]:
    """Split ``amqp://a;amqp://b`` into its hosts; a ``;`` inside a password does not split."""
    return [part.strip() for part in next_host.split(uri)]


def redact_uri(uri: str) -> str:
    """Replace the password by ``***``, in each host of a URI that names several.

    Args:
        uri: A URI, well-formed or not.

    Returns:
        The URI without its password and without the value of any argument that sounds like a secret.
    """
    return ";".join(redact_host(part) for part in split_hosts(uri))


def redact_host(uri: str) -> str:
    scheme, separator, rest = uri.partition("://") if "://" in uri else ("", "", uri)
    # The last "@" of all, not the authority's: else a password with a raw "/" would show its second half.
    login, at, address = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{user}{colon}{HIDDEN if colon else ''}{at}{address}"
    return f"{scheme}{separator}" + secret_argument.sub(rf"\g<1>{HIDDEN}", shown)


def redact(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a configuration with every secret replaced by ``***``, at any depth.

    Hidden are the values of keys that sound like a secret (password, secret, token, credential, ``..._key``),
    with everything below them, and the passwords of URIs in any text. Absent and boolean values stay: they
    are no secrets and explain much.
    """
    return {key: redact_value(value, secret=is_secret(key)) for key, value in mapping.items()}


def is_secret(key: object) -> bool:
    return isinstance(key, str) and secret_name.search(key) is not None


def redact_value(value: Any, *, secret: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {key: redact_value(item, secret=secret or is_secret(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item, secret=secret) for item in value]
    if secret:
        return value if value is None or value == "" or isinstance(value, bool) else HIDDEN
    if isinstance(value, str) and has_credentials.search(value):
        return redact_uri(value)
    return value


def uri_problem(uri: str) -> str | None:
    """Say what is wrong with a broker URI, without a word of its login.

    Args:
        uri: The value of ``AMQP_URI``: one or several hosts, ``amqp://a;amqp://b``.

    Returns:
        What is wrong and what to write instead; None if the URI can be used.
    """
    hosts = split_hosts(uri)
    problem = next((found for host in hosts if (found := host_problem(host))), None)
    if problem is None and len(hosts) > 1 and any(host.startswith("memory:") for host in hosts):
        return "memory:// is a broker inside the process and cannot be one of several hosts"
    return problem


def host_problem(uri: str) -> str | None:
    match = scheme_of.match(uri)
    if match is None:
        return "it has no scheme; expected amqp://user:password@host:5672/vhost, amqps://... or memory://"
    if match[1].lower() not in SCHEMES:
        expected = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        return f"the scheme {match[1]}:// is not supported; expected one of {expected}"
    if ";" in uri:  # kombu, and so Nameko, splits at every one
        return "a ';' separates hosts, and each needs its scheme: amqp://a;amqp://b; in a password write %3B"
    return address_problem(uri)


def address_problem(uri: str) -> str | None:
    escape = "in a password or vhost write / as %2F, @ as %40, # as %23, ? as %3F, ; as %3B and : as %3A"
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:  # its text would quote a piece of the password
        return f"the host or the port cannot be read; the port is a number up to 65535, and {escape}"
    beyond = uri.partition("://")[2][len(parts.netloc) :]
    if "#" in beyond or ("@" in beyond and "@" not in parts.netloc):
        return f"the login, host and vhost cannot be told apart; {escape}"
    if port == 0:
        return "the port is 0; expected the broker's port, for example 5672"
    return None
