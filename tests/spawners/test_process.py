"""Workers that are processes: what happens in them, to them, and what becomes of their calls."""

import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from micro_framework.exceptions import CallsAbandoned, NotPicklable, TaskTimeout, WorkerDied
from micro_framework.routes import CallbackRoute, Route
from micro_framework.runner import Runner, RunnerContext
from micro_framework.spawners.child import Berth
from micro_framework.spawners.crossing import Request, Role, pack_call
from micro_framework.spawners.keeper import Keeper
from micro_framework.spawners.process import ProcessSpawner
from micro_framework.workers import Abandoned
from tests.spawners.laboratory import (
    SECONDS,
    Desk,
    Journaled,
    Laboratory,
    Telephone,
    Unloadable,
    desk,
    eventually,
    open_laboratory,
)


def keeper_of(runner: Runner, context: str = "default") -> Keeper:
    spawner = runner.assembly.spawners[context]
    assert isinstance(spawner, ProcessSpawner)
    return spawner.keeper


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Runner]:
    """One laboratory for all experiments that leave it as it was."""
    with open_laboratory() as runner:
        yield runner


def run(runner: Runner, do: str, **options: Any) -> Any:
    return desk(runner, "Laboratory.run").call({"do": do, **options})


def pid_of(runner: Runner) -> int:
    pid = run(runner, "pid").result
    assert isinstance(pid, int)
    return pid


# -- what happens in a process


def test_a_target_runs_in_a_process_with_a_name(laboratory: Runner) -> None:
    pid = pid_of(laboratory)
    assert psutil.Process(pid).ppid() == os.getpid()
    assert run(laboratory, "name").result == "mf-process-default-0"
    assert "mf-process-default-0" in psutil.Process(pid).cmdline()


def test_dependencies_know_call_configuration_and_attempt(laboratory: Runner) -> None:
    result = desk(laboratory, "Laboratory.dependencies").result()
    assert result == (7, "laboratory.dependencies.1", 5, 0)


def test_coroutines_and_worker_classes_run(laboratory: Runner) -> None:
    assert desk(laboratory, "Laboratory.later").result("x") == "x"
    assert desk(laboratory, "Laboratory.seen").result("x") == ("seen", "x")


@pytest.mark.parametrize("value", ["x" * 3_000_000, {"a": [1, (2, None)]}])
def test_results_come_as_they_are(laboratory: Runner, value: object) -> None:
    assert run(laboratory, "return", value=value).result == value


def test_what_a_target_raises_arrives_with_its_class_and_where_it_was(laboratory: Runner) -> None:
    error = run(laboratory, "explode").error
    assert (type(error), str(error)) == (ValueError, "explode")
    (note,) = error.__notes__
    assert note.startswith("in worker process mf-process-default-0 (pid ")
    assert "raise ValueError(other)" in note


def test_an_error_that_does_not_unpickle_fails_its_call_and_nothing_else(laboratory: Runner) -> None:
    pid = pid_of(laboratory)
    error = run(laboratory, "raise unloadable").error
    assert isinstance(error, Unloadable)
    assert (str(error), error.code) == ("does not unpickle", 5)
    assert pid_of(laboratory) == pid


def test_sys_exit_fails_its_call_and_the_process_goes_on(laboratory: Runner) -> None:
    pid = pid_of(laboratory)
    error = run(laboratory, "exit", code=3).error
    assert isinstance(error, SystemExit)
    assert error.code == 3
    assert pid_of(laboratory) == pid


def test_a_result_that_cannot_be_sent_fails_its_call_by_name(laboratory: Runner) -> None:
    pid = pid_of(laboratory)
    error = run(laboratory, "lock").error
    assert isinstance(error, NotPicklable)
    assert str(error).startswith(
        "the result of Laboratory.run cannot be sent from its worker process: _thread.lock cannot be pickled"
    )
    assert pid_of(laboratory) == pid


