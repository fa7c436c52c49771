"""Which process gets the next call."""

import threading
from typing import Any

import pytest

from micro_framework.spawners.berths import SHORT, Berths
from micro_framework.spawners.child import Berth
from micro_framework.spawners.work import BERTHS
from tests.spawners.laboratory import SECONDS, eventually


class Process:
    """As much of a `Child` as matters."""

    def __init__(self) -> None:
        self.usable = True
        self.count = 0
        self.berths = [FakeBerth(self) for _ in range(BERTHS)]

    def retire(self) -> None:
        self.usable = False


class FakeBerth:
    seconds: float | None = None
    taken_back = False

    def __init__(self, child: Process) -> None:
        self.child = child


def berths_of(*processes: Process, most: int | None = None) -> Berths:
    berths = Berths(most)
    for process in processes:
        berths.add(process)  # type: ignore[arg-type]
    return berths


def take(berths: Berths, *, ahead: bool = True, seconds: float = 0.0) -> Any:
    return berths.take(seconds, ahead=ahead, unless=lambda: False)


def over(berths: Berths, berth: Any, seconds: float | None) -> bool:
    berth.seconds = seconds
    return berths.give_back(berth)


def pace(berths: Berths, seconds: float) -> None:
    """Let a call have taken so long, often enough for the average to be that."""
    for _ in range(60):
        over(berths, take(berths, ahead=False), seconds)


def test_each_process_gets_one_before_any_gets_another() -> None:
    one, two = Process(), Process()
    berths = berths_of(one, two)
    pace(berths, SHORT / 2)
    taken = [take(berths) for _ in range(4)]
    assert {berth.child for berth in taken[:2]} == {one, two}
    assert {berth.child for berth in taken[2:]} == {one, two}
    assert len(set(taken)) == 4
    over(berths, taken[0], SHORT / 2)
    assert take(berths) is taken[0]


@pytest.mark.parametrize("seconds", [None, SHORT * 2])
def test_nothing_is_sent_ahead_while_calls_are_long_or_unknown(seconds: float | None) -> None:
    berths = berths_of(Process())
    if seconds is not None:
        pace(berths, seconds)
    assert not berths.gate.is_set()
    first = take(berths)
    waiting, found = waits_for_berth(berths)
    over(berths, first, seconds)
    waiting.join(SECONDS)
    assert [berth.child for berth in found] == [first.child]


def waits_for_berth(
    berths: Berths, after: int = 0, seconds: float = 0.01, **options: Any
) -> tuple[threading.Thread, list[Any]]:
    """A thread that waits for a berth after others, and what it got."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(take(berths, seconds=seconds, **options)))
    thread.start()
    assert eventually(lambda: berths.waiting > after)
    threading.Event().wait(0.1)
    assert not found, "a busy process is waited for as long as it takes"
    return thread, found


def test_the_gate_follows_the_pace() -> None:
    berths = berths_of(Process())
    pace(berths, SHORT / 2)
    assert berths.gate.is_set()
    pace(berths, SHORT * 2)
    assert not berths.gate.is_set()
    berths.finish()
    pace(berths, SHORT * 2)
    assert berths.gate.is_set(), "at the end nobody is kept waiting there"


def test_what_was_not_answered_says_nothing_of_the_pace() -> None:
    berths = berths_of(Process())
    pace(berths, SHORT / 2)
    before = berths.pace
    over(berths, take(berths), None)
    assert berths.pace == before


def test_who_will_not_send_ahead_waits_for_a_process_without_a_call() -> None:
    berths = berths_of(Process())
    pace(berths, SHORT / 2)
    first, second = take(berths), take(berths)
    waiting, found = waits_for_berth(berths, ahead=False)
    over(berths, second, SHORT / 2)
    over(berths, first, SHORT / 2)
    waiting.join(SECONDS)
    assert found == [first]


def test_whoever_waits_comes_before_whoever_comes_later() -> None:
    berths = berths_of(Process(), Process())
    pace(berths, SHORT / 2)
    long, first, second = take(berths), take(berths), take(berths)
    waiting, found = waits_for_berth(berths, seconds=SECONDS, ahead=False)
    over(berths, second, SHORT / 2)
    later, nothing = waits_for_berth(berths, after=1, seconds=SECONDS)
    over(berths, first, SHORT / 2)
    waiting.join(SECONDS)
    assert [berth.child for berth in found] == [first.child]
    over(berths, long, SHORT / 2)
    later.join(SECONDS)
    assert [berth.child for berth in nothing] == [long.child]


def test_nothing_more_is_sent_behind_a_call_that_others_were_taken_back_from() -> None:
    process = Process()
    berths = berths_of(process)
    pace(berths, SHORT / 2)
    long, behind = take(berths), take(berths)
    behind.taken_back = True
    over(berths, behind, None)
    waiting, found = waits_for_berth(berths)
    over(berths, long, SHORT / 2)
    waiting.join(SECONDS)
    assert len(found) == 1
    assert take(berths).child is process, "it is as good as before"


def test_a_process_that_is_gone_gets_nothing() -> None:
    gone, there = Process(), Process()
    berths = berths_of(gone, there)
    pace(berths, SHORT / 2)
    gone.usable = False
    assert {take(berths).child for _ in range(2)} == {there}
    assert berths.take(0, ahead=True, unless=lambda: True) is None, "it has only two berths"


def test_a_process_that_dies_with_its_calls_gets_no_other() -> None:
    process = Process()
    berths = berths_of(process)
    pace(berths, SHORT / 2)
    taken = take(berths), take(berths)
    process.usable = False
    for berth in taken:
        over(berths, berth, None)
    assert take(berths) is None


def test_no_process_gets_more_calls_than_it_may_run() -> None:
    process = Process()
    process.count = 8
    berths = berths_of(process, most=10)
    pace(berths, SHORT / 2)
    first, second = take(berths), take(berths)
    assert first is not None
    assert second is not None
    over(berths, second, SHORT / 2)
    process.count = 9
    waiting, found = waits_for_berth(berths)
    over(berths, first, SHORT / 2)
    waiting.join(SECONDS)
    assert found == [first]


def test_a_process_that_is_worn_out_is_told_of_once_and_gets_no_more() -> None:
    process = Process()
    berths = berths_of(process, most=10)
    pace(berths, SHORT / 2)
    first, second = take(berths), take(berths)
    process.count = 9
    assert not over(berths, first, SHORT / 2)
    process.count = 10
    assert over(berths, second, SHORT / 2)
    assert not process.usable
    assert take(berths) is None


def test_a_process_that_is_free_a_moment_after_the_time_was_up_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    berths = berths_of(process)
    take(berths)

    def time_is_up(seconds: float) -> bool:
        berths.busy.clear()
        berths.idle.append(process)  # type: ignore[arg-type]
        return False

    monkeypatch.setattr(berths.changed, "wait", time_is_up)
    assert take(berths).child is process


def test_waiting_ends_with_everything() -> None:
    berths = berths_of(Process())
    assert isinstance(take(berths), FakeBerth)
    waiting, found = waits_for_berth(berths)
    berths.end()
    waiting.join(SECONDS)
    assert found == [None]


def test_waiting_ends_where_the_caller_says_so() -> None:
    berths = berths_of(Process())
    take(berths)
    ending = threading.Event()
    found: list[Berth | None] = []
    thread = threading.Thread(target=lambda: found.append(berths.take(SECONDS, ahead=True, unless=ending.is_set)))
    thread.start()
    ending.set()
    berths.finish()
    thread.join(SECONDS)
    assert found == [None]
