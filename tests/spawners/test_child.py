"""A worker process as its service sees it: asked, gone, overdue, abandoned."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from micro_framework.spawners import child as child_module
from micro_framework.spawners.child import PATIENCE, Berth, Child, ChildGone, TakenBack, shared_file
from micro_framework.spawners.work import LONGEST_REQUEST
from tests.spawners.laboratory import ROOT, SECONDS, eventually

# Answers each frame with the same, and does what some of them say; no framework inside.
PARROT = """
import mmap, os, socket, sys, threading
sys.path[:] = os.environ.pop("MF_WORKER_PATH").split("\\n")
from micro_framework.spawners.channel import Channel
name, service, requests, *berths, control, marker, birth = sys.argv[1:]
requests, marker = socket.socket(fileno=int(requests)), mmap.mmap(int(marker), len(berths))
berths = [Channel(socket.socket(fileno=int(berth))) for berth in berths]
while (request := requests.recv(100_000)) != b"\\xff":
    frame = request[1:] or berths[request[0]].receive()
    if frame == b"die first":
        os._exit(4)
    marker[request[0]] = 1
    if frame == b"die":
        os._exit(3)
    if frame == b"wait":
        threading.Event().wait()
    if frame == b"birth":
        frame = os.pread(int(birth), 100, 0)
    if frame == b"argv":
        frame = repr((name, int(service))).encode()
    if frame.startswith(b"wait for "):
        os.read(os.open(frame[9:], os.O_RDONLY), 1)
    berths[request[0]].send(frame)
