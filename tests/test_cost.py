"""What a message costs on the hot paths, in calls of Python functions: no timing, so a slow machine changes nothing.

Counted with `threading.setprofile` on every thread of the framework, at RabbitMQ, for many messages and for few; the
difference is what the messages cost, without start and stop. How many messages come or go in one read or write depends
on chance, so each bound leaves a tenth above the most that was seen, where nothing depends on it a twentieth. Python
3.12 and 3.13 make fewer calls for the same: their comprehensions are no calls (PEP 709).
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.routes import Route
from micro_framework.runner import Runner
from micro_framework.standalone import EventProducer, RPCClient
from micro_framework.testing.broker_state import VHost
from tests.outside import SECONDS

FEW, MANY = 50, 350
LEAST = 30
"""No path costs less: a figure below it means that something was not counted."""


class Calls:
    """Counts the calls of Python functions on threads that begin inside `counted`."""

    def __init__(self) -> None:
        # By thread as well, for two threads that add to one number at the same time lose some.
        self.by_place: Counter[tuple[int, str]] = Counter()

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            code = frame.f_code
            self.by_place[threading.get_ident(), f"{code.co_filename.rpartition('/')[2]}:{code.co_name}"] += 1

    @property
    def total(self) -> int:
        return self.by_place.total()

    @property
    def by_function(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, function), count in self.by_place.items():
            counts[function] += count
        return counts


@contextmanager
def counted() -> Iterator[Calls]:
    calls = Calls()
    threading.setprofile(calls.note)
    try:
        yield calls
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]


def per_message(run: Callable[[int], Calls]) -> tuple[float, str]:
    """What one message costs, and the functions that are called the most for it."""
    few, many = run(FEW), run(MANY)
    number = MANY - FEW
    each = (many.by_function - few.by_function).most_common(40)
    shown = ", ".join(f"{name} {count / number:.2f}" for name, count in each if count > number / 20)
    return (many.total - few.total) / number, shown


class Countdown:
    """Over once so many calls have come."""

    def __init__(self, count: int) -> None:
        self.left = iter(range(count - 1))
        self.over = threading.Event()

    def one(self) -> None:
        if next(self.left, None) is None:
            self.over.set()


def consume(vhost: VHost, count: int, routes: int = 1) -> Calls:
    """Handle events that wait already."""
    countdown = Countdown(count)

    def heard(payload: Any) -> None:
        countdown.one()

    listener = Route(heard, EventListener("shop", "sold"))
    others = [Route(heard, EventListener("shop", f"other{number}")) for number in range(routes - 1)]
    config = {"AMQP_URI": vhost.uri, "SERVICE_NAME": "cost", "MAX_WORKERS": 10}
    with Runner([listener], config):
        pass  # the queue is there
    with EventProducer("shop", vhost.uri) as dispatch:
        dispatch.many([("sold", {"number": number}) for number in range(count)])
    with counted() as calls, Runner([listener, *others], config):
        assert countdown.over.wait(SECONDS)
    return calls


def consume_singly(vhost: VHost, count: int, mode: str) -> Calls:
    """Handle events that come one at a time, each with reads and a write of its own; worker processes do not count."""
    listener = Route("json.dumps", EventListener("shop", "sold"))
    config = {"AMQP_URI": vhost.uri, "SERVICE_NAME": "cost", "MAX_WORKERS": 1, "WORKER_MODE": mode, "PREFETCH_COUNT": 1}
    with Runner([listener], {**config, "WORKER_MODE": "thread"}):
        pass  # the queue is there
    with EventProducer("shop", vhost.uri) as dispatch:
        dispatch.many([("sold", {"number": number}) for number in range(count)])
    with counted() as calls, Runner([listener], config):
        vhost.wait_until_drained("evt-shop-sold--cost.dumps", timeout=SECONDS)
    return calls


def publish(vhost: VHost, count: int, threads: int) -> Calls:
    """Publish, each message confirmed before its thread goes on."""
    with counted() as calls, EventProducer("shop", vhost.uri) as dispatch, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: dispatch("sold", {"number": number}), range(count)))
    return calls


class Echo:
    name = "echo"

    @RPCListener()
    def echo(self, value: int) -> int:
        return value


def call(vhost: VHost, count: int, callers: int) -> Calls:
    """Call a service in the same process: both sides count."""
    with (
        counted() as calls,
        Runner([Echo], {"AMQP_URI": vhost.uri, "MAX_WORKERS": 10}),
        RPCClient(vhost.uri, timeout=SECONDS) as client,
        ThreadPoolExecutor(callers) as pool,
    ):
        list(pool.map(client.echo.echo, range(count)))
    return calls


def test_consuming_an_event(rabbit: VHost) -> None:
    cost, shown = per_message(lambda count: consume(rabbit, count))
    assert LEAST < cost < 86, shown


def test_consuming_an_event_costs_the_same_beside_many_routes(rabbit: VHost) -> None:
    cost, shown = per_message(lambda count: consume(rabbit, count, routes=200))
    assert LEAST < cost < 86, shown


@pytest.mark.parametrize(("mode", "bound"), [("thread", 107), ("process", 116)])
def test_consuming_one_event_at_a_time(rabbit: VHost, mode: str, bound: float) -> None:
    cost, shown = per_message(lambda count: consume_singly(rabbit, count, mode))
    assert LEAST < cost < bound, shown


@pytest.mark.parametrize(("threads", "bound"), [(1, 125), (10, 106)])
def test_publishing_an_event_with_its_confirm(rabbit: VHost, threads: int, bound: float) -> None:
    cost, shown = per_message(lambda count: publish(rabbit, count, threads))
    assert LEAST < cost < bound, shown


@pytest.mark.parametrize(("callers", "bound"), [(1, 521), (10, 399)])
def test_calling_a_service(rabbit: VHost, callers: int, bound: float) -> None:
    cost, shown = per_message(lambda count: call(rabbit, count, callers))
    assert LEAST < cost < bound, shown
