"""The course of the demo: start, take orders, wait for what is under way, stop, sum up."""

import contextlib
import logging
import queue
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

import click
from rich.console import Console

from micro_framework.amqp.entrypoints import EventListener
from micro_framework.cli.demo.ledger import Ledger, Snapshot
from micro_framework.cli.demo.live import LiveView, can_show_live
from micro_framework.cli.demo.plain import PlainView, RouteRow, Stage, rows_of, summary
from micro_framework.cli.demo.shop import PassingListener, open_shop
from micro_framework.config import redact_uri
from micro_framework.exceptions import StartTimeout
from micro_framework.runner import Runner

__all__ = ["EMBEDDED", "START_SECONDS", "LogNotes", "StopRequests", "View", "run_demo"]

EMBEDDED = "the embedded broker"
START_SECONDS = 10
DRAIN_SECONDS = 30
"""Longest wait for what is under way: all retries, and a connection that comes back."""
WORKERS = 4

NOTED_BY_SERVICES = "micro_framework.routes"
"""The logger of failed calls, which the services note themselves in fewer words."""


class View(Protocol):
    """What shows the demo."""

    frame: float
    """Seconds between snapshots."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, snapshot: Snapshot, stage: Stage) -> None:
        """Show a snapshot."""


class LogNotes(logging.Handler):
    """Turns log records into notes, so that they do not tear the live view, and remembers the last one."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.WARNING)
        self.ledger = ledger
        self.last: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record."""
        if record.name != NOTED_BY_SERVICES:
            self.last = record.getMessage().splitlines()[0]
            self.ledger.note(self.last, "bad" if record.levelno >= logging.ERROR else "note")

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)


class StopRequests:
    """Turns SIGINT and SIGTERM into requests to stop, within its block."""

    numbers = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        # SimpleQueue.put is the one hand-over that is safe in a signal handler, whatever the main thread is doing.
        self.requests: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.previous: dict[signal.Signals, Any] = {}

    def wait(self, seconds: float) -> bool:
        """Wait for a request; returns whether one came within ``seconds``."""
        try:
            self.requests.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return False
        return True

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.requests.put(number)

    def __enter__(self) -> Self:
        self.previous = {number: signal.signal(number, self.on_signal) for number in self.numbers}
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def run_demo(seconds: float, uri: str | None) -> bool:
    """Run the demo and print its summary.

    Args:
        seconds: How long to take orders.
        uri: The broker's URI; None: an embedded broker.

    Returns:
        Whether every message sent has arrived.

    Raises:
        StartTimeout: No broker within `START_SECONDS`.
        MicroFrameworkError: The broker refused, or the URI cannot be used.
    """
    ledger = Ledger()
    name = redact_uri(uri) if uri else EMBEDDED
    runner = Runner(open_shop(ledger, listener_for(uri)), config_for(uri))
    runner.observers.append(ledger.observe)
    rows = rows_of(runner.assembly.routes)
    with LogNotes(ledger) as log:
        with started(runner, name, log), StopRequests() as stops, view_for(name, rows) as view:
            perform(runner, ledger, view, stops, seconds)
    missing = ledger.missing()
    click.echo(summary(name, rows, ledger.snapshot(whole=True), missing))
    return not missing


def listener_for(uri: str | None) -> type[EventListener]:
    """What leaves nothing behind: the embedded broker ends with the process, a real one ends queues by their lease."""
    return EventListener if uri is None or uri.startswith("memory:") else PassingListener


def config_for(uri: str | None) -> dict[str, Any]:
    """The configuration of the two services; an exchange goes with the last queue that is bound to it."""
    return {
        "AMQP_URI": uri or f"memory://demo-{uuid.uuid4().hex[:6]}",
        "AUTO_DELETE_EVENT_EXCHANGES": True,
        "START_TIMEOUT": START_SECONDS,
        "MAX_WORKERS": WORKERS,
    }


@contextlib.contextmanager
def started(runner: Runner, broker: str, log: LogNotes) -> Iterator[None]:
    """The services, ready within the block; a broker that is not there gives one message with all that is known."""
    if broker != EMBEDDED:
        click.echo(f"connecting to {broker} (for at most {START_SECONDS} s)")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(runner)
        except StartTimeout as error:
            reason = f": {log.last}" if log.last else ""
            raise StartTimeout(
                f"no broker at {broker} within {START_SECONDS} s{reason}; is RabbitMQ running there, and is the URI "
                "right? Without --amqp-uri and AMQP_URI the demo runs on the embedded broker"
            ) from error
        yield


def view_for(broker: str, rows: list[RouteRow]) -> View:
    """The live view on a terminal that can show it, else plain lines."""
    console = Console(file=sys.stdout)
    return LiveView(console, broker, rows) if can_show_live(console) else PlainView()


def perform(runner: Runner, ledger: Ledger, view: View, stops: StopRequests, seconds: float) -> None:
    """Take orders, then wait for what is under way.

    Raises:
        BrokerRefused: The broker gave an answer that will not change.
    """
    ledger.open()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stops.wait(min(view.frame, left)):
        view.show(ledger.snapshot(), Stage("taking orders", seconds))
        raise_failure(runner)
    ledger.close()
    drain(runner, ledger, view, stops)


def drain(runner: Runner, ledger: Ledger, view: View, stops: StopRequests) -> None:
    """Wait until everything has arrived; a further request to stop ends that."""
    end = time.monotonic() + DRAIN_SECONDS
    closing = Stage("closing", ledger.snapshot().elapsed)
    while not ledger.wait_until_complete(min(view.frame, max(0.0, end - time.monotonic()))):
        view.show(ledger.snapshot(), closing)
        raise_failure(runner)
        if time.monotonic() >= end or stops.wait(0):
            return


def raise_failure(runner: Runner) -> None:
    """End the demo where the runner has failed for good."""
    if runner.lifecycle.failure is not None:
        raise runner.lifecycle.failure
