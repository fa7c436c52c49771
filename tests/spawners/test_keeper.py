"""The processes of a pool: started together, watched, replaced, and ended."""

import os
import selectors
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from micro_framework.exceptions import DeclarationError, SetupFailed
from micro_framework.extensions import Lifecycle
from micro_framework.routes import Route
from micro_framework.runner import Runner
from micro_framework.spawners.child import Child, shared_file
from micro_framework.spawners.keeper import Keeper, Limits
from micro_framework.spawners.process import ProcessSpawner
from micro_framework.workers import Abandoned, DependencyFailure
from tests.spawners.laboratory import ROOT, SECONDS, Desk, Journaled, Unready, desk, eventually, open_laboratory


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Write a module that only worker processes import, ``keeper_tasks``."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> Path:
        path = tmp_path / "keeper_tasks.py"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def tasks(target: str = "handle", **options: Any) -> Route:
    return Route(f"keeper_tasks.{target}", Desk(), **options)


def keeper_of(runner: Runner) -> Keeper:
    (spawner,) = runner.assembly.spawners.values()
    assert isinstance(spawner, ProcessSpawner)
    return spawner.keeper


BROKEN = {
    "missing": ("", DeclarationError, "'keeper_tasks.handle' names nothing: module 'keeper_tasks' has no attribute"),
    "raises": ("1 / 0", DeclarationError, "cannot be imported: ZeroDivisionError: division by zero (at "),
    "leaves": ("import sys; sys.exit(4)", DeclarationError, "cannot be imported: SystemExit: 4"),
    "signature": (
        "def handle(): ...",
        DeclarationError,
        "it is called as handle(payload), and its signature () does not",
    ),
    "no function": ("handle = 5", DeclarationError, "'keeper_tasks.handle' is an int"),
    "other name": ("def other(payload): ...\nhandle = other", DeclarationError, "the target calls itself 'other'"),
    "dies": ("import os; os._exit(5)", SetupFailed, ") ended with exit code 5 while it was set up"),
    "crashes": ("import ctypes; ctypes.string_at(0)", SetupFailed, ") was killed by SIGSEGV (signal 11) while it was"),
}


@pytest.mark.parametrize(("text", "error", "message"), BROKEN.values(), ids=list(BROKEN))
def test_what_processes_find_wrong_ends_the_start(
    module: Callable[[str], Path], text: str, error: type[Exception], message: str
) -> None:
    module(text)
    with pytest.raises(error) as caught, open_laboratory(tasks(), MAX_WORKERS=2):
        pass
    assert message in str(caught.value)
    if error is DeclarationError:
        assert "Route('keeper_tasks.handle'): " in str(caught.value)


class Failing(Journaled):
    name = "failing"


def test_a_hook_that_fails_in_a_process_ends_the_start_by_name() -> None:
    with pytest.raises(SetupFailed, match=r"Journal: setup failed: (FileNotFoundError|IsADirectoryError)") as caught:
        with open_laboratory(Failing, JOURNAL="/no/such/folder/journal"):
            pass
    assert "in worker process mf-process-default-0 (pid " in caught.value.__notes__[0]


def test_what_else_is_raised_in_a_process_ends_the_start_too() -> None:
    with pytest.raises(SetupFailed) as caught, open_laboratory(Unready):
        pass
    assert "could not be set up: RuntimeError: neither ready nor not" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_process_that_is_not_set_up_in_time_ends_the_start(module: Callable[[str], Path]) -> None:
    module("import threading; threading.Event().wait(60)")
    with pytest.raises(SetupFailed) as caught, open_laboratory(tasks(), START_TIMEOUT=0.2):
        pass
    text = str(caught.value)
    assert text.startswith("worker process mf-process-default-0 (pid ")
    assert ") was not set up within START_TIMEOUT (0.2 s); give it more time, or look at what the service does" in text


