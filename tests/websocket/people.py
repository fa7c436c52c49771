"""Clients of a WebSocket server as there are: friendly, and otherwise."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from micro_framework.clock import SystemClock
from micro_framework.config import Settings
from micro_framework.extensions import Host, Lifecycle, SharedExtensions
from micro_framework.runner import Runner
from micro_framework.websocket.connection import ClientConnection as OurConnection
from micro_framework.websocket.server import WebSocketServer

SECONDS = 20.0
LOCAL = {"WEBSOCKET_IP": "127.0.0.1", "WEBSOCKET_PORT": 0}


def server_of(runner: Runner) -> WebSocketServer:
    """The server of a runner."""
    (server,) = [each for each in runner.started if isinstance(each, WebSocketServer)]
    return server


def uri_of(runner: Runner, scheme: str = "ws") -> str:
    """Where it listens."""
    return f"{scheme}://127.0.0.1:{server_of(runner).port}/"


class Client:
    """Sends requests and reads replies."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, command: str, *args: Any, **options: Any) -> None:
        """Send a request; ``options`` are further keys of it."""
        self.connection.send(json.dumps({"command": command, "command_args": args, **options}))

    def next(self) -> dict[str, Any]:
        """The next reply."""
        found: dict[str, Any] = json.loads(self.connection.recv(timeout=SECONDS))
        return found

    def ask(self, command: str, *args: Any, **options: Any) -> dict[str, Any]:
        """Send a request and read the reply."""
        self.send(command, *args, **options)
        return self.next()

    def error(self, frame: str | bytes) -> str:
        """Send a frame as it is; the type of the error it is answered with."""
        self.connection.send(frame)
        return str(self.next()["exception"]["exc_type"])


@contextmanager
def client(runner: Runner, path: str = "", **options: Any) -> Iterator[Client]:
    """A connection inside the block."""
    with connect(uri_of(runner) + path, open_timeout=SECONDS, **options) as connection:
        yield Client(connection)


@contextmanager
def our_connection(uri: str) -> Iterator[OurConnection]:
    """A connection as services have it, inside the block."""
    host = Host(Settings(), "shop", "default", 1, 1, SystemClock(), Lifecycle(), SharedExtensions())
    connection = OurConnection(uri).bind(host)
    connection.setup()
    connection.start()
    try:
        yield connection
    finally:
        connection.stop()


def raw_handshake(runner: Runner, **headers: str) -> str:
    """The status line of the answer to a handshake with these headers."""
    given = {
        "Host": f"127.0.0.1:{server_of(runner).port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    with socket.create_connection(("127.0.0.1", server_of(runner).port), SECONDS) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())
        return raw.recv(4096).split(b"\r\n", 1)[0].decode()