def test_where_nobody_needs_it_such_a_result_is_dropped_and_the_call_is_done(
    laboratory: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = []
    laboratory.observers.append(lambda route, call, outcome: outcomes.append(outcome))
    try:
        assert desk(laboratory, "Laboratory.note").call({"do": "lock"}) == (None, None)
    finally:
        laboratory.observers.clear()
    assert "_thread.lock cannot be pickled" in caplog.text
    assert "nobody needs it, so the call counts as done" in caplog.text
    caplog.clear()
    assert desk(laboratory, "Laboratory.note").call({"do": "lock"}) == (None, None)
    assert caplog.text == "", "where nobody looks on, it is not even tried"


def test_an_argument_that_cannot_be_sent_fails_its_call_by_name(laboratory: Runner) -> None:
    error = desk(laboratory, "Laboratory.run").call(threading.Lock()).error
    assert isinstance(error, NotPicklable)
    assert "an argument of laboratory.run cannot be sent to a worker process: _thread.lock" in str(error)
    assert isinstance(pid_of(laboratory), int)


def test_translators_run_in_the_process_and_what_they_make_need_not_be_known_here(laboratory: Runner) -> None:
    assert desk(laboratory, "Laboratory.translated").result("fine") == "fine"


def test_a_callback_gets_the_arguments_the_error_and_the_context_as_they_were_left(telephone: Telephone) -> None:
    with open_laboratory(NUMBER=telephone.number) as runner:
        translated = desk(runner, "Laboratory.translated")
        translated.route.submit("payload")
        said, line = telephone.wait()
        line.close()
        assert said == "(True, 'payload', 1)"
        _, outcome = translated.settled.get(timeout=SECONDS)
        assert isinstance(outcome.error, Unloadable)


def test_a_callback_whose_arguments_cannot_be_sent_fails_by_name(
    laboratory: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(desk(laboratory, "Laboratory.translated").call("unsendable").error, Unloadable)
    assert "its callback Laboratory.failed failed" in caplog.text
    assert "an argument of laboratory.translated cannot be sent to a worker process: _thread.lock" in caplog.text


def test_processes_that_a_target_forks_are_ended_by_signals(laboratory: Runner) -> None:
    assert run(laboratory, "fork").result == -signal.SIGTERM


# -- a process dies

DEATHS = [
    ("exit at once", {"code": 7}, 7, "ended with exit code 7"),
    ("exit at once", {"code": 0}, 0, "ended with exit code 0"),
    ("segfault", {}, -signal.SIGSEGV, "was killed by SIGSEGV (signal 11)"),
    ("kill", {}, -signal.SIGKILL, "was killed by SIGKILL (signal 9: by somebody, or"),
]


@pytest.mark.parametrize(("do", "options", "exit_code", "text"), DEATHS, ids=[death[3] for death in DEATHS])
def test_a_process_that_dies_fails_its_call_and_is_replaced(
    laboratory: Runner, do: str, options: dict[str, Any], exit_code: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    pid = pid_of(laboratory)
    error = run(laboratory, do, **options).error
    assert isinstance(error, WorkerDied)
    assert (error.call, error.exit_code) == ("laboratory.run.1", exit_code)
    assert text in str(error)
    assert pid_of(laboratory) != pid
    assert f"worker process mf-process-default-0 (pid {pid}) {text}" in caplog.text
    assert "another one takes its place" in caplog.text
    assert "laboratory.run.1 failed" in caplog.text


def test_a_process_that_is_killed_fails_only_the_call_it_was_running(telephone: Telephone) -> None:
    with open_laboratory(MAX_WORKERS=2) as runner:
        laboratory = desk(runner, "Laboratory.run")
        for _ in range(2):
            laboratory.route.submit({"do": "ring", "number": telephone.number})
        (victim, _), (survivor, line) = telephone.wait_pid(), telephone.wait_pid()
        os.kill(victim, signal.SIGKILL)
        _, outcome = laboratory.settled.get(timeout=SECONDS)
        assert isinstance(outcome.error, WorkerDied)
        assert outcome.error.signal == signal.SIGKILL
        line.sendall(b"go on")
        assert laboratory.settled.get(timeout=SECONDS)[1] == ("go on", None)
        assert survivor != victim


def test_an_idle_process_that_is_killed_fails_no_call(laboratory: Runner, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        pid = pid_of(laboratory)
        os.kill(pid, signal.SIGKILL)  # the next call comes before anybody has noticed, or after
        assert pid_of(laboratory) != pid
    assert "failed" not in caplog.text


def test_a_process_that_lost_its_channel_is_gone(laboratory: Runner) -> None:
    pid = pid_of(laboratory)
    assert isinstance(run(laboratory, "close everything").error, WorkerDied)
    assert pid_of(laboratory) != pid
    assert not psutil.pid_exists(pid)


def test_a_process_is_replaced_after_so_many_calls(caplog: pytest.LogCaptureFixture) -> None:
    with open_laboratory(MAX_TASKS_PER_CHILD=2) as runner:
        pids = [pid_of(runner) for _ in range(6)]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]
    assert "WARNING" not in caplog.text
    psutil.wait_procs([psutil.Process(pid) for pid in set(pids) if psutil.pid_exists(pid)], timeout=SECONDS)
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("do", ["spin", "hold the interpreter"])
def test_a_call_that_takes_too_long_is_killed(telephone: Telephone, do: str) -> None:
    with open_laboratory(TASK_TIMEOUT=1) as runner:
        laboratory = desk(runner, "Laboratory.run")
        laboratory.route.submit({"do": do, "number": telephone.number})
        pid, line = telephone.wait_pid()
        line.close()
        _, outcome = laboratory.settled.get(timeout=SECONDS)
        assert isinstance(outcome.error, TaskTimeout)
        assert str(outcome.error) == (
            "call laboratory.run.1 ran longer than TASK_TIMEOUT (1 s); its worker process was killed"
        )
        assert not psutil.pid_exists(pid)
        assert pid_of(runner) != pid


def test_calls_that_end_in_time_are_left_alone() -> None:
    with open_laboratory(TASK_TIMEOUT=0.5) as runner:
        pid = pid_of(runner)
        for _ in range(4):
            assert run(runner, "sleep", seconds=0.2).error is None
        assert pid_of(runner) == pid


def test_a_death_is_the_last_attempt_of_what_cannot_be_counted(telephone: Telephone) -> None:
    """No backoff, for it might go on for ever; the callback, then the verdict."""
    with open_laboratory(callback_route()) as runner:
        found = desk(runner, f"{__name__}.die")
        found.route.submit(telephone.number)
        said, line = telephone.wait()
        line.close()
        assert said == "WorkerDied: the worker process that ran call laboratory.die.1 ended with exit code 9"
        assert isinstance(found.settled.get(timeout=SECONDS)[1].error, WorkerDied)


def die(payload: Any) -> None:
    os._exit(9)


def died(payload: str, exception: BaseException) -> None:
    from tests.spawners.laboratory import ring

    ring(payload, f"{type(exception).__name__}: {exception}")


def callback_route() -> Route:
    from micro_framework.retry import AsyncBackOff

    return CallbackRoute(die, Desk(), backoff=AsyncBackOff(1, 10), callback_target=died)


# -- dependencies


def test_each_process_sets_its_dependencies_up_once_and_stops_them_at_its_end(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with open_laboratory(Journaled, JOURNAL=str(journal), MAX_WORKERS=2) as runner:
        for _ in range(4):
            desk(runner, "Journaled.read").result()
        pids = {child.process.pid for child in keeper_of(runner).children}
        lines = desk(runner, "Journaled.read").result()
    assert sorted(lines) == sorted(f"{pid} {hook}" for pid in pids for hook in ("setup", "start"))
    assert journal.read_text().splitlines()[4:] in (
        [f"{pid} stop" for pid in sorted(pids)],
        [f"{pid} stop" for pid in sorted(pids, reverse=True)],
    )
    assert str(os.getpid()) not in journal.read_text(), "the service has none of its own"


# -- the stop


def test_a_running_call_finishes_at_the_stop(telephone: Telephone) -> None:
    with open_laboratory() as runner:
        laboratory = desk(runner, "Laboratory.run")
        laboratory.route.submit({"do": "ring", "number": telephone.number})
        pid, line = telephone.wait_pid()
        stopping = threading.Thread(target=runner.stop)
        stopping.start()
        line.sendall(b"in peace")
        assert laboratory.settled.get(timeout=SECONDS)[1] == ("in peace", None)
        stopping.join(SECONDS)
        assert not stopping.is_alive()
        assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("busy", ["ring", "hold the interpreter"])
def test_a_call_that_does_not_end_is_abandoned_and_its_process_killed(telephone: Telephone, busy: str) -> None:
    with pytest.raises(CallsAbandoned) as caught, open_laboratory(SHUTDOWN_TIMEOUT=0.5) as runner:  # noqa: PT012
        laboratory = desk(runner, "Laboratory.run")
        laboratory.route.submit({"do": busy, "number": telephone.number})
        pid, line = telephone.wait_pid()
        if busy != "ring":
            line.close()
    assert caught.value.calls == ("Laboratory.run",)
    assert laboratory.handed_back.get_nowait() == {"do": busy, "number": telephone.number}
    assert laboratory.settled.empty(), "it is no failure: its message goes back"
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(("mode", "finished"), [("process", 1), ("greedy_process", 3)])
def test_what_waits_at_the_stop_is_handed_back_or_finished(telephone: Telephone, mode: str, finished: int) -> None:
    with open_laboratory(WORKER_MODE=mode) as runner:
        laboratory = desk(runner, "Laboratory.run")
        laboratory.route.submit({"do": "ring", "number": telephone.number})
        _, line = telephone.wait_pid()
        for _ in range(2):
            laboratory.route.submit({"do": "pid"})
        stopping = threading.Thread(target=runner.stop)
        stopping.start()
        if finished == 1:
            for _ in range(2):
                assert laboratory.handed_back.get(timeout=SECONDS) == {"do": "pid"}
        line.sendall(b".")
        stopping.join(SECONDS)
        assert not stopping.is_alive()
        assert laboratory.settled.qsize() == finished
        assert laboratory.handed_back.empty()


def test_a_pool_that_was_never_started_can_be_stopped() -> None:
    runner = Runner([Laboratory], {"WORKER_MODE": "process", "MINE": 1})
    (spawner,) = runner.assembly.spawners.values()
    spawner.finish_waiting()
    assert spawner.stop(time.monotonic()) == []


# -- calls that are sent ahead


def hurried(runner: Runner) -> Desk:
    """The desk, after so many short calls that the next ones are sent ahead; the first of them may have been long."""
    laboratory = desk(runner, "Laboratory.run")
    gate = keeper_of(runner).berths.gate
    for _ in range(100):
        assert laboratory.call({"do": "return", "value": 1}).error is None
        if gate.is_set():
            return laboratory
    raise AssertionError("a hundred short calls")


def occupied(laboratory: Desk, telephone: Telephone) -> dict[int, socket.socket]:
    """The lines of calls that keep both processes busy until they are answered, by the number of the process."""
    for _ in range(2):
        laboratory.route.submit({"do": "ring", "number": telephone.number})
    return dict(telephone.wait_pid() for _ in range(2))


def sent_ahead(runner: Runner) -> int:
    """How many calls wait behind others in their processes."""
    children = keeper_of(runner).children
    return sum(berth.in_use and berth.began_at is None for child in children for berth in child.berths)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits behind another call is not taken back."""
    monkeypatch.setattr("micro_framework.spawners.child.PATIENCE", SECONDS)


BUSY = {"MAX_WORKERS": 2, "PREFETCH_COUNT": 4}


@pytest.mark.usefixtures("patient")
def test_a_process_goes_on_with_the_call_that_waits_in_it(telephone: Telephone) -> None:
    with open_laboratory(**BUSY) as runner:
        laboratory = hurried(runner)
        lines = occupied(laboratory, telephone)
        laboratory.route.submit({"do": "pid"})
        laboratory.route.submit({"do": "pid"})
        assert eventually(lambda: sent_ahead(runner) == 2)
        for pid, line in lines.items():
            line.sendall(b".")
            assert {laboratory.settled.get(timeout=SECONDS)[1].result for _ in range(2)} == {".", pid}


def test_a_call_behind_a_long_one_runs_in_the_process_that_is_free_first(telephone: Telephone) -> None:
    with open_laboratory(**BUSY) as runner:
        laboratory = hurried(runner)
        (_, long), (free, short) = occupied(laboratory, telephone).items()
        for _ in range(2):
            laboratory.route.submit({"do": "pid"})
        assert eventually(lambda: keeper_of(runner).berths.waiting == 2), "both are taken back"
        short.sendall(b".")
        results = [laboratory.settled.get(timeout=SECONDS)[1].result for _ in range(3)]
        long.sendall(b".")
        assert Counter(results) == {".": 1, free: 2}


def test_one_long_call_does_not_hold_up_many_short_ones(telephone: Telephone, monkeypatch: pytest.MonkeyPatch) -> None:
    taken_back: list[bool] = []
    take_back = Berth.take_back
    monkeypatch.setattr(Berth, "take_back", lambda berth: taken_back.append(True) or take_back(berth))
    with open_laboratory(**BUSY) as runner:
        laboratory = hurried(runner)
        laboratory.route.submit({"do": "ring", "number": telephone.number})
        busy, line = telephone.wait_pid()
        for _ in range(200):
            laboratory.route.submit({"do": "pid"})
        results = [laboratory.settled.get(timeout=SECONDS)[1].result for _ in range(200)]
        line.sendall(b".")
        assert busy not in results
        assert len(taken_back) == 1, "only the first that was sent there has waited behind it"


def test_a_callback_that_finds_no_free_process_at_the_stop_is_waited_for(telephone: Telephone) -> None:
    with open_laboratory(MAX_WORKERS=1) as runner:
        laboratory = hurried(runner)
        spawner = runner.assembly.spawners["default"]
        assert isinstance(spawner, ProcessSpawner)
        laboratory.route.submit({"do": "ring", "number": telephone.number})
        _, line = telephone.wait_pid()
        spawner.ending = True
        outcomes: list[Any] = []
        plan, call = laboratory.route.plan, laboratory.to_call({"do": "pid"})  # type: ignore[attr-defined]

        class Asking(threading.Thread):
            running = (laboratory.route, {"do": "pid"})

            def __init__(self, role: Role) -> None:
                super().__init__()
                self.role = role

            def run(self) -> None:
                try:
                    request = Request(0, self.role, True, pack_call(call))
                    outcomes.append(spawner.ask(request, call, plan.target).outcome)
                except Abandoned as error:
                    outcomes.append(type(error))

        target, callback = Asking(Role.TARGET), Asking(Role.CALLBACK)
        target.start()
        target.join(SECONDS)
        assert outcomes == [Abandoned]
        callback.start()
        callback.join(0.2)
        assert callback.is_alive()
        line.sendall(b".")
        callback.join(SECONDS)
        assert isinstance(outcomes[1].error, LookupError), "it went to the process, which has no such callback"


@pytest.mark.usefixtures("patient")
def test_a_call_that_waited_in_a_process_that_died_runs_in_another(telephone: Telephone) -> None:
    with open_laboratory(**BUSY) as runner:
        laboratory = hurried(runner)
        lines = occupied(laboratory, telephone)
        for _ in range(2):
            laboratory.route.submit({"do": "pid"})
        assert eventually(lambda: sent_ahead(runner) == 2)
        dead, alive = lines
        os.kill(dead, signal.SIGKILL)
        outcomes = [laboratory.settled.get(timeout=SECONDS)[1] for _ in range(2)]
        lines[alive].sendall(b".")
        outcomes += [laboratory.settled.get(timeout=SECONDS)[1] for _ in range(2)]
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        assert [type(error) for error in errors] == [WorkerDied], "only the call that it ran has failed"
        assert dead not in [outcome.result for outcome in outcomes]


@pytest.mark.usefixtures("patient")
def test_time_is_counted_from_the_begin_of_a_call(telephone: Telephone) -> None:
    with open_laboratory(TASK_TIMEOUT=2.0, **BUSY) as runner:
        laboratory = hurried(runner)
        lines = occupied(laboratory, telephone)
        for _ in range(2):
            laboratory.route.submit({"do": "sleep", "seconds": 1.2})
        assert eventually(lambda: sent_ahead(runner) == 2)
        time.sleep(1.2)
        for line in lines.values():
            line.sendall(b".")
        outcomes = [laboratory.settled.get(timeout=SECONDS)[1] for _ in range(4)]
        assert [outcome.error for outcome in outcomes] == [None] * 4
        assert laboratory.call({"do": "sleep", "seconds": SECONDS}).error.__class__ is TaskTimeout


def test_what_waits_behind_a_call_at_the_stop_is_handed_back(telephone: Telephone) -> None:
    with open_laboratory(**BUSY) as runner:
        laboratory = hurried(runner)
        lines = occupied(laboratory, telephone)
        for _ in range(4):  # two of them wait behind calls, and two for a thread
            laboratory.route.submit({"do": "pid"})
        stopping = threading.Thread(target=runner.stop)
        stopping.start()
        for _ in range(4):
            assert laboratory.handed_back.get(timeout=SECONDS) == {"do": "pid"}
        for line in lines.values():
            line.sendall(b".")
        stopping.join(SECONDS)
        assert not stopping.is_alive()
        assert [laboratory.settled.get_nowait()[1].result for _ in range(2)] == [".", "."]
        assert laboratory.settled.empty()


def test_a_single_process_keeps_its_calls_in_order() -> None:
    with open_laboratory(MAX_WORKERS=1, PREFETCH_COUNT=10) as runner:
        laboratory = hurried(runner)
        for number in range(50):
            laboratory.route.submit({"do": "return", "value": number})
        assert [laboratory.settled.get(timeout=SECONDS)[1].result for _ in range(50)] == list(range(50))


def test_a_process_runs_no_more_calls_than_it_may_although_some_are_sent_ahead() -> None:
    with open_laboratory(MAX_TASKS_PER_CHILD=5, **BUSY) as runner:
        laboratory = desk(runner, "Laboratory.run")
        for _ in range(60):
            laboratory.route.submit({"do": "pid"})
        pids = Counter(laboratory.settled.get(timeout=SECONDS)[1].result for _ in range(60))
    assert max(pids.values()) == 5


# -- several contexts


def test_a_context_of_processes_beside_one_of_threads() -> None:
    fast = RunnerContext([Route(in_which, Desk())], name="fast", max_workers=1)
    slow = RunnerContext([Route(in_which_too, Desk())], name="slow", max_workers=1, worker_mode="process")
    with Runner([fast, slow], {"SERVICE_NAME": "laboratory"}) as runner:
        assert desk(runner, f"{__name__}.in_which").result() == (os.getpid(), "mf-worker-fast-0")
        pid, name = desk(runner, f"{__name__}.in_which_too").result()
    assert pid != os.getpid()
    assert name == "mf-process-slow-0"


def in_which(payload: Any) -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


def in_which_too(payload: Any) -> tuple[int, str]:
    return in_which(payload)


def test_the_limits_of_a_context_are_its_own() -> None:
    config = {
        "SERVICE_NAME": "laboratory",
        "TASK_TIMEOUT": 60,
        "CONTEXTS": {"slow": {"WORKER_MODE": "process", "MAX_TASKS_PER_CHILD": 3, "TASK_TIMEOUT": 5, "MAX_WORKERS": 1}},
    }
    route = Route(in_which, Desk())
    route.context = "slow"
    runner = Runner([route], config)
    limits = keeper_of(runner, "slow").limits
    assert (limits.task_timeout, limits.max_tasks) == (5, 3)
    assert sys.modules[__name__] is not None
