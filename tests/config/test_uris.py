"""Broker URIs and secrets."""

import pytest

from micro_framework.config.uris import redact, redact_uri, split_hosts, uri_problem

REDACTED = [
    ("amqp://guest:guest@localhost:5672/v", "amqp://guest:***@localhost:5672/v"),
    ("amqp://u:p%40x@h", "amqp://u:***@h"),
    ("amqp://u@h/v", "amqp://u@h/v"),
    ("amqp://h", "amqp://h"),
    ("memory://", "memory://"),
    ("amqp://u:p@a:1/v;amqps://u:q@b", "amqp://u:***@a:1/v;amqps://u:***@b"),
    ("amqp://h/v?ssl_key_password=p&a=1", "amqp://h/v?ssl_key_password=***&a=1"),
    # not valid, and shown in messages for that very reason
    ("amqp://u:p@q@h", "amqp://u:***@h"),
    ("amqp://u:p/q@h", "amqp://u:***@h"),
    ("amqp://u:p;q@h", "amqp://u:***@h"),
    ("amqp://u:p#q@h", "amqp://u:***@h"),
    ("u:p@h", "u:***@h"),
    ("cannot reach amqp://u:p@a or amqp://u:q@b", "cannot reach amqp://u:***@b"),
]


@pytest.mark.parametrize(("uri", "shown"), REDACTED)
def test_passwords_are_replaced(uri, shown):
    assert redact_uri(uri) == shown


def test_secrets_are_hidden_at_any_depth():
    config = {
        "AMQP_URI": "amqp://u:p@h",
        "WEBSOCKET": {"TOKEN": "t", "PORT": 1},
        "CLIENTS": [{"api_key": "k", "name": "n"}, "https://u:p@h"],
        "SECRETS": {"inner": {"deep": "d"}, "list": ["e"]},
        "DB_PASSWORD": None,
        "USE_TOKEN": True,
        1: "one",
    }
    assert redact(config) == {
        "AMQP_URI": "amqp://u:***@h",
        "WEBSOCKET": {"TOKEN": "***", "PORT": 1},
        "CLIENTS": [{"api_key": "***", "name": "n"}, "https://u:***@h"],
        "SECRETS": {"inner": {"deep": "***"}, "list": ["***"]},
        "DB_PASSWORD": None,
        "USE_TOKEN": True,
        1: "one",
    }
    assert config["WEBSOCKET"] == {"TOKEN": "t", "PORT": 1}


def test_hosts_are_split_between_schemes_only():
    assert split_hosts("amqp://u:p;q@a; amqps://b") == ["amqp://u:p;q@a", "amqps://b"]


@pytest.mark.parametrize(
    "uri",
    [
        "amqp://",
        "amqp://guest:guest@localhost:5672/vhost",
        "pyamqp://guest:guest@localhost",
        "AMQPS://u:p@h",
        "amqp://a;amqp://b:5673",
        "amqp://u:p%40%2F@h/%2F",
        "amqp://u:p@q@h",
        "amqp://u:p@h/v@x",
        "amqp://u:p@[::1]:5672",
        "amqp://u:p@h?heartbeat=10",
        "memory://",
        "memory://shared",
    ],
)
def test_uris_that_can_be_used(uri):
    assert uri_problem(uri) is None


@pytest.mark.parametrize(
    ("uri", "sign"),
    [
        ("redis://u:hunter2@h", "redis:// is not supported"),
        ("localhost:5672", "no scheme"),
        ("u:hunter2@h", "no scheme"),
        ("amqp://a;b", "each needs its scheme"),
        ("amqp://u:p;hunter2@h", "%3B"),
        ("amqp://a;http://b", "http:// is not supported"),
        ("amqp://u:hunter2/w@h", "%2F"),
        ("amqp://u:12/hunter2@h", "%2F"),
        ("amqp://u:hunter2#w@h", "%23"),
        ("amqp://u:12#hunter2@h", "%23"),
        ("amqp://h:99999", "port"),
        ("amqp://h:0", "port"),
        ("amqp://[::1", "host"),
        ("amqp://h;memory://", "inside the process"),
    ],
)
def test_uris_that_cannot_be_used_say_why_and_never_the_password(uri, sign):
    problem = uri_problem(uri)
    assert problem is not None
    assert sign in problem
    assert "hunter2" not in problem
