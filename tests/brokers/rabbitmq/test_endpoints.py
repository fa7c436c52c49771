"""Where the broker is, and never its password; compared with kombu, which Nameko asks."""

from typing import Any

import kombu
import pytest
from kombu.transport import pyamqp

from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.exceptions import ConfigError


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("amqp://", "amqp://guest@127.0.0.1:5672"),
        ("amqp://joe:hush@host", "amqp://joe@host:5672"),
        ("pyamqp://joe:hush@host:1234/", "amqp://joe@host:1234"),
        ("amqp://joe:hush@host:1234//", "amqp://joe@host:1234"),
        ("amqp://joe:hush@host/shop", "amqp://joe@host:5672/shop"),
        ("amqp://joe:hush@host/shop%2Fone", "amqp://joe@host:5672/shop%2Fone"),
        ("amqps://joe:hush@host", "amqps://joe@host:5671"),
        ("amqp://j%40e:hu%3Ash@host", "amqp://j@e@host:5672"),
    ],
)
def test_an_address_shows_no_password(uri: str, shown: str) -> None:
    endpoints = Endpoints(uri)
    assert [str(address) for address in endpoints.addresses] == [shown]
    assert str(endpoints.current) == shown


def test_hosts_take_turns_and_keep_their_own_ports_and_schemes() -> None:
    endpoints = Endpoints("amqp://a:x@one:1/v; amqps://b:x@two/w ;amqp://c:x@three")
    expected = ["amqp://a@one:1/v", "amqps://b@two:5671/w", "amqp://c@three:5672"]
    assert [str(address) for address in endpoints.addresses] == expected
    seen, pauses = [], []
    for _ in range(6):
        seen.append(str(endpoints.current))
        pauses.append(endpoints.move_on())
    assert seen == expected * 2
    assert pauses == [False, False, True] * 2


def test_hosts_that_let_in_and_do_not_serve_are_not_tried_without_a_pause() -> None:
    endpoints = Endpoints("amqp://one;amqp://two")
    assert [endpoints.move_on() for _ in range(4)] == [False, True, False, True]
    endpoints.move_on()
    endpoints.succeeded()
    assert [endpoints.move_on(), endpoints.move_on()] == [False, True]


def test_one_host_always_pauses() -> None:
    endpoints = Endpoints("amqp://one")
    assert [endpoints.move_on(), endpoints.move_on()] == [True, True]
    assert str(endpoints.current) == "amqp://guest@one:5672"


@pytest.mark.parametrize(
    "uri", ["", " ; ", "redis://joe:hush@host", "joe:hush@host", "amqp://joe:hush@host:port", "amqp://fine;hush@host"]
)
def test_what_is_no_amqp_uri_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoints(uri)
    assert "AMQP_URI" in str(caught.value)
    assert "hush" not in str(caught.value)


CA = {"ca_certs": "ca.pem"}
URIS = [
    "amqp://",
    "amqp:///",
    "amqp:////",
    "amqp://host",
    "amqp://localhost:5673/shop",
    "amqp://joe@host",
    "amqp://:hush@host",
    "amqp://joe:hush@host:1234//",
    "amqp://joe:hush@host/shop/one",
    "amqp://joe:hush@host/shop%2Fone",
    "amqp://j%40e:hu%3Ash%2F@HOST/sh%20op",
    "amqp://joe:hu+sh@host/a+b",
    "amqp://[::1]:5673/v",
    "pyamqp://host",
    "amqps://joe:hush@host",
    "amqp://host/v?heartbeat=7&login_method=EXTERNAL",
    "amqp://host/v?ssl=true",
]


class Noted:
    """In the place of py-amqp's connection: notes what it was to connect with."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def connect(self) -> None:
        """Nothing."""


class Plain(pyamqp.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's transport, which does not connect."""

    Connection = Noted


class TLS(pyamqp.SSLTransport):  # type: ignore[misc]  # kombu has no types
    """The same for ``amqps``."""

    Connection = Noted


@pytest.mark.parametrize("ssl", [False, True, {}, CA, CA | {"server_hostname": None}, CA | {"server_hostname": "x"}])
@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_read_as_kombu_reads_it(uri: str, ssl: Any) -> None:
    given: Any = kombu.Connection(uri, ssl=ssl, heartbeat=60, connect_timeout=5)
    read = (TLS if uri.startswith("amqps:") else Plain)(given).establish_connection().arguments
    (host,) = Endpoints(uri, ssl=ssl, heartbeat=60)._hosts
    assert normal(host.arguments) == normal({name: value for name, value in read.items() if name != "insist"})


def normal(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without differences that make none: numbers as text, and what stands for no TLS, or for TLS by default."""
    ssl = arguments["ssl"]
    options = ssl if isinstance(ssl, dict) and ssl else bool(ssl)
    return {**arguments, "ssl": options, "heartbeat": float(arguments["heartbeat"])}


@pytest.mark.parametrize("option", ["colour=red", "heartbeat=soon", "ssl_ca_certs=ca.pem"])
def test_an_option_that_cannot_be_used_is_refused(option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoints(f"amqp://joe:hush@host/v?{option}")
    assert "host 1 has" in str(caught.value)
    assert "hush" not in str(caught.value)
