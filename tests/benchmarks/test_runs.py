"""What makes a run's figure void."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.plan import CONTESTANTS, OWN, Cell, Contestant
from benchmarks.runs import ContestantProcess, Void, faults, run_of, wait_until


@pytest.mark.parametrize(
    ("handled", "left", "expected"),
    [
        (["b", "a"], 0, ""),
        (["a"], 0, "1 lost"),
        (["a", "b", "b"], 0, "1 handled twice"),
        (["a", "b"], 3, "3 left in the queue"),
        (["a", "b", "c"], 0, "1 not ours"),
        (["b", "b"], 1, "1 left in the queue, 1 lost, 1 handled twice"),
    ],
)
def test_every_message_must_be_handled_exactly_once(handled: list[str], left: int, expected: str) -> None:
    assert faults(["a", "b"], handled, left) == expected


def test_waiting_in_vain_voids_the_run() -> None:
    with pytest.raises(Void, match="a miracle"):
        wait_until(lambda: False, 0.01, "a miracle")


def test_a_wrong_name_is_refused_with_the_right_ones() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "nothing of the kind"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "consume, 10 workers; " in done.stderr


def test_what_a_process_left_before_it_ended_counts(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    ended = ContestantProcess(Contestant("plain", "none.py"), process, tmp_path)
    (tmp_path / "output").write_text("its last words")
    with pytest.raises(Void, match="ended, exit code 0"):
        ended.look_for(tmp_path / "report")
    (tmp_path / "report").write_text("{}")
    assert ended.look_for(tmp_path / "report")


def test_callers_that_wait_for_each_other_are_measured_from_first_to_last() -> None:
    callers = [
        {"total": 120, "measured": 100, "begin": [10.0, 1.0], "end": [12.0, 2.0]},
        {"total": 120, "measured": 100, "begin": [12.0, 2.0], "end": [14.0, 3.0]},
    ]
    run = run_of(Cell("publish", "single", 2, (OWN,), 1), CONTESTANTS[OWN], callers, [0.001] * 99 + [0.5])
    assert (run.rate, run.window, run.messages) == (50, 4, 200)
    assert (run.cpu, run.p50, run.p99) == (10_000, 1.0, 500)
