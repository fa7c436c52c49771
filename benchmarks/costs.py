"""What a message costs in a process of the framework, by any meter: calls of Python functions, or CPU time.

A meter reads between two moments: everything is ready and the messages wait; the last one is handled. So many
messages and few are measured, and the difference is what the messages cost, without start, stop, first and last.
"""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.routes import Route
from micro_framework.runner import Runner, RunnerContext
from micro_framework.standalone import EventProducer, RPCClient
from micro_framework.testing.broker_state import VHost

__all__ = ["CallMeter", "CpuMeter", "Meter", "call", "consume", "consume_singly", "publish", "publish_many"]

SECONDS = 120.0
"""Longest wait for the last message."""


class Meter(Protocol):
    """Reads what is spent between `begin` and `end`; as a context manager it surrounds the start of all threads."""

    def begin(self) -> None:
        """Everything is ready."""

    def end(self) -> None:
        """Everything is done."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class CallMeter:
    """Counts the calls of Python functions on the threads that begin inside the block."""

    def __init__(self) -> None:
        # By thread as well, for two threads that add to one number at the same time lose some.
        self.by_place: Counter[tuple[int, str]] = Counter()
        self.before: Counter[str] = Counter()
        self.by_function: Counter[str] = Counter()

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        """What Python tells of."""
        if event == "call":
            code = frame.f_code
            self.by_place[threading.get_ident(), f"{code.co_filename.rpartition('/')[2]}:{code.co_name}"] += 1

    @property
    def total(self) -> int:
        """All calls."""
        return self.by_function.total()

    def begin(self) -> None:
        """Leave out what was called up to now."""
        self.before = self.so_far()

    def end(self) -> None:
        """Keep what was called since `begin`."""
        self.by_function = self.so_far() - self.before

    def so_far(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, function), count in self.by_place.copy().items():
            counts[function] += count
        return counts

    def __enter__(self) -> Self:
        threading.setprofile(self.note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threading.setprofile(None)


class CpuMeter:
    """Reads the process's CPU time, user and system, in microseconds."""

    def __init__(self) -> None:
        self.total = 0.0

    def begin(self) -> None:
        """From now on."""
        self.total = -time.process_time() * 1e6

    def end(self) -> None:
        """Up to now."""
        self.total += time.process_time() * 1e6

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Countdown:
    """Over once so many calls have come; none gets through before it is opened."""

    def __init__(self, count: int) -> None:
        self.left = iter(range(count - 1))
        self.over = threading.Event()
        self.is_open, self.opened = False, threading.Event()

    def open(self) -> None:
        """Let the calls through."""
        self.is_open = True
        self.opened.set()

    def one(self, payload: Any) -> None:
        """A call has come."""
        if not self.is_open:
            self.opened.wait(SECONDS)
        if next(self.left, None) is None:
            self.over.set()


def consume(
    vhost: VHost, count: int, meter: Meter, *, routes: int = 1, workers: int = 10, contexts: int = 1, busy: int = 1
) -> None:
    """Handle events that wait already.

    Args:
        vhost: Where.
        count: How many events.
        meter: Reads what they cost.
        routes: How many routes the service has.
        workers: How many workers each context has.
        contexts: How many contexts share the routes; there are at least as many routes.
        busy: The events go to so many routes in turn, nothing is sent to the others.
    """
    countdown = Countdown(count)
    listeners = [
        Route(countdown.one, EventListener("shop", f"sold{number}")) for number in range(max(routes, contexts))
    ]
    pools = [RunnerContext(listeners[number::contexts], f"pool{number}") for number in range(contexts)]
    config = {"AMQP_URI": vhost.uri, "SERVICE_NAME": "cost", "MAX_WORKERS": workers, "START_TIMEOUT": SECONDS}
    with Runner(listeners[:busy], config):
        pass  # the queues are there
    with EventProducer("shop", vhost.uri) as dispatch:
        dispatch.many((f"sold{number % busy}", {"number": number}) for number in range(count))
    with meter, Runner(pools, config):
        meter.begin()
        countdown.open()
        if not countdown.over.wait(SECONDS):
            raise TimeoutError(f"{count} messages took more than {SECONDS:g} s")
        meter.end()


def consume_singly(vhost: VHost, count: int, meter: Meter, *, mode: str) -> None:
    """Handle events that come one at a time, each with reads and a write of its own.

    Args:
        vhost: Where.
        count: How many events.
        meter: Reads what they cost in this process, start and stop included; worker processes do not count.
        mode: The ``WORKER_MODE``.
    """
    listener = Route("json.dumps", EventListener("shop", "sold"))
    config = {"AMQP_URI": vhost.uri, "SERVICE_NAME": "cost", "MAX_WORKERS": 1, "PREFETCH_COUNT": 1}
    with Runner([listener], config):
        pass  # the queue is there
    with EventProducer("shop", vhost.uri) as dispatch:
        dispatch.many(("sold", {"number": number}) for number in range(count))
    with meter:
        meter.begin()
        with Runner([listener], {**config, "WORKER_MODE": mode}):
            vhost.wait_until_drained("evt-shop-sold--cost.dumps", timeout=SECONDS)
        meter.end()


def publish(vhost: VHost, count: int, meter: Meter, *, threads: int = 1) -> None:
    """Publish, each message confirmed before its thread goes on."""

    def one(number: int) -> None:
        dispatch("sold", {"number": number})

    with meter, EventProducer("shop", vhost.uri) as dispatch, ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(threads)))
        meter.begin()
        list(pool.map(one, range(count)))
        meter.end()


def publish_many(vhost: VHost, count: int, meter: Meter) -> None:
    """Publish with `dispatch.many`, which waits for no confirm before it goes on."""
    with meter, EventProducer("shop", vhost.uri) as dispatch, ThreadPoolExecutor(1) as pool:
        pool.submit(dispatch.many, [("sold", {"number": 0})]).result(SECONDS)
        meter.begin()
        pool.submit(dispatch.many, [("sold", {"number": number}) for number in range(count)]).result(SECONDS)
        meter.end()


class Echo:
    """Answers at once."""

    name = "echo"

    @RPCListener()
    def echo(self, value: int) -> int:
        return value


class Sleeper:
    """Is not there when it is called."""

    name = "sleeper"

    @RPCListener()
    def sleep(self) -> None: ...


def call(vhost: VHost, count: int, meter: Meter, *, callers: int = 1, pending: int = 0) -> None:
    """Call a service in the same process: both sides count.

    Args:
        vhost: Where.
        count: How many calls.
        meter: Reads what they cost.
        callers: How many threads call.
        pending: So many other calls of the same client wait for their answers all the time.
    """
    config = {"AMQP_URI": vhost.uri, "MAX_WORKERS": 10}
    with Runner([Sleeper], config):
        pass  # its queue takes the calls that nobody answers
    with (
        meter,
        Runner([Echo], config),
        RPCClient(vhost.uri, timeout=SECONDS) as client,
        ThreadPoolExecutor(callers) as pool,
    ):
        waiting = [client.sleeper.sleep.call_async() for _ in range(pending)]
        echo = client.echo.echo
        list(pool.map(echo, range(callers)))
        meter.begin()
        list(pool.map(echo, range(count)))
        meter.end()
        for each in waiting:
            each.cancel()
