"""Timers on a clock that the test turns."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from micro_framework.schedule import next_in_cron
from micro_framework.testing import ManualClock
from micro_framework.timers import IntervalTimer, Timer, WallTimer

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Ticks:
    """Writes down what the wall clock shows at each tick; a call is over at once, or when the test says so."""

    def __init__(self, make: Callable[[ManualClock, Callable[[], None]], Timer], utc: datetime = NOON) -> None:
        self.clock = ManualClock(1000, utc)
        self.timer = make(self.clock, self.tick)
        self.times: list[datetime] = []
        self.over_at_once = True

    def begin(self) -> None:
        self.timer.begin()
        self.timer.wait_for_next()

    def tick(self) -> None:
        self.times.append(self.clock.utcnow())
        if self.over_at_once:
            self.timer.wait_for_next()

    @property
    def shown(self) -> list[str]:
        return [time.strftime("%H:%M:%S") for time in self.times]


def every(seconds: float) -> Callable[[ManualClock, Callable[[], None]], Timer]:
    return lambda clock, go: IntervalTimer(clock, go, seconds)


def cron(expression: str, zone: str = "UTC") -> Callable[[ManualClock, Callable[[], None]], Timer]:
    return lambda clock, go: WallTimer(clock, go, partial(next_in_cron, expression, ZoneInfo(zone)))


HALF_HOURLY = cron("*/30 * * * *")


@pytest.mark.parametrize("make", [every(1800), HALF_HOURLY])
def test_ticks_come_at_the_points_of_the_grid(make: Callable[[ManualClock, Callable[[], None]], Timer]) -> None:
    ticks = Ticks(make)
    ticks.begin()
    ticks.clock.advance(2 * 3600)
    assert ticks.shown == ["12:30:00", "13:00:00", "13:30:00", "14:00:00"]


@pytest.mark.parametrize("make", [every(1800), HALF_HOURLY])
def test_points_that_come_while_a_call_runs_are_left_out(
    make: Callable[[ManualClock, Callable[[], None]], Timer],
) -> None:
    ticks = Ticks(make)
    ticks.over_at_once = False
    ticks.begin()
    ticks.clock.advance(1800 + 3700)
    assert ticks.shown == ["12:30:00"]
    ticks.timer.wait_for_next()
    assert ticks.shown == ["12:30:00"], "what was missed is not made up for"
    ticks.clock.advance(1800)
    assert ticks.shown == ["12:30:00", "14:00:00"]


@pytest.mark.parametrize("make", [every(1800), HALF_HOURLY])
def test_a_tick_at_once_does_not_shift_the_grid(make: Callable[[ManualClock, Callable[[], None]], Timer]) -> None:
    ticks = Ticks(make)
    ticks.timer.begin()
    ticks.clock.advance(600)
    ticks.timer.tick_now()
    ticks.clock.advance(3000)
    assert ticks.shown == ["12:10:00", "12:30:00", "13:00:00"]


@pytest.mark.parametrize("make", [every(1800), HALF_HOURLY])
def test_while_a_call_is_put_off_no_other_tick_comes(make: Callable[[ManualClock, Callable[[], None]], Timer]) -> None:
    ticks, again = Ticks(make), list[str]()
    ticks.over_at_once = False
    ticks.begin()
    ticks.clock.advance(1800)
    ticks.timer.again(2000, lambda: again.append(ticks.clock.utcnow().strftime("%H:%M:%S")))
    ticks.clock.advance(2500)
    assert (ticks.shown, again) == (["12:30:00"], ["13:03:20"])
    ticks.timer.wait_for_next()
    ticks.clock.advance(1800)
    assert ticks.shown == ["12:30:00", "13:30:00"]


@pytest.mark.parametrize("make", [every(1800), HALF_HOURLY])
def test_a_stopped_timer_is_silent(make: Callable[[ManualClock, Callable[[], None]], Timer]) -> None:
    ticks = Ticks(make)
    ticks.begin()
    ticks.timer.stop()
    ticks.timer.wait_for_next()
    ticks.timer.tick_now()
    ticks.timer.again(1, ticks.tick)
    ticks.clock.advance(24 * 3600)
    assert ticks.shown == []


def test_an_interval_does_not_care_what_the_wall_clock_shows() -> None:
    ticks = Ticks(every(1800))
    ticks.begin()
    ticks.clock.set_utc(NOON + timedelta(days=3))
    ticks.clock.advance(1799)
    assert ticks.times == []
    ticks.clock.advance(1)
    assert len(ticks.times) == 1


def test_after_a_sleep_cron_ticks_once_and_goes_on_by_the_grid() -> None:
    ticks = Ticks(HALF_HOURLY)
    ticks.begin()
    ticks.clock.advance(60)
    ticks.clock.set_utc(NOON + timedelta(hours=8, minutes=7))
    ticks.clock.advance(10)  # the machine is awake again: seen within ten seconds
    assert len(ticks.shown) == 1
    assert "20:07:00" <= ticks.shown[0] <= "20:07:10"
    ticks.clock.advance(3600)
    assert ticks.shown[1:] == ["20:30:00", "21:00:00"]


def test_a_step_forward_to_just_before_a_point_is_seen_in_time() -> None:
    ticks = Ticks(HALF_HOURLY)
    ticks.begin()
    ticks.clock.set_utc(NOON + timedelta(minutes=29, seconds=45))
    ticks.clock.advance(15)
    assert ticks.shown == ["12:30:00"]
    ticks.clock.advance(1800)
    assert ticks.shown[1:] == ["13:00:00"]


def test_a_small_step_back_repeats_no_tick() -> None:
    ticks = Ticks(HALF_HOURLY)
    ticks.begin()
    ticks.clock.advance(3600)
    ticks.clock.set_utc(NOON + timedelta(minutes=10))
    ticks.clock.advance(3600)
    assert ticks.shown == ["12:30:00", "13:00:00"], "12:30 and 13:00 come again, and are not ticked again"
    ticks.clock.advance(1200)
    assert ticks.shown[2:] == ["13:30:00"]


def test_a_large_step_back_is_followed(caplog: pytest.LogCaptureFixture) -> None:
    ticks = Ticks(HALF_HOURLY, NOON + timedelta(days=400))
    ticks.begin()
    ticks.clock.advance(1800)
    ticks.clock.set_utc(NOON)
    ticks.clock.advance(1800)
    assert ticks.times[1:] == [NOON + timedelta(minutes=30)]
    assert "the wall clock was set back" in caplog.text


def test_time_of_day_follows_the_zone_over_clock_changes() -> None:
    ticks = Ticks(cron("30 2 * * *", "Europe/Berlin"), datetime(2026, 3, 27, 12, tzinfo=UTC))
    ticks.begin()
    ticks.clock.advance(4 * 86400)
    assert [time.strftime("%d %H:%M") for time in ticks.times] == ["28 01:30", "29 01:00", "30 00:30", "31 00:30"]


def test_a_month_of_ticks_does_not_drift() -> None:
    ticks = Ticks(cron("0 0 * * *"))
    ticks.begin()
    ticks.clock.advance(30 * 86400)
    assert {time.strftime("%H:%M:%S.%f") for time in ticks.times} == {"00:00:00.000000"}
    assert len(ticks.times) == 30


def test_a_timer_needs_its_own_way_to_tick() -> None:
    timer = Timer(ManualClock(), lambda: None)
    for method in (timer.begin, timer.tick_now, timer.wait_for_next):
        with pytest.raises(NotImplementedError):
            method()
