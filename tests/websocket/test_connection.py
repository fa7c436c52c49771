"""Our connection to somebody's server: it comes back, and nothing waits for ever."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from micro_framework.exceptions import ConnectionLost, RPCTimeout
from micro_framework.rpc.proxies import ServiceProxy
from micro_framework.testing import running
from micro_framework.testing.rabbitmq import free_port
from micro_framework.websocket.connection import ClientConnection
from micro_framework.websocket.entrypoints import WebSocketListener
from tests.websocket.people import LOCAL, SECONDS, our_connection, server_of


class Stock:
    name = "stock"
    release = threading.Event()
    started = threading.Event()

    @WebSocketListener()
    def count(self, sku: str) -> int:
        return len(sku)

    @WebSocketListener()
    def wait(self) -> str:
        self.started.set()
        assert self.release.wait(SECONDS)
        return "waited"


@pytest.fixture
def port() -> int:
    Stock.release.clear()
    Stock.started.clear()
    return free_port()


@pytest.fixture
def connection(port: int) -> Iterator[ClientConnection]:
    with our_connection(f"ws://127.0.0.1:{port}/") as connection:
        yield connection
        Stock.release.set()


def stock_at(port: int) -> Any:
    return running(Stock, config={**LOCAL, "WEBSOCKET_PORT": port})


def test_a_call_waits_for_a_server_that_comes_later(connection: ClientConnection, port: int) -> None:
    proxy = ServiceProxy(connection, "stock", SECONDS)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(proxy.count("abc")))
    asking.start()
    with stock_at(port):
        asking.join(SECONDS)
    assert answers == [3]


def test_a_call_without_a_server_ends_at_its_deadline_and_says_why(connection: ClientConnection) -> None:
    began = time.monotonic()
    with pytest.raises(RPCTimeout, match=r"there is no connection to ws://127\.0\.0\.1"):
        ServiceProxy(connection, "stock", 0.3).count("abc")
    assert time.monotonic() - began >= 0.3


def test_a_call_whose_connection_is_lost_fails_at_once_and_the_next_one_works(
    connection: ClientConnection, port: int
) -> None:
    proxy = ServiceProxy(connection, "stock", SECONDS)
    with stock_at(port) as runner:
        call = proxy.wait.call_async()
        assert Stock.started.wait(SECONDS)
        for peer in list(server_of(runner).peers):
            peer.connection.socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionLost, match="before wait was answered; it may have been carried out"):
            call.result()
        assert proxy.count("abc") == 3
        Stock.release.set()


def test_a_stop_ends_the_calls_that_wait(connection: ClientConnection, port: int) -> None:
    with stock_at(port):
        call = ServiceProxy(connection, "stock", SECONDS).wait.call_async()
        assert Stock.started.wait(SECONDS)
        connection.stop()
        with pytest.raises(ConnectionLost):
            call.result()
        Stock.release.set()