"""


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    monkeypatch.setattr(child_module, "PROGRAM", PARROT)
    birth = shared_file(b"told first")
    child = Child("mf-process-default-0", 0, birth, [ROOT, *sys.path])
    os.close(birth)
    yield child
    child.process.kill()
    child.died()


def test_a_process_answers_what_it_is_asked(parrot: Child) -> None:
    first, _ = parrot.berths
    assert not parrot.began
    assert first.ask(b"hello") == b"hello"
    assert (parrot.began, parrot.count, first.began_at) == (True, 1, None)
    assert first.seconds is not None
    assert 0 < first.seconds < SECONDS
    assert first.ask(b"birth") == b"told first"
    assert first.ask(b"argv") == repr(("mf-process-default-0", os.getpid())).encode()
    assert str(parrot) == f"worker process mf-process-default-0 (pid {parrot.process.pid})"


def test_a_long_request_goes_over_its_berth(parrot: Child) -> None:
    for frame in (b"x" * LONGEST_REQUEST, b"y" * (LONGEST_REQUEST + 1), b"z" * 1_000_000):
        assert [berth.ask(frame) for berth in parrot.berths] == [frame, frame]


def test_a_request_that_the_queue_does_not_take_goes_over_its_berth(
    parrot: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = parrot.put
    monkeypatch.setattr(parrot, "put", lambda request: len(request) < 2 and put(request))
    assert parrot.berths[1].ask(b"hello") == b"hello"
    thread, answer = asked(parrot.berths[0], b"wait")
    with pytest.raises(TakenBack):
        parrot.berths[1].ask(b"hello")
    parrot.process.kill()
    thread.join(SECONDS)
    assert answer == [ChildGone]


@pytest.mark.parametrize(("frame", "began", "code"), [(b"die", True, 3), (b"die first", False, 4)])
def test_a_process_that_dies_says_whether_it_had_begun(parrot: Child, frame: bytes, began: bool, code: int) -> None:
    berth = parrot.berths[0]
    berth.ask(b"hello")
    with pytest.raises(ChildGone):
        berth.ask(frame)
    assert berth.began is began
    assert not parrot.usable
    parrot.died()
    assert parrot.exit_code() == code
    with pytest.raises(ChildGone):
        berth.ask(b"again")
    assert not berth.began, "what is asked of the dead was not begun"


def asked(berth: Berth, frame: bytes) -> tuple[threading.Thread, list[Any]]:
    """Ask on a thread, which has begun to wait; what becomes of it."""
    became: list[Any] = []

    def ask() -> None:
        try:
            became.append(berth.ask(frame))
        except (ChildGone, TakenBack) as error:
            became.append(type(error))

    thread = threading.Thread(target=ask)
    thread.start()
    waits = any(each.in_use for each in berth.child.berths if each is not berth)
    assert eventually(lambda: berth.in_use if waits else berth.began)
    return thread, became


def test_a_call_is_overdue_when_it_has_run_for_its_limit(parrot: Child) -> None:
    berth = parrot.berths[0]
    thread, became = asked(berth, b"wait")
    assert berth.began_at is not None
    parrot.kill_overdue(60, berth.began_at + 59)
    assert not parrot.overdue
    parrot.kill_overdue(60, berth.began_at + 60)
    thread.join(SECONDS)
    assert (parrot.overdue, became) == (True, [ChildGone])
    parrot.died()
    assert parrot.exit_code() == -signal.SIGKILL


def test_a_process_without_a_call_is_never_overdue(parrot: Child) -> None:
    parrot.berths[0].ask(b"hello")
    parrot.kill_overdue(0, 1e12)
    assert parrot.berths[0].ask(b"still there") == b"still there"


def test_an_abandoned_process_is_killed_if_it_runs_a_call_and_gets_no_other(parrot: Child) -> None:
    thread, became = asked(parrot.berths[0], b"wait")
    parrot.abandon()
    thread.join(SECONDS)
    assert (became, parrot.usable) == ([ChildGone], False)


def test_an_idle_one_that_is_abandoned_is_only_not_asked(parrot: Child) -> None:
    parrot.berths[0].ask(b"hello")
    parrot.abandon()
    assert parrot.process.poll() is None
    with pytest.raises(ChildGone):
        parrot.berths[0].ask(b"again")


def test_who_waits_for_a_process_that_died_is_woken_even_if_others_hold_its_channel(parrot: Child) -> None:
    """A program that a target started may have inherited it."""
    berth = parrot.berths[0]
    held = os.dup(berth.channel.fileno())
    thread, became = asked(berth, b"wait")
    parrot.process.kill()
    parrot.died()
    thread.join(SECONDS)
    assert (thread.is_alive(), became) == (False, [ChildGone])
    assert berth.channel.fileno() == -1, "whoever waited closed it"
    os.close(held)


# Two calls at once.


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What ``wait for`` waits for: that something is written there."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def waiting_for(gate: Path) -> bytes:
    return b"wait for " + os.fsencode(gate)


def test_a_call_that_was_sent_ahead_begins_when_the_one_before_it_has_ended(
    parrot: Child, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "PATIENCE", SECONDS)
    first, second = parrot.berths
    running, answer = asked(first, waiting_for(gate))
    waiting, other = asked(second, b"hello")
    assert (first.began, second.began, second.began_at) == (True, False, None)
    parrot.kill_overdue(60, time.monotonic() + 59)
    assert not parrot.overdue
    gate.write_bytes(b".")
    running.join(SECONDS)
    waiting.join(SECONDS)
    assert (answer, other) == ([waiting_for(gate)], [b"hello"])
    assert (parrot.count, second.began) == (2, True)
    assert first.seconds is not None
    assert second.seconds is not None
    assert second.seconds < first.seconds, "what it waited does not count"


def test_a_call_that_waits_for_too_long_is_taken_back_and_not_run(parrot: Child, gate: Path) -> None:
    first, second = parrot.berths
    running, answer = asked(first, waiting_for(gate))
    began = time.monotonic()
    with pytest.raises(TakenBack):
        second.ask(b"die")
    assert time.monotonic() - began >= PATIENCE
    assert not second.began
    gate.write_bytes(b".")
    running.join(SECONDS)
    assert answer == [waiting_for(gate)]
    assert second.ask(b"alive") == b"alive"
    assert parrot.count == 2


def test_a_call_that_has_been_begun_is_not_taken_back(parrot: Child, gate: Path) -> None:
    first, second = parrot.berths
    thread, answer = asked(first, waiting_for(gate))
    assert not first.take_back()
    parrot.put(bytes([second.number]) + b"hello")
    assert not first.take_back(), "what it found was put after it"
    gate.write_bytes(b".")
    thread.join(SECONDS)
    assert answer == [waiting_for(gate)]
    assert second.channel.receive() == b"hello", "and it was put back"


def test_a_process_that_dies_had_not_begun_the_call_that_waited(parrot: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "PATIENCE", SECONDS)
    first, second = parrot.berths
    running, one = asked(first, b"wait")
    waiting, other = asked(second, b"hello")
    parrot.process.kill()
    parrot.died()
    running.join(SECONDS)
    waiting.join(SECONDS)
    assert (one, other, first.began, second.began) == ([ChildGone], [ChildGone], True, False)


def open_descriptors() -> int:
    """How many this process has, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def test_nothing_is_left_open_of_a_process_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "PROGRAM", PARROT)
    before = open_descriptors()
    gc.disable()
    try:
        for _ in range(3):
            birth = shared_file(b"")
            child = Child("mf-process-default-0", 0, birth, [ROOT, *sys.path])
            os.close(birth)
            child.berths[0].ask(b"hello")
            child.process.kill()
            child.died()
            del child
        assert open_descriptors() == before
    finally:
        gc.enable()


def test_a_system_that_starts_no_process_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(child_module, "launched", fail)
    before = open_descriptors()
    with pytest.raises(OSError, match="no more processes"):
        Child("mf-process-default-0", 0, 0, sys.path)
    assert open_descriptors() == before
