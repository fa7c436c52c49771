"""The manual clock."""

from datetime import UTC, datetime, timedelta, timezone

from micro_framework.testing import ManualClock


def test_it_stands_still_until_it_is_turned() -> None:
    clock = ManualClock(5)
    assert clock.now() == 5
    clock.advance(2.5)
    assert clock.now() == 7.5


def test_alarms_ring_on_the_way_at_their_own_time() -> None:
    clock, rung = ManualClock(), list[tuple[str, float]]()
    clock.call_at(2, lambda: rung.append(("b", clock.now())))
    clock.call_at(1, lambda: rung.append(("a", clock.now())))
    clock.call_at(2, lambda: rung.append(("c", clock.now())))
    clock.advance(0.5)
    assert rung == []
    clock.advance(9.5)
    assert rung == [("a", 1), ("b", 2), ("c", 2)]
    assert clock.now() == 10


def test_what_is_due_already_rings_at_once() -> None:
    clock, rung = ManualClock(5), list[int]()
    alarm = clock.call_at(5, lambda: rung.append(1))
    assert rung == [1]
    assert alarm.cancelled


def test_an_alarm_set_by_an_alarm_rings_in_the_same_turn() -> None:
    clock, rung = ManualClock(), list[float]()

    def again() -> None:
        rung.append(clock.now())
        clock.call_at(clock.now() + 1, again)

    clock.call_at(1, again)
    clock.advance(3)
    assert rung == [1, 2, 3]


def test_cancelled_and_forgotten_alarms_are_silent() -> None:
    clock, rung = ManualClock(), list[int]()
    clock.start()
    clock.call_at(1, lambda: rung.append(1)).cancel()
    clock.advance(1)
    clock.call_at(2, lambda: rung.append(2))
    clock.stop()
    clock.advance(10)
    assert rung == []


def test_its_wall_clock_advances_with_it_and_can_be_set_alone() -> None:
    clock = ManualClock(100, utc=datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))))
    assert clock.utcnow() == datetime(2026, 5, 1, 10, tzinfo=UTC)
    clock.advance(90)
    assert clock.utcnow() == datetime(2026, 5, 1, 10, 1, 30, tzinfo=UTC)
    clock.set_utc(datetime(2026, 5, 2, tzinfo=UTC))
    assert (clock.now(), clock.utcnow()) == (190, datetime(2026, 5, 2, tzinfo=UTC))
    clock.advance(0.5)
    assert clock.utcnow() == datetime(2026, 5, 2, 0, 0, 0, 500_000, tzinfo=UTC)
