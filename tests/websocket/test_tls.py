"""TLS under a reader and a writer at the same time."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.sync.server import serve

from micro_framework.calls import Outcome
from micro_framework.rpc.proxies import ServiceProxy
from micro_framework.testing import running
from micro_framework.websocket.entrypoints import WebSocketListener
from micro_framework.websocket.frames import parse_request, reply_text
from micro_framework.websocket.tls import guarded
from tests.websocket.people import LOCAL, SECONDS, our_connection, uri_of

CONNECTIONS = 60
MANY_TICKETS = 200
"""TLS session tickets of one handshake; with so many, every thirtieth connection of a bare client waited for ever."""


class Echo:
    name = "echo"

    @WebSocketListener()
    def echo(self, value: Any) -> Any:
        return value


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The certificate of this machine's address, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    found = {"certfile": str(folder / "server.pem"), "keyfile": str(folder / "server.key")}
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", found["keyfile"], "-out", found["certfile"]]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return found


@pytest.fixture
def server_side(files: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(**files)
    return context


@pytest.fixture
def client_side(files: dict[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files["certfile"])


def test_a_target_is_called_over_tls(files: dict[str, str], client_side: ssl.SSLContext) -> None:
    with (
        running(Echo, config={**LOCAL, "WEBSOCKET": {"SSL": files}}) as runner,
        connect(uri_of(runner, "wss"), ssl=client_side) as connection,
    ):
        connection.send('{"command": "echo", "command_args": [1]}')
        assert connection.recv(timeout=SECONDS) == '{"data": 1, "exception": null}'
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.version() == "TLSv1.3"
        assert connection.socket.session is not None
        assert not connection.socket.session.has_ticket, "clients without a guard cannot read one beside a write"


def test_our_client_connects_every_time_to_a_server_that_hands_out_tickets(
    files: dict[str, str], server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", files["certfile"])
    server_side.num_tickets = MANY_TICKETS
    with echoing(server_side) as uri:
        for number in range(CONNECTIONS):
            with our_connection(uri) as connection:
                assert ServiceProxy(connection, "echo", SECONDS).echo(number) == number
                assert connection.trouble == "not connected yet", "the first attempt"


@contextmanager
def echoing(context: ssl.SSLContext) -> Iterator[str]:
    """The address of somebody else's server."""

    def answer(connection: Any) -> None:
        for frame in connection:
            request = parse_request(frame)
            connection.send(reply_text(Outcome(request.args[0]), request.id))

    with serve(answer, "127.0.0.1", 0, ssl=context) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"wss://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        serving.join(SECONDS)


# -- the socket


@pytest.fixture
def ends(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a connection, guarded."""
    ours, theirs = socket.socketpair()
    accepted: list[ssl.SSLSocket] = []
    accepting = threading.Thread(target=lambda: accepted.append(guarded(server_side).wrap_socket(ours, True)))
    accepting.start()
    with guarded(client_side).wrap_socket(theirs, server_hostname="127.0.0.1") as client:
        accepting.join(SECONDS)
        (server,) = accepted
        with server:
            yield server, client


def test_both_ends_send_more_than_fits_while_they_read(ends: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    large = bytes(range(256)) * 20_000
    received: dict[ssl.SSLSocket, bytes] = {}

    def read(end: ssl.SSLSocket) -> None:
        parts = bytearray()
        while len(parts) < len(large):
            parts += end.recv(65536)
        received[end] = bytes(parts)

    threads = [threading.Thread(target=read, args=(end,), daemon=True) for end in ends]
    threads += [threading.Thread(target=end.sendall, args=(large,), daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert received == dict.fromkeys(ends, large)


def test_a_read_waits_no_longer_than_the_timeout(ends: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    server, _ = ends
    server.settimeout(0.05)
    with pytest.raises(TimeoutError, match="silent"):
        server.recv(1)


def test_a_write_waits_no_longer_than_the_timeout(ends: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    server, _ = ends
    server.settimeout(0.05)
    with pytest.raises(TimeoutError, match="silent"):
        server.sendall(bytes(10_000_000))


def test_a_read_that_waits_ends_with_the_connection(ends: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    server, client = ends
    server.sendall(b"x")
    assert client.recv(1) == b"x"  # and the tickets before it: nothing is left unread
    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.append(server.recv(1)), daemon=True)
    reading.start()
    client.close()
    reading.join(SECONDS)
    assert received == [b""]
