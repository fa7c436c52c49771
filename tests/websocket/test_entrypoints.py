"""`WebSocketListener` in running services, called by real clients."""

import logging
import threading

import pytest

from micro_framework.exceptions import DeclarationError
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import route
from micro_framework.runner import Runner
from micro_framework.testing import running
from micro_framework.websocket.entrypoints import WebSocketListener
from tests.websocket.people import LOCAL, SECONDS, client, uri_of


class Expected(Exception):
    pass


class Shop:
    name = "shop"
    release = threading.Event()

    @WebSocketListener()
    def add(self, a: int, b: int = 1) -> int:
        """Add two numbers."""
        return a + b

    @WebSocketListener()
    def wait(self) -> str:
        assert self.release.wait(SECONDS)
        return "waited"

    @WebSocketListener(expected_exceptions=[Expected], sensitive_arguments=["card"])
    def fail(self, kind: str, card: str | None = None) -> object:
        if kind == "unserializable":
            return object()
        raise {"expected": Expected("so"), "value": ValueError("x", 1)}[kind]

    def hidden(self) -> None:
        raise AssertionError("it is no target")


@pytest.fixture(autouse=True)
def held_up() -> None:
    Shop.release.clear()


def test_a_target_is_called_and_answers() -> None:
    with running(Shop, config=LOCAL) as runner, client(runner) as shop:
        assert shop.ask("add", 1) == {"data": 2, "exception": None}
        assert shop.ask("add", 1, command_kwargs={"b": 5}, id=7) == {"data": 6, "exception": None, "id": 7}


@pytest.mark.parametrize("command", ["nope", "hidden", "__init__", "__class__", "a.b", "", "name", "release"])
def test_nothing_else_can_be_called(command: str) -> None:
    with running(Shop, config=LOCAL) as runner, client(runner) as shop:
        assert shop.ask(command)["exception"]["exc_type"] == "MethodNotFound"


def test_what_can_be_called_is_told() -> None:
    with running(Shop, config=LOCAL) as runner, client(runner) as shop:
        assert [each["name"] for each in shop.ask("__list_targets__")["data"]] == ["add", "fail", "wait"]
        target = shop.ask("__get_target__", "add", id=1)["data"]
        assert (target["doc"], [each["name"] for each in target["parameters"]]) == ("Add two numbers.", ["a", "b"])
        assert shop.ask("__get_target__", "hidden")["exception"]["exc_type"] == "MethodNotFound"


@pytest.mark.parametrize(
    ("args", "exc_type", "level"),
    [
        (("value",), "ValueError", logging.ERROR),
        (("expected",), "Expected", logging.WARNING),
        ((), "IncorrectSignature", logging.WARNING),
        (("unserializable",), "UnserializableValueError", logging.ERROR),
    ],
)
def test_errors_come_back_by_name_and_are_logged(
    args: tuple[str, ...], exc_type: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    with running(Shop, config=LOCAL) as runner, client(runner) as shop:
        assert shop.ask("fail", *args, command_kwargs={"card": "4111"})["exception"]["exc_type"] == exc_type
    assert level in [record.levelno for record in caplog.records if record.name.startswith("micro_framework")]
    assert "4111" not in caplog.text


def test_calls_with_an_id_run_concurrently_and_those_without_in_order() -> None:
    with running(Shop, config=LOCAL) as runner, client(runner) as shop:
        shop.send("wait", id="slow")
        assert shop.ask("add", 1, id="quick")["id"] == "quick"
        Shop.release.set()
        assert shop.next() == {"data": "waited", "exception": None, "id": "slow"}
        Shop.release.clear()
        shop.send("wait")
        shop.send("add", 1)
        Shop.release.set()
        assert [shop.next()["data"], shop.next()["data"]] == ["waited", 2]


def test_running_calls_are_answered_at_the_stop_and_new_ones_are_told_to_come_again() -> None:
    with running(Shop, config=LOCAL) as runner, client(runner) as shop:
        shop.send("wait", id=1)
        assert shop.ask("add", 1, id=2)["data"] == 2
        stopping = threading.Thread(target=runner.stop)
        stopping.start()
        while (answer := shop.ask("add", 1, id=3)).get("data") == 2:
            assert stopping.is_alive()
        assert answer["exception"]["exc_type"] == "ServiceBusy"
        Shop.release.set()
        assert shop.next() == {"data": "waited", "exception": None, "id": 1}
        stopping.join(SECONDS)
        assert not stopping.is_alive()


def test_it_cannot_retry_and_a_name_is_taken_once() -> None:
    class Twice:
        name = "twice"

        @route(WebSocketListener(), backoff=AsyncBackOff(1, 1))
        def add(self) -> None: ...

    with pytest.raises(DeclarationError, match="WebSocketListener cannot retry; leave out backoff="):
        Runner([Twice], LOCAL)

    class Other:
        name = "other"

        @WebSocketListener()
        def add(self) -> None: ...

    with pytest.raises(DeclarationError, match="would share the WebSocket command 'add'"):
        Runner([Shop, Other], LOCAL)


def test_no_broker_is_needed() -> None:
    with Runner([Shop], LOCAL) as runner:
        assert uri_of(runner).startswith("ws://127.0.0.1:")
