"""The port that the configuration asks for, and what is said where it cannot be had."""

import socket

import pytest

from micro_framework.config import Settings
from micro_framework.exceptions import SetupFailed
from micro_framework.metrics.snapshots import Snapshot
from micro_framework.observe.health import Health
from micro_framework.observe.opening import about, server_for


def opened(**metrics):
    settings = Settings.from_mapping({"ENABLE_METRICS": True, "METRICS": metrics})
    return server_for(settings, "shop", Snapshot, lambda: Health("running"))


def test_it_listens_where_it_is_told_to():
    server = opened(HOST="127.0.0.1", PORT=0)
    with socket.create_connection(("127.0.0.1", server.port), 10):
        pass
    server.stop()


def test_a_port_in_use_is_told_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SetupFailed) as told:
            opened(HOST="127.0.0.1", PORT=port)
    text = str(told.value)
    assert text.startswith(f"METRICS: cannot listen on HOST '127.0.0.1', PORT {port}: Address already in use")
    assert "\n" not in text


@pytest.mark.parametrize("host", ["203.0.113.7", "x" * 300])
def test_an_impossible_host_is_told_in_one_line(host):
    with pytest.raises(SetupFailed, match="METRICS: cannot listen on HOST") as told:
        opened(HOST=host, PORT=0)
    assert "\n" not in str(told.value)


def test_the_brokers_password_is_not_shown():
    settings = Settings.from_mapping({"AMQP_URI": "amqp://bob:hunter2@rabbit:5672/"})
    assert "hunter2" not in str(about(settings, "shop"))
    assert "rabbit" in about(settings, "shop")["broker"]
