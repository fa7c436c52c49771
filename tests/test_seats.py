"""A copy as its supervisor sees it."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker

import pytest

from micro_framework.copies import Copy
from micro_framework.exceptions import CopyFailed
from micro_framework.seats import LONGEST_PAUSE, Child, Seat, pause_before_restart

SECONDS = 60.0


@pytest.mark.parametrize(("deaths", "least", "most"), [(1, 0.25, 0.5), (2, 0.5, 1), (4, 2, 4), (10_000, 15, 30)])
def test_the_pause_before_a_restart_grows_to_a_limit_and_is_spread(deaths: int, least: float, most: float) -> None:
    assert (pause_before_restart(deaths, 0), pause_before_restart(deaths, 1)) == (least, most)
    assert most <= LONGEST_PAUSE


def test_deaths_in_a_row_wait_longer_each_until_a_copy_has_lived_long() -> None:
    seat = Seat(1)
    pauses = [seat.lost(100.0, 1.0, of_use=True, long_lived=long_lived) for long_lived in (False, False, False, True)]
    assert pauses == [0.5, 1.0, 2.0, 0.5]
    assert seat.due == 100.5


def test_only_starts_in_vain_make_a_seat_hopeless_and_only_in_a_row() -> None:
    seat = Seat(1)
    for of_use in [True] * 20 + [False] * 4 + [True] + [False] * 4:
        seat.lost(0.0, 0.0, of_use=of_use)
        assert not seat.is_hopeless()
    seat.lost(0.0, 0.0)
    assert seat.is_hopeless()


def waits(copy: Copy) -> None:
    done = threading.Event()
    copy.serving(done.set)
    copy.started(3, lambda: None)
    copy.ready("something")
    done.wait()
    copy.stopping()
    raise CopyFailed("as it was told", 3)


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child("copy-7", waits, (), 100.0)
    yield child
    with suppress(ValueError):  # it is closed
        child.kill()
        child.process.join(SECONDS)
        child.close()


def hear_until(child: Child, condition: Callable[[], bool]) -> None:
    """Take what it says until the condition holds."""
    child.channel.stream.settimeout(SECONDS)
    while not condition():
        messages = child.channel.receive()
        assert messages is not None, "it said nothing, or is gone"
        for message in messages:
            child.says(message, 200.0)


def test_what_it_says_is_noted(child: Child) -> None:
    assert not child.can_run_timers()
    hear_until(child, lambda: child.ready)
    assert (child.started, child.timers, child.answered) == (True, 3, 200.0)
    assert child.can_run_timers()
    assert child.exit_code() is None
    child.channel.send("stop")
    hear_until(child, lambda: child.error is not None)
    assert child.stopping
    assert not child.can_run_timers()
    assert (str(child.error), getattr(child.error, "exit_code", None)) == ("as it was told", 3)
    child.process.join(SECONDS)
    assert child.exit_code() == 1


def test_it_owes_an_answer_until_it_says_anything(child: Child) -> None:
    hear_until(child, lambda: child.ready)
    child.ask(300.0)
    assert child.owes_answer()
    child.says({"name": "alive"}, 300.5)
    assert not child.owes_answer()


def test_its_start_was_in_vain_unless_it_was_ready_or_lived_long(child: Child) -> None:
    assert not child.lived_to_be_of_use(159.9)
    assert child.lived_to_be_of_use(160.0)
    child.ready = True
    assert child.lived_to_be_of_use(101.0)
    assert not child.lived_long(159.9)


def test_it_keeps_signals_waiting_until_it_can_heed_them(child: Child) -> None:
    # By now it is being started at best; a signal that it did not keep waiting would end it in its own way.
    assert child.process.pid is not None
    os.kill(child.process.pid, signal.SIGTERM)
    child.process.join(SECONDS)
    assert child.exit_code() in (0, 1), "0 before it serves, 1 afterwards, as it is told"
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_an_end_that_the_system_has_told_others_is_an_end(child: Child) -> None:
    assert child.process.pid is not None
    child.kill()
    os.waitpid(child.process.pid, 0)
    assert child.exit_code() == 255
    child.close()


def answers(copy: Copy, port: socket.socket) -> None:
    connection, _ = port.accept()
    connection.sendall(copy.name.encode())
    connection.close()


def test_copies_share_a_port_that_they_are_given() -> None:
    heard = set()
    with socket.create_server(("127.0.0.1", 0)) as port:
        children = [Child(name, answers, (port,), 0.0) for name in ("copy-1", "copy-2")]
        for _ in children:
            with socket.create_connection(port.getsockname(), SECONDS) as connection:
                connection.settimeout(SECONDS)
                heard.add(connection.recv(100))
    for child in children:
        child.process.join(SECONDS)
        assert child.exit_code() == 0
        child.close()
    assert heard == {b"copy-1", b"copy-2"}


@pytest.mark.parametrize("arguments", [(threading.Lock(),)])
def test_what_cannot_be_started_leaves_nothing_open(arguments: tuple[object, ...]) -> None:
    resource_tracker.ensure_running()  # stays open
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TypeError, match="cannot pickle"):
        Child("copy-7", waits, arguments, 0.0)
    assert len(os.listdir("/proc/self/fd")) <= before
