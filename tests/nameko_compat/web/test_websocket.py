"""Methods called over WebSocket, and the hub."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from nameko_compat.containers import ServiceContainer
from nameko_compat.testing.utils import find_free_port
from nameko_compat.web.websocket import WebSocketHubProvider, rpc
from tests.outside import SECONDS


class Chat:
    name = "chat"
    hub: Any = WebSocketHubProvider()

    @rpc
    def subscribe(self, socket_id: str, channel: str) -> str:
        self.hub.subscribe(socket_id, channel)
        return f"subscribed to {channel}"

    @rpc
    def unsubscribe(self, socket_id: str, channel: str) -> Any:
        self.hub.unsubscribe(socket_id, channel)
        return self.hub.get_subscriptions(socket_id)

    @rpc
    def shout(self, socket_id: str, channel: str, text: str) -> Any:
        self.hub.broadcast(channel, "shouted", {"text": text})
        return self.hub.get_subscriptions(socket_id)

    @rpc
    def whisper(self, socket_id: str, to: str, text: str) -> Any:
        return self.hub.unicast(to or socket_id, "whispered", text)

    @rpc
    def fail(self, socket_id: str) -> None:
        raise ValueError("no")


@pytest.fixture(scope="module")
def address() -> str:
    return f"127.0.0.1:{find_free_port()}"


@pytest.fixture(scope="module")
def chat(address: str) -> Iterator[ServiceContainer]:
    container = ServiceContainer(Chat, {"WEB_SERVER_ADDRESS": address})
    container.start()
    yield container
    container.stop()


@pytest.fixture
def client(address: str, chat: ServiceContainer) -> Iterator[ClientConnection]:
    with connect(f"ws://{address}/ws", open_timeout=SECONDS) as opened:
        yield opened


def receive(client: ClientConnection) -> Any:
    return json.loads(client.recv(timeout=SECONDS))


def ask(client: ClientConnection, text: Any) -> Any:
    client.send(text if isinstance(text, str) else json.dumps(text))
    return receive(client)


def test_a_socket_calls_methods_and_hears_events(client: ClientConnection) -> None:
    connected = receive(client)
    assert (connected["type"], connected["event"], list(connected["data"])) == ("event", "connected", ["socket_id"])
    answer = ask(client, {"method": "subscribe", "data": {"channel": "news"}, "correlation_id": "1"})
    assert answer == {"type": "result", "success": True, "data": "subscribed to news", "correlation_id": "1"}
    event = ask(client, {"method": "shout", "data": {"channel": "news", "text": "hello"}})
    assert event == {"type": "event", "event": "shouted", "data": {"text": "hello"}}
    assert receive(client) == {"type": "result", "success": True, "data": ["news"], "correlation_id": None}
    assert ask(client, {"method": "unsubscribe", "data": {"channel": "news"}})["data"] == []
    assert ask(client, {"method": "whisper", "data": {"to": "", "text": "psst"}})["event"] == "whispered"
    assert receive(client)["data"] is True
    assert ask(client, {"method": "whisper", "data": {"to": "nobody", "text": "psst"}})["data"] is False


@pytest.mark.parametrize(
    ("request_", "kind", "value"),
    [
        ({"method": "nothing"}, "MethodNotFound", ""),
        ({"method": "fail"}, "ValueError", "no"),
        ({"method": "fail", "data": {"x": 1}}, "IncorrectSignature", None),
        ("no json", "MalformedRequest", "Invalid JSON data"),
        ({}, "MalformedRequest", "Invalid JSON data"),
        ({"method": "subscribe", "data": [1]}, "IncorrectSignature", None),
    ],
)
def test_errors_are_answers(client: ClientConnection, request_: Any, kind: str, value: str | None) -> None:
    receive(client)
    answer = ask(client, request_)
    assert (answer["success"], answer["error"]["exc_type"]) == (False, kind)
    if value is not None:
        assert answer["error"]["value"] == value


def test_large_and_fragmented_messages_arrive_whole(client: ClientConnection) -> None:
    receive(client)
    text = json.dumps({"method": "whisper", "data": {"to": "", "text": "x" * 200_000}})
    client.send([text[:10], text[10:100_000], text[100_000:]])
    assert len(receive(client)["data"]) == 200_000
    assert receive(client)["success"]


def test_what_is_no_websocket_is_refused(address: str, chat: ServiceContainer) -> None:
    with pytest.raises(InvalidStatus, match="40"), connect(f"ws://{address}/other", open_timeout=SECONDS):
        pass


def test_the_end_of_the_service_closes_sockets() -> None:
    address = f"127.0.0.1:{find_free_port()}"
    container = ServiceContainer(Chat, {"WEB_SERVER_ADDRESS": address})
    container.start()
    with connect(f"ws://{address}/ws", open_timeout=SECONDS) as client:
        receive(client)
        stopping = threading.Thread(target=container.stop)
        stopping.start()
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=SECONDS)
        stopping.join(SECONDS)
        assert not stopping.is_alive()
