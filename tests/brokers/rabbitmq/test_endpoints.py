"""Where the broker is, and never its password."""

import pytest

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
