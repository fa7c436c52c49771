"""Who may connect, and what hostile clients can do: nothing."""

import socket
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from micro_framework.exceptions import SetupFailed
from micro_framework.runner import Runner
from micro_framework.testing import running
from micro_framework.websocket.entrypoints import WebSocketListener
from tests.websocket.people import LOCAL, SECONDS, client, raw_handshake, server_of, uri_of


class Echo:
    name = "echo"

    @WebSocketListener()
    def echo(self, value: Any) -> Any:
        return value


def with_options(**options: Any) -> Mapping[str, Any]:
    return {**LOCAL, "WEBSOCKET": options}


@pytest.mark.parametrize(
    ("options", "headers", "status"),
    [
        ({}, {}, 101),
        ({}, {"Host": "shop.example", "Origin": "http://shop.example"}, 101),
        ({}, {"Host": "shop.example:8765", "Origin": "https://SHOP.example:8765"}, 101),
        ({}, {"Host": "shop.example", "Origin": "http://evil.example"}, 403),
        ({}, {"Host": "shop.example", "Origin": "null"}, 403),
        ({"ORIGINS": ["https://a.example"]}, {"Origin": "https://a.example"}, 101),
        ({"ORIGINS": ["https://a.example"]}, {"Origin": "https://b.example"}, 403),
        ({"ORIGINS": ["*"]}, {"Origin": "https://b.example"}, 101),
        ({"TOKEN": "s3cret"}, {}, 401),
        ({"TOKEN": "s3cret"}, {"Authorization": "Bearer wrong"}, 401),
        ({"TOKEN": "s3cret"}, {"Authorization": "Basic s3cret"}, 401),
        ({"TOKEN": "s3cret"}, {"Authorization": "Bearer s3cret"}, 101),
    ],
)
def test_who_may_connect(options: Mapping[str, Any], headers: Mapping[str, str], status: int) -> None:
    with running(Echo, config=with_options(**options)) as runner:
        assert f" {status} " in raw_handshake(runner, **headers) + " "


def test_a_browser_gives_the_token_in_the_address() -> None:
    with running(Echo, config=with_options(TOKEN="s3cret")) as runner, client(runner, "?token=s3cret") as echo:
        assert echo.ask("echo", 1)["data"] == 1


def test_there_are_no_more_connections_than_allowed_and_a_closed_one_makes_room() -> None:
    with running(Echo, config=with_options(MAX_CONNECTIONS=2)) as runner:
        with client(runner) as first, client(runner) as second:
            assert " 503 " in raw_handshake(runner)
            assert [each.ask("echo", 1)["data"] for each in (first, second)] == [1, 1]
        with client(runner) as third:
            assert third.ask("echo", 3)["data"] == 3


def test_a_message_that_is_too_large_ends_its_connection_and_no_other() -> None:
    with running(Echo, config=with_options(MAX_SIZE=1000)) as runner, client(runner) as other:
        with client(runner) as large:
            large.send("echo", "x" * 2000)
            with pytest.raises(ConnectionClosed) as closed:
                large.next()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        assert other.ask("echo", 1)["data"] == 1


@pytest.mark.parametrize("frame", ["", "{", "[]", "null", b"\x00\xff", "[" * 50_000, '{"command": 1}', '"__class__"'])
def test_garbage_is_answered_and_harms_nobody(frame: str | bytes) -> None:
    with running(Echo, config=LOCAL) as runner, client(runner) as echo:
        assert echo.error(frame) == "MalformedRequest"
        assert echo.ask("echo", 1)["data"] == 1


def test_bytes_that_are_no_websocket_harm_nobody() -> None:
    with running(Echo, config=LOCAL) as runner, client(runner) as echo:
        with socket.create_connection(("127.0.0.1", server_of(runner).port), SECONDS) as raw:
            raw.sendall(b"\x16\x03\x01 this is no handshake\r\n\r\n" * 10)
        assert echo.ask("echo", 1)["data"] == 1


def test_who_reads_nothing_holds_up_nobody_else() -> None:
    with running(Echo, config={**LOCAL, "MAX_WORKERS": 1}) as runner, client(runner) as other:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", server_of(runner).port))
            with connect(uri_of(runner), sock=raw, max_queue=1, close_timeout=1) as deaf:
                for number in range(50):
                    deaf.send(f'{{"command": "echo", "command_args": ["{"x" * 200_000}"], "id": {number}}}')
                assert [other.ask("echo", number)["data"] for number in range(20)] == list(range(20))


def test_a_stop_is_not_held_up_by_clients_that_do_not_answer() -> None:
    runner = Runner([Echo], LOCAL)
    with runner:
        silent = [socket.create_connection(("127.0.0.1", server_of(runner).port), SECONDS) for _ in range(3)]
        stopped = threading.Thread(target=runner.stop)
        stopped.start()
        stopped.join(2 * SECONDS)
        assert not stopped.is_alive()
        for each in silent:
            each.close()


def test_a_port_that_is_taken_ends_the_start_with_the_fix() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = {**LOCAL, "WEBSOCKET_PORT": taken.getsockname()[1]}
        with pytest.raises(SetupFailed, match="cannot listen on 127.0.0.1:.*WEBSOCKET_PORT"), Runner([Echo], config):
            pass


@pytest.mark.parametrize(("token", "warned"), [(None, True), ("s3cret", False)])
def test_listening_everywhere_without_a_token_is_one_warning(
    token: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"WEBSOCKET_IP": "0.0.0.0", "WEBSOCKET_PORT": 0, "WEBSOCKET": {"TOKEN": token}}
    with running(Echo, config=config):
        pass
    assert ("asks for no token" in caplog.text) is warned
    assert "s3cret" not in caplog.text


def test_a_certificate_that_is_not_there_ends_the_start() -> None:
    config = with_options(SSL={"certfile": "/nowhere/server.pem"})
    with pytest.raises(SetupFailed, match=r"WEBSOCKET\.SSL"), Runner([Echo], config):
        pass
