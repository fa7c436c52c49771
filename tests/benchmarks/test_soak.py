"""A soak of seconds, so that the hour's can never rot; and what makes a soak fail."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.soak.board import EVENTS, SOURCES, Board, Seen
from benchmarks.soak.verdict import Party, Sample, flatness_of, growths, thirds, unequal
from tests.processes import ROOT, SECONDS, Lines

CYCLES = 8
PARTY = Party(0, 40_000_000, 35_000_000, 30_000_000, 17, 14, 0.0)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with (tmp_path / "board").open("w+b") as file:
        file.truncate(Board.SIZE)
        yield Board(file.fileno())


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.soak", *arguments]


@pytest.mark.timeout(300)
def test_a_soak_of_seconds(tmp_path: Path) -> None:
    done = subprocess.run(
        command("--seconds", "8", "--into", str(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["faults"] == []
    assert found["handled"] == found["events"] + found["calls"] > 1000
    assert found["events"] > found["calls"] > 100
    assert {each["kind"] for each in found["slices"]} == {"events consumed", "events published", "calls", "all at once"}
    assert path.with_suffix(".md").read_text() == done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_ended_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("--seconds", "600", "--into", str(tmp_path)),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = Lines(process.stdout)
    try:
        lines.wait_for("working")
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(SECONDS) == 130
    finally:
        process.kill()
        process.wait()
        lines.thread.join(SECONDS)
        assert process.stdout is not None
        process.stdout.close()
    _, left = psutil.wait_procs(started, SECONDS)
    assert not left
    assert len(started) >= 5  # three of its own, the broker and who watches over it
    assert not list(tmp_path.glob("mf-*"))
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["faults"] == ["interrupted"]


def test_messages_are_counted_in_any_order(board: Board) -> None:
    seen = Seen(board)
    for number in (0, 3, 1, 2, 5):
        seen.note(2, number)
    assert (board.handled[2], board.through[2], board.twice, board.furthest) == (5, 4, 0, 1)
    seen.note(2, 4)
    seen.note(EVENTS.stop, 0)
    assert (board.through[2], board.events, board.messages(), seen.ahead[2]) == (6, 6, 7, set())


@pytest.mark.parametrize("number", [0, 1, 5])
def test_what_comes_twice_is_found(board: Board, number: int) -> None:
    seen = Seen(board)
    for each in (0, 1, 5, number):
        seen.note(2, each)
    assert (board.handled[2], board.twice) == (3, 1)


def test_what_was_not_handled_exactly_once_is_told() -> None:
    assert unequal([3, 2], [3, 2], [3, 2], 0) == []
    assert unequal([3, 2], [3, 1], [3, 0], 0) == ["source 1 sent 2, handled were 1, 0 without a gap"]
    assert unequal([3, 2], [3, 2], [3, 2], 4) == ["4 messages were handled twice"]


def test_a_pause_is_over_once_every_source_has_seen_it(board: Board) -> None:
    board.change(1)
    board.change(0)
    for source in range(SOURCES):
        assert not board.all_paused()
        board.paused[source] = board.turn[0]
    assert board.all_paused()
    board.change(1)
    assert board.turn == (3, 1)


def samples(each_cycle: int, **changed_by: float) -> list[Sample]:
    """Four of each cycle; every figure that is named changes with every message."""
    found = []
    for index in range(4 * CYCLES):
        messages = index * each_cycle // 4
        more = {name: getattr(PARTY, name) + by * messages for name, by in changed_by.items()}
        found.append(Sample(float(index), index // 4, 0, {"service": replace(PARTY, messages=messages, **more)}))
    return found


def test_the_first_and_the_last_third_have_whole_cycles() -> None:
    assert thirds(4) == (range(1, 2), range(3, 4))
    assert thirds(30) == (range(7, 14), range(23, 30))


@pytest.mark.parametrize(
    ("each_cycle", "changed_by", "expected"),
    [
        (500_000, {}, []),
        (500_000, {"uss": 0.5}, []),
        (500_000, {"uss": 0.9}, ["service: its memory grew by 5.8%, from 31.3 MB"]),
        (100, {"uss": 1500.0}, []),
        (
            1000,
            {"uss": 1500.0},
            ["service: its memory grew by 17.5%", "service: its memory grew by 1500.0 bytes a message"],
        ),
        (1000, {"threads": 0.001}, ["service: it had 19.875 threads in the first third, and 23.875 in the last"]),
        (1000, {"descriptors": 0.001}, ["service: it had 16.875 descriptors"]),
    ],
)
def test_what_grows_is_found(each_cycle: int, changed_by: dict[str, float], expected: list[str]) -> None:
    found = growths({"service": flatness_of(samples(each_cycle, **changed_by), CYCLES, "service")})
    assert len(found) == len(expected)
    for fault, begin in zip(found, expected, strict=True):
        assert fault.startswith(begin)


def test_the_slope_is_told_a_message() -> None:
    assert flatness_of(samples(1000, uss=3.0), CYCLES, "service").slope == pytest.approx(3)


def test_a_soak_that_is_too_short_is_refused() -> None:
    done = subprocess.run(command("--seconds", "1"), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "at least 4" in done.stderr) == (2, True)


@pytest.mark.parametrize("seconds", ["an hour", "1", "inf"])
def test_a_time_that_is_none_is_refused_in_one_line(seconds: str) -> None:
    """By the variable as by the option."""
    command = [sys.executable, "-m", "benchmarks.soak"]
    variables = {**os.environ, "MF_SOAK_SECONDS": seconds}
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"expected a number of seconds, at least 4, not {seconds!r}")
    assert "Traceback" not in done.stderr
