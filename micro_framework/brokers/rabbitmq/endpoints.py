"""Where the broker is: the URI of each host, TLS and login options, read as kombu reads them; the hosts take turns.

A URI may name several hosts: ``amqp://user:password@one/vhost;amqp://user:password@two/vhost``. kombu itself is not
asked, for importing it is a quarter of a service's start; the tests compare.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from micro_framework.brokers.rabbitmq.connection import LinkConnection, Waker
from micro_framework.exceptions import ConfigError

__all__ = ["Address", "Endpoints"]

PLAIN, TLS = ("amqp", "pyamqp"), ("amqps", "pyamqps")
URI_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "connect_timeout": float,
    "heartbeat": float,
    "login_method": str,
    "ssl": bool,
}
"""What may follow a URI's question mark, and how it is read; it counts for that host."""


class Address:
    """Who logs in where, without the password.

    Args:
        host: The host's name or number.
        port: Its port.
        user: Who logs in.
        vhost: Where to.
        scheme: ``amqp`` or ``amqps``.
    """

    def __init__(self, host: str, port: int, user: str, vhost: str, scheme: str = "amqp") -> None:
        self.host, self.port, self.user, self.vhost, self.scheme = host, port, user, vhost, scheme

    def __str__(self) -> str:
        vhost = "" if self.vhost == "/" else f"/{quote(self.vhost, safe='')}"
        return f"{self.scheme}://{self.user}@{self.host}:{self.port}{vhost}"


class Host:
    """What one URI says.

    Args:
        uri: The URI, one that `problem_of` has nothing against.
        options: Arguments of py-amqp's connection; what the URI says itself counts more.
    """

    def __init__(self, uri: str, options: Mapping[str, Any]) -> None:
        parts = split_uri(uri)
        options = {**options, **uri_options(parts)}
        tls = uri.partition("://")[0] in TLS or bool(options["ssl"])
        host = unquote(parts.hostname or "") or "127.0.0.1"
        port = parts.port or (5671 if tls else 5672)
        user, password = unquote(parts.username or "") or "guest", unquote(parts.password or "") or "guest"
        vhost = unquote(parts.path.removeprefix("/")) or "/"
        self.address = Address(host, port, user, vhost, "amqps" if tls else "amqp")
        self.arguments: dict[str, Any] = {
            **options,
            # A broker listens at 127.0.0.1 as a rule, while localhost may be ::1 first.
            "host": f"{'127.0.0.1' if host == 'localhost' else host}:{port}",
            "userid": user,
            "password": password,
            "virtual_host": vhost,
            "ssl": tls and tls_options(options["ssl"], host),
        }


def split_uri(uri: str) -> SplitResult:
    """The parts of a URI; as http, whose rules for host, port and login are the same."""
    return urlsplit("http://" + uri.partition("://")[2])


def uri_options(parts: SplitResult) -> dict[str, Any]:
    return {name: URI_OPTIONS[name](value) for name, value in parse_qsl(parts.query)}


def tls_options(ssl: Any, host: str) -> Any:
    """As py-amqp takes them; a ``server_hostname`` of None is the name in the URI."""
    if isinstance(ssl, Mapping) and ssl.get("server_hostname", "") is None:
        return {**ssl, "server_hostname": host}
    return ssl or True


class Endpoints:
    """The hosts of one URI, one of them the next to try. Each link has its own; not thread safe.

    Args:
        uri: One or several URIs, separated by semicolons.
        heartbeat: Seconds, 0 for none.
        ssl: As kombu takes it: None, True or a dict of options.
        login_method: As kombu takes it, None for the default.
        transport_options: Further arguments of the connection.
        connect_timeout: Seconds for each step of connecting.

    Raises:
        ConfigError: The URI cannot be used.
    """

    def __init__(
        self,
        uri: str,
        *,
        heartbeat: float = 60,
        ssl: Any = None,
        login_method: str | None = None,
        transport_options: Mapping[str, Any] | None = None,
        connect_timeout: float = 5,
    ) -> None:
        uris = [part.strip() for part in uri.split(";") if part.strip()]
        refuse_unusable(uris)
        self._options = dict(transport_options or {})
        given = {
            "ssl": dict(ssl) if isinstance(ssl, Mapping) else bool(ssl),
            "heartbeat": float(heartbeat or 0),
            "login_method": login_method or "PLAIN",
            "connect_timeout": connect_timeout,
        }
        self._hosts = [Host(one, given) for one in uris]
        self._failed = 0
        self._turn = 0

    @property
    def addresses(self) -> list[Address]:
        """Every host."""
        return [host.address for host in self._hosts]

    @property
    def current(self) -> Address:
        """The host that is used, or is tried next."""
        return self._hosts[self._turn].address

    def connect(
        self,
        name: str,
        waker: Waker,
        interrupted: Callable[[], bool],
        on_blocked: Callable[[str], None],
        on_unblocked: Callable[[], None],
    ) -> LinkConnection:
        """Connect to the current host.

        Args:
            name: What the broker lists the connection as.
            waker: Ends the connection's polls.
            interrupted: Whether to stop waiting.
            on_blocked: Called when the broker stops taking messages.
            on_unblocked: Called when it takes them again.

        Raises:
            Exception: Whatever went wrong.
        """
        properties = {"connection_name": name, **process_properties(), **self._options.get("client_properties", {})}
        arguments = {**self._hosts[self._turn].arguments, **self._options, "client_properties": properties}
        connection = LinkConnection(
            waker=waker, interrupted=interrupted, on_blocked=on_blocked, on_unblocked=on_unblocked, **arguments
        )
        connection.connect()
        return connection

    def connect_apart(self, name: str) -> LinkConnection:
        """A further connection to the current host, for a question that may cost it; the caller closes it.

        Raises:
            Exception: Whatever went wrong.
        """
        return self.connect(name, Waker(), lambda: False, lambda reason: None, lambda: None)

    def succeeded(self) -> None:
        """The current host has served for a while: it has not failed. (One that only lets in has not served.)"""
        self._failed = 0

    def move_on(self) -> bool:
        """Turn to the next host after a failure.

        Returns:
            Whether every host has failed since the last success, so that it is time to pause.
        """
        self._failed += 1
        self._turn = (self._turn + 1) % len(self._hosts)
        return self._failed % len(self._hosts) == 0


def refuse_unusable(uris: list[str]) -> None:
    """Refuse what would be taken for something else; no text repeats a URI, which may hold a password."""
    if not uris:
        raise ConfigError("AMQP_URI", ["it is empty; it should read amqp://user:password@host:5672/vhost"])
    problems = [problem for number, uri in enumerate(uris, 1) if (problem := problem_of(uri, number))]
    if problems:
        raise ConfigError("AMQP_URI", problems)


def problem_of(uri: str, number: int) -> str | None:
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in PLAIN + TLS:
        return f"host {number} does not begin with amqp:// or amqps://"
    try:
        parts = split_uri(uri)
        _ = parts.port  # read only now
        unknown = sorted({name for name, _ in parse_qsl(parts.query)} - URI_OPTIONS.keys())
        if not unknown:
            uri_options(parts)
    except ValueError:
        return f"host {number} has a port or an option that is not a number, or cannot be read otherwise"
    if unknown:
        return f"host {number} has the option {unknown[0]!r}, which is not known; known are {', '.join(URI_OPTIONS)}"
    return None


def process_properties() -> dict[str, str]:
    return {
        "product": "micro_framework",
        "platform": f"Python {sys.version_info.major}.{sys.version_info.minor}",
        "information": f"process {os.getpid()} on {socket.gethostname()}",
    }
