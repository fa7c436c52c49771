"""`WebSocketClient`: a service that calls another one over WebSocket."""

import threading
from typing import Any

import pytest

from micro_framework.exceptions import DeclarationError, RPCTimeout
from micro_framework.rpc import discover
from micro_framework.runner import Runner
from micro_framework.testing import running
from micro_framework.websocket.dependencies import WebSocketClient
from micro_framework.websocket.entrypoints import WebSocketListener
from tests.websocket.people import LOCAL, SECONDS, client, uri_of


class Stock:
    name = "stock"
    release = threading.Event()

    @WebSocketListener()
    def count(self, sku: str) -> int:
        if sku == "none":
            raise LookupError(sku)
        return len(sku)

    @WebSocketListener()
    def wait(self) -> str:
        assert self.release.wait(SECONDS)
        return "waited"


def shop_of(uri: str, **options: Any) -> type:
    class Shop:
        name = "shop"
        stock = WebSocketClient(uri, **options)

        @WebSocketListener()
        def ask(self, method: str, *args: Any) -> Any:
            return self.stock[method](*args)

        @WebSocketListener()
        def ask_many(self, *skus: str) -> list[int]:
            return [call.result() for call in [self.stock.count.call_async(sku) for sku in skus]]

        @WebSocketListener()
        def offers(self) -> list[str]:
            return [target.name for target in discover(self.stock) or ()]

        @WebSocketListener()
        def hurry(self) -> str:
            try:
                return str(self.stock.wait.with_timeout(0.2)())
            except RPCTimeout as error:
                return str(error)

    return Shop


def test_calls_fan_out_and_targets_are_discovered() -> None:
    with running(Stock, config=LOCAL) as stock, running(shop_of(uri_of(stock)), config=LOCAL) as shop:
        with client(shop) as customer:
            assert customer.ask("ask", "count", "abc")["data"] == 3
            assert customer.ask("ask_many", *("x" * size for size in range(20)))["data"] == list(range(20))
            assert customer.ask("offers")["data"] == ["count", "wait"]


@pytest.mark.parametrize(
    ("args", "exc_type"),
    [(("count", "none"), "RemoteError"), (("nope",), "MethodNotFound"), (("count",), "IncorrectSignature")],
)
def test_errors_come_by_name(args: tuple[str, ...], exc_type: str) -> None:
    with running(Stock, config=LOCAL) as stock, running(shop_of(uri_of(stock)), config=LOCAL) as shop:
        with client(shop) as customer:
            assert customer.ask("ask", *args)["exception"]["exc_type"] == exc_type


def test_a_deadline_is_kept() -> None:
    Stock.release.clear()
    with running(Stock, config=LOCAL) as stock, running(shop_of(uri_of(stock)), config=LOCAL) as shop:
        with client(shop) as customer:
            answer = customer.ask("hurry")["data"]
        Stock.release.set()
    assert ".wait did not answer within 0.2 s" in answer


def test_a_token_is_given() -> None:
    with running(Stock, config={**LOCAL, "WEBSOCKET": {"TOKEN": "s3cret"}}) as stock:
        with running(shop_of(uri_of(stock), token="s3cret"), config=LOCAL) as shop, client(shop) as customer:
            assert customer.ask("ask", "count", "abc")["data"] == 3


@pytest.mark.parametrize(("uri", "timeout"), [("http://h", None), ("", None), ("ws://h", -1)])
def test_what_cannot_be_used_is_refused_when_the_runner_is_built(uri: str, timeout: float | None) -> None:
    with pytest.raises(DeclarationError, match="WebSocketClient"):
        Runner([shop_of(uri, timeout=timeout)], LOCAL)
