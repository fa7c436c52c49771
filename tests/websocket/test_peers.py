"""How much of the service one connection, and all together, may take."""

import threading
from collections.abc import Callable, Iterator

import pytest

from micro_framework.testing import running
from micro_framework.websocket import server as server_module
from micro_framework.websocket.entrypoints import WebSocketListener
from tests.websocket.people import LOCAL, SECONDS, client, server_of


class Slow:
    name = "slow"
    release = threading.Event()

    @WebSocketListener()
    def wait(self, number: int) -> int:
        assert self.release.wait(SECONDS)
        return number


@pytest.fixture(autouse=True)
def held_up() -> Iterator[None]:
    Slow.release.clear()
    yield
    Slow.release.set()


def wait_until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(SECONDS * 100)):
        if condition():
            return
        waiting.wait(0.01)
    pytest.fail("it did not become true in time")


def test_a_connection_has_no_more_calls_under_way_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_CALLS_OF_A_PEER", 3)
    with running(Slow, config=LOCAL) as runner, client(runner) as slow:
        for number in range(3):
            slow.send("wait", number, id=number)
        refused = slow.ask("wait", 3, id=3)
        assert (refused["id"], refused["exception"]["exc_type"]) == (3, "ServiceBusy")
        Slow.release.set()
        assert sorted(slow.next()["data"] for _ in range(3)) == [0, 1, 2]
        assert slow.ask("wait", 4, id=4)["data"] == 4


def test_nor_has_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_CALLS", 2)
    with running(Slow, config=LOCAL) as runner, client(runner) as first, client(runner) as second:
        first.send("wait", 1, id=1)
        second.send("wait", 2, id=2)
        wait_until(lambda: server_of(runner).calls == 2)
        assert first.ask("wait", 3, id=3)["exception"]["exc_type"] == "ServiceBusy"
        Slow.release.set()
        assert [first.next()["data"], second.next()["data"]] == [1, 2]


def test_calls_of_a_connection_that_is_gone_are_counted_off() -> None:
    with running(Slow, config=LOCAL) as runner:
        with client(runner) as slow:
            for number in range(5):
                slow.send("wait", number, id=number)
            wait_until(lambda: server_of(runner).calls == 5)
        Slow.release.set()
        wait_until(lambda: server_of(runner).calls == 0)
