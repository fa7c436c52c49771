"""What makes a run's figure void."""

import subprocess
import sys

import pytest

from benchmarks.runs import Void, faults, wait_until


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "consume, 10 workers; " in done.stderr
