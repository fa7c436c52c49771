"""Which process gets the next call."""

import threading
from typing import Any

import pytest

from micro_framework.spawners.child import Lane
from micro_framework.spawners.lanes import SHORT, Lanes
from micro_framework.spawners.work import LANES
from tests.spawners.laboratory import SECONDS


class Process:
    """As much of a `Child` as matters."""

    def __init__(self) -> None:
        self.usable = True
        self.count = 0
        self.lanes = [FakeLane(self) for _ in range(LANES)]


class FakeLane:
    seconds: float | None = None

    def __init__(self, child: Process) -> None:
        self.child = child


def lanes_of(*processes: Process, most: int | None = None) -> Lanes:
    lanes = Lanes(most)
    for process in processes:
        lanes.add(process)  # type: ignore[arg-type]
    return lanes


def take(lanes: Lanes, *, ahead: bool = True, seconds: float = 0.0) -> Any:
    return lanes.take(seconds, ahead=ahead, unless=lambda: False)


def over(lanes: Lanes, lane: Any, seconds: float | None) -> None:
    lane.seconds = seconds
    lanes.give_back(lane)


def pace(lanes: Lanes, seconds: float) -> None:
    """Let a call have taken so long, often enough for the average to be that."""
    for _ in range(60):
        over(lanes, take(lanes, ahead=False), seconds)


def test_each_process_gets_one_before_any_gets_another() -> None:
    one, two = Process(), Process()
    lanes = lanes_of(one, two)
    pace(lanes, SHORT / 2)
    taken = [take(lanes) for _ in range(4)]
    assert {lane.child for lane in taken[:2]} == {one, two}
    assert {lane.child for lane in taken[2:]} == {one, two}
    assert len(set(taken)) == 4
    over(lanes, taken[0], SHORT / 2)
    assert take(lanes) is taken[0]


@pytest.mark.parametrize("seconds", [None, SHORT * 2])
def test_nothing_is_sent_ahead_while_calls_are_long_or_unknown(seconds: float | None) -> None:
    lanes = lanes_of(Process())
    if seconds is not None:
        pace(lanes, seconds)
    assert not lanes.gate.is_set()
    first = take(lanes)
    waiting, found = waits_for_lane(lanes)
    over(lanes, first, seconds)
    waiting.join(SECONDS)
    assert [lane.child for lane in found] == [first.child]


def waits_for_lane(lanes: Lanes, **options: Any) -> tuple[threading.Thread, list[Any]]:
    """A thread that waits for a lane, and what it got."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(take(lanes, seconds=0.01, **options)))
    thread.start()
    never = threading.Event()
    assert any(lanes.waiting or never.wait(0.01) for _ in range(int(SECONDS / 0.01)))
    never.wait(0.1)
    assert not found, "a busy process is waited for as long as it takes"
    return thread, found


def test_the_gate_follows_the_pace() -> None:
    lanes = lanes_of(Process())
    pace(lanes, SHORT / 2)
    assert lanes.gate.is_set()
    pace(lanes, SHORT * 2)
    assert not lanes.gate.is_set()
    lanes.finish()
    pace(lanes, SHORT * 2)
    assert lanes.gate.is_set(), "at the end nobody is kept waiting there"


def test_what_was_not_answered_says_nothing_of_the_pace() -> None:
    lanes = lanes_of(Process())
    pace(lanes, SHORT / 2)
    before = lanes.pace
    over(lanes, take(lanes), None)
    assert lanes.pace == before


def test_who_will_not_send_ahead_waits_for_a_process_without_a_call() -> None:
    lanes = lanes_of(Process())
    pace(lanes, SHORT / 2)
    first, second = take(lanes), take(lanes)
    waiting, found = waits_for_lane(lanes, ahead=False)
    over(lanes, second, SHORT / 2)
    over(lanes, first, SHORT / 2)
    waiting.join(SECONDS)
    assert found == [first]


def test_a_process_that_is_gone_gets_nothing() -> None:
    gone, there = Process(), Process()
    lanes = lanes_of(gone, there)
    pace(lanes, SHORT / 2)
    gone.usable = False
    assert {take(lanes).child for _ in range(2)} == {there}
    assert lanes.take(0, ahead=True, unless=lambda: True) is None, "it has only two lanes"


def test_a_process_that_dies_with_its_calls_gets_no_other() -> None:
    process = Process()
    lanes = lanes_of(process)
    pace(lanes, SHORT / 2)
    taken = take(lanes), take(lanes)
    process.usable = False
    for lane in taken:
        over(lanes, lane, None)
    assert take(lanes) is None


def test_no_process_gets_more_calls_than_it_may_run() -> None:
    process = Process()
    process.count = 8
    lanes = lanes_of(process, most=10)
    pace(lanes, SHORT / 2)
    first, second = take(lanes), take(lanes)
    assert first is not None
    assert second is not None
    over(lanes, second, SHORT / 2)
    process.count = 9
    waiting, found = waits_for_lane(lanes)
    over(lanes, first, SHORT / 2)
    waiting.join(SECONDS)
    assert found == [first]


def test_waiting_ends_with_everything() -> None:
    lanes = lanes_of(Process())
    assert isinstance(take(lanes), FakeLane)
    waiting, found = waits_for_lane(lanes)
    lanes.end()
    waiting.join(SECONDS)
    assert found == [None]


def test_waiting_ends_where_the_caller_says_so() -> None:
    lanes = lanes_of(Process())
    take(lanes)
    ending = threading.Event()
    found: list[Lane | None] = []
    thread = threading.Thread(target=lambda: found.append(lanes.take(SECONDS, ahead=True, unless=ending.is_set)))
    thread.start()
    ending.set()
    lanes.finish()
    thread.join(SECONDS)
    assert found == [None]
