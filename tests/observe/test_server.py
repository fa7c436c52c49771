"""The port for operators, as friendly and other clients meet it."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from micro_framework.metrics.snapshots import Snapshot
from micro_framework.observe import server as serving
from micro_framework.observe.health import Health
from micro_framework.observe.server import MOST_CONNECTIONS, PAGE, ObserveServer, page_policy

SECONDS = 30.0


class Observed:
    """A server with a health that the test sets."""

    def __init__(self) -> None:
        self.now = Health("running")
        self.server = ObserveServer("127.0.0.1", 0, Snapshot, lambda: self.now, {"what": "shop", "since": 0})
        self.server.start()

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=SECONDS)
        connection.request(method, path)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), SECONDS)


@pytest.fixture
def observed() -> Iterator[Observed]:
    found = Observed()
    yield found
    found.server.stop()


def test_every_path_answers(observed):
    assert observed.ask("/")[1] == PAGE
    assert b"micro_framework_connects_total" in observed.ask("/metrics?name=x")[1]
    assert observed.ask("/status.json")[0] == 200
    assert observed.ask("/healthz") == (200, observed.now.line(True))
    assert observed.ask("/readyz")[0] == 200
    assert observed.ask("/../etc/passwd")[0] == 404
    assert observed.ask("/", "HEAD") == (200, b"")
    assert observed.ask("/", "POST")[0] == 501


def test_health_is_told_by_the_status(observed):
    observed.now = Health("running", missing=["not ready: publishing connection"])
    assert observed.ask("/healthz")[0] == 200
    code, text = observed.ask("/readyz")
    assert (code, b"publishing connection" in text) == (503, True)
    observed.now = Health("running", dead=["the clock"])
    assert observed.ask("/healthz")[0] == 503


def test_probes_are_answered_however_many_others_say_nothing(observed):
    silent = [observed.connect() for _ in range(5 * MOST_CONNECTIONS)]
    try:
        for _ in range(3):
            assert observed.ask("/healthz")[0] == 200
        assert (
            len([thread for thread in threading.enumerate() if thread.name == "mf-observe-request"]) <= MOST_CONNECTIONS
        )
    finally:
        for each in silent:
            each.close()


def test_whoever_writes_too_slowly_is_cut_off(observed, monkeypatch):
    monkeypatch.setattr(serving, "LONGEST_REQUEST", 0.2)
    with observed.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        slow.settimeout(SECONDS)
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012 - it may be noticed at either
            while slow.recv(1) != b"":
                pass
            raise ConnectionError
    assert observed.ask("/healthz")[0] == 200


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01" * 50, b"GET\r\n\r\n", b"G" * 200_000, b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 500, b""],
)
def test_garbage_disturbs_nobody(observed, garbage):
    with observed.connect() as client:
        try:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except OSError:
            pass
    assert observed.ask("/healthz")[0] == 200


def test_it_stops_though_somebody_holds_a_connection():
    found = Observed()
    with found.connect() as held:
        assert found.ask("/healthz")[0] == 200
        began = time.monotonic()
        found.server.stop()
        assert time.monotonic() - began < 20
        held.settimeout(SECONDS)
        try:
            assert held.recv(1) == b""
        except ConnectionError:
            pass
    found.server.stop()


def test_a_health_that_cannot_be_told_is_an_error_of_one_request(observed):
    def broken() -> Health:
        raise RuntimeError("no")

    whole, observed.server.health = observed.server.health, broken
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        observed.ask("/healthz")
    observed.server.health = whole
    assert observed.ask("/healthz")[0] == 200


def test_the_page_needs_nobody_else():
    text = PAGE.decode()
    assert "innerHTML" not in text
    assert not [
        line
        for line in text.splitlines()
        if "src=" in line or ("http" in line and "www.w3.org" not in line and "HTTP" not in line)
    ]
    assert page_policy(PAGE).count("sha256-") == 2
