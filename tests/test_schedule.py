"""The grids of timers."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from micro_framework.schedule import cron_problem, next_in_cron, next_multiple, next_on_grid

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("start", "interval", "now", "expected"),
    [
        (100, 10, 100, 110),
        (100, 10, 109.9, 110),
        (100, 10, 110, 120),
        (100, 10, 111, 120),
        (100, 10, 147, 150),
        (100, 10, 90, 110),
        (0, 0.25, 0.3, 0.5),
    ],
)
def test_the_next_point_lies_on_the_grid_after_now(start: float, interval: float, now: float, expected: float) -> None:
    assert next_on_grid(start, interval, now) == expected


def test_a_million_ticks_do_not_drift() -> None:
    now = 0.0
    for _ in range(1000):
        now = next_on_grid(0.0, 0.1, now + 0.03)
    assert now == pytest.approx(100.0, abs=1e-6)


@pytest.mark.parametrize(
    ("interval", "after", "expected"),
    [
        (60, "2026-03-01T12:00:00", "2026-03-01T12:01:00"),
        (60, "2026-03-01T12:00:00.000001", "2026-03-01T12:01:00"),
        (60, "2026-03-01T11:59:59.999999", "2026-03-01T12:00:00"),
        (86400, "2026-03-01T12:00:00", "2026-03-02T00:00:00"),
        (0.1, "2026-03-01T12:00:00.100000", "2026-03-01T12:00:00.200000"),
        (7, "1970-01-01T00:00:00", "1970-01-01T00:00:07"),
        (7, "1969-12-31T23:59:59", "1970-01-01T00:00:00"),
    ],
)
def test_multiples_of_an_interval_are_the_same_on_every_machine(interval: float, after: str, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert next_multiple(interval, moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert next_multiple(interval, moment.astimezone(timezone(timedelta(hours=9)))).tzinfo is UTC


def local_points(expression: str, after: datetime, count: int) -> list[str]:
    """The next points, as clocks in Berlin show them."""
    found = []
    for _ in range(count):
        after = next_in_cron(expression, BERLIN, after)
        assert after.tzinfo is UTC
        found.append(after.astimezone(BERLIN).strftime("%m-%d %H:%M %Z"))
    return found


EVENING_BEFORE_SUMMER = datetime(2026, 3, 28, 22, tzinfo=UTC)  # Sunday 02:00 CET becomes 03:00 CEST
NIGHT_BEFORE_WINTER = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)  # Sunday 03:00 CEST becomes 02:00 CET


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["03-29 03:00 CEST", "03-30 02:30 CEST"]),
        ("0,30 2,3 * * *", ["03-29 03:00 CEST", "03-29 03:30 CEST", "03-30 02:00 CEST"]),
        ("0 3 * * *", ["03-29 03:00 CEST", "03-30 03:00 CEST"]),
        ("0 * * * *", ["03-29 00:00 CET", "03-29 01:00 CET", "03-29 03:00 CEST", "03-29 04:00 CEST"]),
        ("*/30 2 * * *", ["03-30 02:00 CEST", "03-30 02:30 CEST"]),
    ],
)
def test_a_time_that_the_clock_skips_is_due_after_the_gap(expression: str, expected: list[str]) -> None:
    assert local_points(expression, EVENING_BEFORE_SUMMER, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["10-25 02:30 CEST", "10-26 02:30 CET"]),
        ("0 * * * *", ["10-25 01:00 CEST", "10-25 02:00 CEST", "10-25 02:00 CET", "10-25 03:00 CET"]),
        ("*/30 2 * * *", ["10-25 02:00 CEST", "10-25 02:30 CEST", "10-25 02:00 CET", "10-25 02:30 CET"]),
    ],
)
def test_a_time_that_comes_twice_is_due_the_first_time(expression: str, expected: list[str]) -> None:
    assert local_points(expression, NIGHT_BEFORE_WINTER, len(expected)) == expected


@pytest.mark.parametrize("minute", [10, 30, 50])
def test_a_service_that_starts_in_a_repeated_hour_finds_no_point_behind_it(minute: int) -> None:
    second_half = datetime(2026, 10, 25, 1, minute, tzinfo=UTC)
    assert local_points("30 2 * * *", second_half, 1) == ["10-26 02:30 CET"]


def test_the_fields_are_meant_in_their_time_zone() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    after = datetime(2026, 6, 1, tzinfo=UTC)
    assert next_in_cron("0 9 * * *", tokyo, after) == datetime(2026, 6, 2, 0, tzinfo=UTC)
    assert next_in_cron("0 9 * * *", UTC, after) == datetime(2026, 6, 1, 9, tzinfo=UTC)


def test_the_next_point_lies_after_the_time_given_to_the_microsecond() -> None:
    due = datetime(2026, 6, 1, 9, tzinfo=UTC)
    just = timedelta(microseconds=1)
    assert next_in_cron("0 * * * *", UTC, due - just) == due
    assert next_in_cron("0 * * * *", UTC, due) == due + timedelta(hours=1)
    assert next_in_cron("0 * * * *", UTC, due + just) == due + timedelta(hours=1)


@pytest.mark.parametrize(
    "expression", ["*/5 * * * *", "0 9 * * MON-FRI", "0 0 L * *", "15 3 1,15 JAN 2#1", "0 0 29 2 *"]
)
def test_cron_expressions_that_can_be_used(expression: str) -> None:
    assert cron_problem(expression) is None


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "it has 0 fields and needs five: minute, hour, day of the month, month, day of the week"),
        ("* * * *", "it has 4 fields and needs five"),
        ("0 * * * * *", "it has 6 fields and needs five"),
        ("61 * * * *", "Bad minute"),
        ("* * * foo *", "Bad month"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("* * */20 * 1L", "no day within 50 years fits it"),
    ],
)
def test_a_wrong_cron_expression_is_explained(expression: str, problem: str) -> None:
    found = cron_problem(expression)
    assert found is not None
    assert problem in found


def test_what_is_never_due_is_an_error() -> None:
    with pytest.raises(ValueError, match="is never due"):
        next_in_cron("* * */20 * 1L", UTC, datetime(2026, 1, 1, tzinfo=UTC))