def test_no_more_start_at_once_than_there_are_cores(
    module: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micro_framework.spawners.keeper.STARTING_AT_ONCE", 1)
    imports = tmp_path / "imports"
    module(f"""
        import time
        with open({str(imports)!r}, "a") as file:
            print(time.monotonic(), file=file)
        def handle(payload): ...
    """)
    with open_laboratory(tasks(), MAX_WORKERS=2) as runner:
        first, second = sorted(child.born_at for child in keeper_of(runner).children)
        imported = min(map(float, imports.read_text().split()))
    assert first < imported < second


def test_nothing_is_left_of_a_start_that_failed(module: Callable[[str], Path]) -> None:
    module("1 / 0")
    runner = Runner([tasks()], {"WORKER_MODE": "process", "MAX_WORKERS": 2, "SERVICE_NAME": "s"})
    with pytest.raises(DeclarationError), runner:
        pass
    keeper = keeper_of(runner)
    assert keeper.children == []
    assert not keeper.thread.is_alive()


def test_a_process_that_cannot_be_replaced_at_once_is_tried_again(
    module: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    working = "import os\ndef handle(payload): os._exit(1) if payload == 'die' else None\n"
    path = module(working)
    with open_laboratory(tasks()) as runner:
        tasks_desk = desk(runner, "keeper_tasks.handle")
        assert tasks_desk.call().error is None
        path.write_text("1 / 0")
        tasks_desk.call("die")
        keeper = keeper_of(runner)
        assert eventually(lambda: keeper.pauses.get(0, 0.0) >= 1.0), "two attempts have failed"
        path.write_text(working)
        assert tasks_desk.call().error is None
    assert "worker processes of context 'default': process 0 could not be set up; next try in 0.5 s:" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert keeper.pauses[0] >= 1.0


def test_a_call_without_a_process_is_held_off(module: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    path = module("import os\ndef handle(payload): os._exit(1)\n")
    with open_laboratory(tasks(), START_TIMEOUT=10) as runner:
        found = desk(runner, "keeper_tasks.handle")
        path.write_text("1 / 0")
        found.call("die")
        keeper = keeper_of(runner)
        keeper.limits = Limits(start_timeout=0.05)
        found.route.submit("later")
        assert found.handed_back.get(timeout=SECONDS) == "later"
    assert "none of the worker processes of context 'default' was free within START_TIMEOUT (0.05 s)" in caplog.text


def test_an_idle_process_that_dies_is_replaced_without_being_asked(module: Callable[[str], Path]) -> None:
    module("def handle(payload): ...")
    with open_laboratory(tasks()) as runner:
        keeper = keeper_of(runner)
        (before,) = keeper.children
        os.kill(before.process.pid, signal.SIGKILL)
        assert eventually(lambda: any(child.working and child is not before for child in keeper.children))


def test_warnings_of_all_processes_are_logged_once(
    module: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    module("def handle(payload): ...")
    with open_laboratory(tasks(dependencies={"unused": Journaled.journal}), MAX_WORKERS=2, JOURNAL="/dev/null"):
        pass
    lines = [record.getMessage() for record in caplog.records if "'unused'" in record.getMessage()]
    assert lines == [
        "Route('keeper_tasks.handle'): its signature does not name the dependency 'unused', so it is not passed"
    ]


def test_every_process_has_ended_when_the_block_has(module: Callable[[str], Path]) -> None:
    module("def handle(payload): ...")
    with open_laboratory(tasks(), MAX_WORKERS=2) as runner:
        pids = [child.process.pid for child in keeper_of(runner).children]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_process_that_does_not_end_is_killed(
    module: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("micro_framework.spawners.keeper.STOP_SECONDS", 0.2)
    module("import atexit, threading\natexit.register(threading.Event().wait)\ndef handle(payload): ...")
    with open_laboratory(tasks()) as runner:
        (child,) = keeper_of(runner).children
    assert f"{child} did not end within 0.2 s and is killed" in caplog.text
    assert child.process.returncode == -signal.SIGKILL


def test_a_keeper_that_fails_ends_its_processes_and_says_so(
    module: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    module("def handle(payload): ...")

    def fail() -> None:
        raise RuntimeError("a bug")

    with open_laboratory(tasks()) as runner:
        keeper = keeper_of(runner)
        (child,) = keeper.children
        keeper.ask(fail)
        assert child.ended.wait(SECONDS)
        assert isinstance(runner.lifecycle.failure, RuntimeError)
        with pytest.raises(Abandoned):
            keeper.take()
    assert "the keeper of the worker processes of context 'default' failed; they end" in caplog.text


LAST_WORDS = """
import os, pickle, socket, sys
sys.path[:] = os.environ.pop("MF_WORKER_PATH").split("\\n")
from micro_framework.spawners.channel import Channel
Channel(socket.socket(fileno=int(sys.argv[-3]))).send(pickle.dumps(("problems", ["a", "b"])))
"""


def test_the_last_words_of_a_process_are_heard_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micro_framework.spawners.child.PROGRAM", LAST_WORDS)
    birth = shared_file(b"")
    child = Child("mf-process-default-0", 0, birth, [ROOT, *sys.path])
    os.close(birth)
    child.process.wait(SECONDS)
    keeper = Keeper("default", 1, Limits(1), Lifecycle())
    keeper.children = [child]
    keeper.selector = selectors.DefaultSelector()
    keeper.died(child)
    assert isinstance(keeper.failure, DeclarationError)
    assert keeper.failure.problems == ("a", "b")
    keeper.listen(child)  # the event of its channel comes after that of its end
    keeper.selector.close()


def test_waiting_for_a_process_has_an_end() -> None:
    keeper = Keeper("default", 1, Limits(start_timeout=0.01), Lifecycle())
    with pytest.raises(DependencyFailure, match="was free within START_TIMEOUT"):
        keeper.take()
    keeper.abandon()
    with pytest.raises(Abandoned):
        keeper.take()
    keeper.end()
