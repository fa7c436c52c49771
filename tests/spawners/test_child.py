"""A worker process as its service sees it: asked, gone, overdue, abandoned."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from micro_framework.spawners import child as child_module
from micro_framework.spawners.child import Child, ChildGone, shared_file
from tests.spawners.laboratory import ROOT, SECONDS

# Answers each frame with the same, and does what some of them say; no framework inside.
PARROT = """
import mmap, os, socket, sys, threading
sys.path[:] = os.environ.pop("MF_WORKER_PATH").split("\\n")
from micro_framework.spawners.channel import Channel
name, service, calls, control, marker, birth = sys.argv[1:]
calls, marker = Channel(socket.socket(fileno=int(calls))), mmap.mmap(int(marker), 1)
while (frame := calls.receive()) is not None:
    if frame == b"die first":
        os._exit(4)
    marker[0] = 1
    if frame == b"die":
        os._exit(3)
    if frame == b"wait":
        threading.Event().wait()
    if frame == b"birth":
        frame = os.pread(int(birth), 100, 0)
    if frame == b"argv":
        frame = repr((name, int(service))).encode()
    calls.send(frame)
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
    assert not parrot.began
    assert parrot.ask(b"hello") == b"hello"
    assert (parrot.began, parrot.count, parrot.began_at) == (True, 1, None)
    assert parrot.ask(b"birth") == b"told first"
    assert parrot.ask(b"argv") == repr(("mf-process-default-0", os.getpid())).encode()
    assert str(parrot) == f"worker process mf-process-default-0 (pid {parrot.process.pid})"


@pytest.mark.parametrize(("frame", "began", "code"), [(b"die", True, 3), (b"die first", False, 4)])
def test_a_process_that_dies_says_whether_it_had_begun(parrot: Child, frame: bytes, began: bool, code: int) -> None:
    parrot.ask(b"hello")
    with pytest.raises(ChildGone):
        parrot.ask(frame)
    assert parrot.began is began
    assert not parrot.usable
    parrot.died()
    assert parrot.exit_code() == code
    with pytest.raises(ChildGone):
        parrot.ask(b"again")
    assert not parrot.began, "what is asked of the dead was not begun"


def asked(child: Child, frame: bytes) -> tuple[threading.Thread, list[Any]]:
    """Ask on a thread, which has begun to wait."""
    gone: list[Any] = []

    def ask() -> None:
        try:
            child.ask(frame)
        except ChildGone as error:
            gone.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    never = threading.Event()
    assert any(child.began or never.wait(0.01) for _ in range(int(SECONDS / 0.01)))
    return thread, gone


def test_a_call_is_overdue_when_it_has_run_for_its_limit(parrot: Child) -> None:
    thread, gone = asked(parrot, b"wait")
    assert parrot.began_at is not None
    parrot.kill_overdue(60, parrot.began_at + 59)
    assert not parrot.overdue
    parrot.kill_overdue(60, parrot.began_at + 60)
    thread.join(SECONDS)
    assert (parrot.overdue, len(gone)) == (True, 1)
    parrot.died()
    assert parrot.exit_code() == -signal.SIGKILL


def test_a_process_without_a_call_is_never_overdue(parrot: Child) -> None:
    parrot.ask(b"hello")
    parrot.kill_overdue(0, 1e12)
    assert parrot.ask(b"still there") == b"still there"


def test_an_abandoned_process_is_killed_if_it_runs_a_call_and_gets_no_other(parrot: Child) -> None:
    thread, gone = asked(parrot, b"wait")
    parrot.abandon()
    thread.join(SECONDS)
    assert (len(gone), parrot.usable) == (1, False)


def test_an_idle_one_that_is_abandoned_is_only_not_asked(parrot: Child) -> None:
    parrot.ask(b"hello")
    parrot.abandon()
    assert parrot.process.poll() is None
    with pytest.raises(ChildGone):
        parrot.ask(b"again")


def test_who_waits_for_a_process_that_died_is_woken_even_if_others_hold_its_channel(parrot: Child) -> None:
    """A program that a target started may have inherited it."""
    held = os.dup(parrot.calls.socket.fileno())
    thread, gone = asked(parrot, b"wait")
    parrot.process.kill()
    parrot.died()
    thread.join(SECONDS)
    assert (thread.is_alive(), len(gone)) == (False, 1)
    assert parrot.calls.fileno() == -1, "whoever waited closed it"
    os.close(held)


def test_a_system_that_starts_no_process_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(child_module, "launched", fail)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    with pytest.raises(OSError, match="no more processes"):
        Child("mf-process-default-0", 0, 0, sys.path)
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == before
