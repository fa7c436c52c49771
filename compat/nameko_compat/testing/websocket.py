"""A client of WebSocket methods, for tests."""

import contextlib
import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from nameko_compat.exceptions import deserialize
from nameko_compat.green.queue import Queue

__all__ = ["VirtualSocket", "WebSocketClient", "make_virtual_socket"]

SECONDS = 30.0
"""How long opening, an answer or an event is waited for."""


class VirtualSocket:
    """What a test does with the connection: calls methods, takes events.

    Args:
        send: Sends a text.
    """

    app: "WebSocketClient"

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._answers: dict[str, Future[Any]] = {}
        self._events: defaultdict[str, Queue] = defaultdict(Queue)

    def get_event_queue(self, event_type: str) -> Queue:
        """The events of a type that have come and not been taken, each with its type."""
        return self._events[event_type]

    def wait_for_event(self, event_type: str) -> tuple[str, Any]:
        """The next event of a type: the type and its data.

        Raises:
            Empty: None has come within 30 s.
            Timeout: One of eventlet's was due before.
        """
        found: tuple[str, Any] = self.get_event_queue(event_type).get(timeout=SECONDS)
        return found

    def rpc(self, _method: str, **data: Any) -> Any:
        """Call a method; what it returned.

        Raises:
            Exception: What it raised.
            TimeoutError: It has not answered within 30 s.
        """
        number = uuid.uuid4().hex
        answer = self._answers[number] = Future()
        self._send(json.dumps({"method": _method, "data": data, "correlation_id": number}))
        found = answer.result(SECONDS)
        if found["success"]:
            return found["data"]
        raise deserialize(found["error"])

    def arrived(self, text: str | bytes) -> None:
        """Sort a message: an event, or the answer to a call."""
        message = json.loads(text)
        if message["type"] == "event":
            self.get_event_queue(message["event"]).put((message["event"], message["data"]))
        elif answer := self._answers.pop(message.get("correlation_id"), None):
            answer.set_result(message)

    def closed(self, error: BaseException) -> None:
        """Fail the calls that wait."""
        for answer in (self._answers.pop(number) for number in list(self._answers)):
            answer.set_exception(error)


class WebSocketClient:
    """A connection that is read in the thread that calls `run_forever`.

    Args:
        uri: Where it connects.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.socket = VirtualSocket(self.send)
        self.socket.app = self
        self.connection: Future[ClientConnection] = Future()

    def run_forever(self) -> None:
        """Connect, and read until `close` or the server ends it."""
        try:
            with connect(self.uri, open_timeout=SECONDS, close_timeout=SECONDS) as connection:
                self.connection.set_result(connection)
                for message in connection:
                    self.socket.arrived(message)
        except ConnectionClosed:
            pass
        except Exception as error:
            if self.connection.done():
                raise
            self.connection.set_exception(error)  # whoever waits for it gets it
            return
        self.socket.closed(ConnectionError("the WebSocket connection has been closed"))

    def send(self, text: str) -> None:
        """Send a text."""
        self.connection.result(SECONDS).send(text)

    def close(self) -> None:
        """Close the connection; `run_forever` returns."""
        with contextlib.suppress(Exception):
            self.connection.result(SECONDS).close()

    def wait_until_open(self) -> VirtualSocket:
        """What a test does with it, once it is open.

        Raises:
            Exception: It could not be opened.
        """
        self.connection.result(SECONDS)
        return self.socket

    def start(self) -> threading.Thread:
        """`run_forever` in a thread of its own."""
        thread = threading.Thread(target=self.run_forever, name="mf-test-websocket", daemon=True)
        thread.start()
        return thread


def make_virtual_socket(host: str, port: int, path: str = "/ws") -> tuple[WebSocketClient, Callable[[], VirtualSocket]]:
    """A client whose ``run_forever`` a thread has to call, and a function that waits for its connection."""
    client = WebSocketClient(f"ws://{host}:{port}{path}")
    return client, client.wait_until_open
