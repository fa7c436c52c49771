"""Where the broker is: kombu reads the URI of each host, TLS and login options; the hosts take turns.

A URI may name several hosts: ``amqp://user:password@one/vhost;amqp://user:password@two/vhost``.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from kombu.connection import Connection as KombuConnection
from kombu.transport import pyamqp
from kombu.utils.url import parse_url

from micro_framework.brokers.rabbitmq.connection import LinkConnection, Waker
from micro_framework.exceptions import ConfigError

__all__ = ["Address", "Endpoints"]

PLAIN, TLS = ("amqp", "pyamqp"), ("amqps", "pyamqps")


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


class LinkTransport(pyamqp.Transport):
    """kombu's transport, with our connection."""

    Connection = LinkConnection


class TLSLinkTransport(pyamqp.SSLTransport):
    """The same for ``amqps``."""

    Connection = LinkConnection


class LinkKombuConnection(KombuConnection):
    """kombu's connection, with our transport."""

    def get_transport_cls(self) -> Any:
        return TLSLinkTransport if self.transport_cls in TLS else LinkTransport


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
        make: Any = LinkKombuConnection  # kombu has hardly any types
        # One per host: kombu's own switching carries port and virtual host of one over to the next that names none.
        self._hosts: list[Any] = [
            make(
                one,
                ssl=dict(ssl) if isinstance(ssl, Mapping) else bool(ssl),
                heartbeat=heartbeat or 0,
                login_method=login_method,
                connect_timeout=connect_timeout,
            )
            for one in uris
        ]
        self._failed = 0
        self._turn = 0

    @property
    def addresses(self) -> list[Address]:
        """Every host."""
        return [address_of(kombu) for kombu in self._hosts]

    @property
    def current(self) -> Address:
        """The host that is used, or is tried next."""
        return address_of(self._hosts[self._turn])

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
        kombu = self._hosts[self._turn]
        kombu.transport_options = {
            **self._options,
            "client_properties": properties,
            "waker": waker,
            "interrupted": interrupted,
            "on_blocked": on_blocked,
            "on_unblocked": on_unblocked,
        }
        connection: LinkConnection = kombu.transport.establish_connection()
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
    """Refuse what kombu would take for something else; no text repeats a URI, which may hold a password."""
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
        parse_url(uri)
    except ValueError:
        return f"host {number} has a port that is not a number, or cannot be read otherwise"
    return None


def address_of(kombu: Any) -> Address:
    tls = kombu.transport_cls in TLS or bool(kombu.ssl)
    return Address(
        kombu.hostname or "127.0.0.1",
        kombu.port or (5671 if tls else 5672),
        kombu.userid or "guest",
        kombu.virtual_host,
        "amqps" if tls else "amqp",
    )


def process_properties() -> dict[str, str]:
    return {
        "product": "micro_framework",
        "platform": f"Python {sys.version_info.major}.{sys.version_info.minor}",
        "information": f"process {os.getpid()} on {socket.gethostname()}",
    }
