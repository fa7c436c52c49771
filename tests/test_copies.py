"""A copy's side: what it says, what it obeys, how it ends. What it takes to run whole copies is in test_supervisor."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from typing import Any

import pytest

from micro_framework.channel import Channel, Message
from micro_framework.copies import TOLD, UNGUARDED, Copy, copy_main, copy_name, end_unguarded, failure_from
from micro_framework.exceptions import (
    BrokerRefused,
    CallsAbandoned,
    ConfigError,
    CopyFailed,
    DeclarationError,
    MicroFrameworkError,
    SetupFailed,
    StartTimeout,
)

SECONDS = 30.0


class Other:
    """The supervisor's end of a channel."""

    def __init__(self, stream: socket.socket) -> None:
        self.channel = Channel(stream, SECONDS)
        self.heard: list[Message] = []

    def next(self) -> Message:
        while not self.heard:
            self.heard += self.channel.receive() or []
            assert not self.channel.gone, "the copy is gone"
        return self.heard.pop(0)


@pytest.fixture
def pair() -> Iterator[tuple[Copy, Other]]:
    mine, other = socket.socketpair()
    copy, supervisor = Copy("copy-1", Channel(mine, SECONDS)), Other(other)
    yield copy, supervisor
    copy.channel.close()
    supervisor.channel.close()


ERRORS = [
    BrokerRefused("the password is wrong"),
    CallsAbandoned(["Shop.sold", "Shop.sold"], 30),
    ConfigError("the configuration cannot be used", ["MAX_WORKERS is 'many'", "and more"]),
    CopyFailed("there is no module 'shp'", 2),
    DeclarationError("the service cannot run as it is declared", ["Shop.sold: has no argument"]),
    SetupFailed("Database: setup failed"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_it_failed_with_is_the_same_error_on_the_other_side(
    pair: tuple[Copy, Other], error: MicroFrameworkError
) -> None:
    copy, supervisor = pair
    copy.failed(error)
    told = failure_from(supervisor.next())
    assert (type(told), str(told)) == (type(error), str(error))


def test_every_error_that_is_told_as_it_is_was_tried() -> None:
    assert {type(error) for error in ERRORS} == set(TOLD)


class Special(BrokerRefused):
    pass


@pytest.mark.parametrize("error", [StartTimeout("too late"), Special("other arguments", 1)])
def test_any_other_error_keeps_its_text(pair: tuple[Copy, Other], error: MicroFrameworkError) -> None:
    copy, supervisor = pair
    copy.failed(error)
    told = failure_from(supervisor.next())
    assert (type(told), str(told)) == (CopyFailed, str(error))


def test_it_says_what_becomes_of_it(pair: tuple[Copy, Other]) -> None:
    copy, supervisor = pair
    copy.started(2, lambda: None)
    copy.ready("shop (2 targets)")
    copy.stopping()
    assert [supervisor.next() for _ in range(3)] == [
        {"name": "started", "timers": 2},
        {"name": "ready", "what": "shop (2 targets)"},
        {"name": "stopping"},
    ]


def test_it_obeys(pair: tuple[Copy, Other]) -> None:
    copy, supervisor = pair
    done: list[str] = []
    copy.serving(lambda: done.append("stop"))
    copy.started(1, lambda: done.append("timers"))
    for name in ("timers", "stop", "answer", "stop"):
        copy.obey({"name": name})
    assert done == ["timers", "stop", "stop"]
    assert [supervisor.next()["name"] for _ in range(2)] == ["started", "alive"]


def test_only_a_copy_that_imports_its_main_module_is_unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    process = multiprocessing.current_process()
    end_unguarded()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    end_unguarded()  # not one of ours
    before = process.name
    try:
        process.name = copy_name(12)
        with pytest.raises(SystemExit) as caught:
            end_unguarded()
    finally:
        process.name = before
    assert caught.value.code == UNGUARDED


# -- in processes of their own


def waits(copy: Copy, stops_by_itself: bool) -> None:
    """Waits for a stop: one that is up to it, or one that ends the process."""
    done = threading.Event()
    if stops_by_itself:
        copy.serving(done.set)
    copy.started(0, lambda: None)
    done.wait()
    copy.stopping()


def counts(copy: Copy) -> None:
    """Says how often it is asked to stop, and does not."""
    copy.serving(copy.stopping)
    copy.started(0, lambda: None)
    threading.Event().wait()


def raises(copy: Copy, error: BaseException) -> None:
    raise error


@pytest.fixture
def run() -> Iterator[Callable[..., tuple[SpawnProcess, Other]]]:
    running: list[tuple[SpawnProcess, Other]] = []

    def run(main: Callable[..., None], *arguments: Any) -> tuple[SpawnProcess, Other]:
        ours, theirs = socket.socketpair()
        process = multiprocessing.get_context("spawn").Process(
            target=copy_main, name="copy-1", args=("copy-1", os.getpid(), theirs, main, arguments)
        )
        with theirs:
            process.start()
        running.append((process, Other(ours)))
        return running[-1]

    yield run
    for process, supervisor in running:
        process.kill()
        process.join(SECONDS)
        supervisor.channel.close()


Run = Callable[..., tuple[SpawnProcess, Other]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_to_stop(run: Run, number: signal.Signals) -> None:
    process, supervisor = run(waits, True)
    assert supervisor.next()["name"] == "started"
    assert process.pid is not None
    os.kill(process.pid, number)
    assert supervisor.next()["name"] == "stopping"
    process.join(SECONDS)
    assert process.exitcode == 0


def test_a_second_signal_or_a_stop_beside_it_does_not_force_it(run: Run) -> None:
    process, supervisor = run(counts)
    assert supervisor.next()["name"] == "started"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert supervisor.next()["name"] == "stopping"
    os.kill(process.pid, signal.SIGTERM)
    supervisor.channel.send("stop")
    assert supervisor.next()["name"] == "stopping"
    supervisor.channel.send("answer")
    assert supervisor.next()["name"] == "alive"


def test_a_stop_before_it_serves_ends_it_at_once(run: Run) -> None:
    process, supervisor = run(waits, False)
    assert supervisor.next()["name"] == "started"
    supervisor.channel.send("stop")
    process.join(SECONDS)
    assert process.exitcode == 0


def test_it_ends_when_the_supervisor_hangs_up(run: Run) -> None:
    process, supervisor = run(waits, True)
    assert supervisor.next()["name"] == "started"
    supervisor.channel.hang_up()
    process.join(SECONDS)
    assert process.exitcode == 1


def test_an_error_of_the_framework_is_told_and_nothing_is_printed(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    process, supervisor = run(raises, SetupFailed("the disk is full"))
    assert failure_from(supervisor.next()).args == ("the disk is full",)
    process.join(SECONDS)
    assert process.exitcode == 1
    assert capfd.readouterr().err == ""


def test_any_other_error_is_logged_with_its_traceback(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    process, _ = run(raises, ZeroDivisionError("of all things"))
    process.join(SECONDS)
    assert process.exitcode == 1
    errors = capfd.readouterr().err
    assert errors.startswith("copy-1 fails with an error that nobody expected\nTraceback")
    assert errors.endswith("ZeroDivisionError: of all things\n")


def test_leaving_is_up_to_the_service(run: Run) -> None:
    process, _ = run(raises, SystemExit(3))
    process.join(SECONDS)
    assert process.exitcode == 3
