"""Which parked messages are meant."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from micro_framework.cli.dead_letters.choice import Choice, moment
from tests.cli.dead_letters.letters import NOW, parked_record

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - 2 * HOUR),
        ("3d", NOW - timedelta(days=3)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:30", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30+02:00", datetime(2026, 3, 1, 12, 30, tzinfo=timezone(2 * HOUR))),
        ("2026-03-01 12:30:05Z", datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)),
    ],
)
def test_times_are_read(text, expected):
    found = moment(text, NOW)
    assert found == expected
    assert found.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "yesterday", "2x", "-2h", "2h30m", "2026-13-01"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        moment(text, NOW)


def test_a_time_before_all_times_is_refused():
    with pytest.raises(OverflowError):
        moment("99999999d", NOW)


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (Choice(), True),
        (Choice(ids=("abc",)), True),
        (Choice(ids=("nothing", "abcdef")), True),
        (Choice(ids=("bc",)), False),
        (Choice(error="CardError"), True),
        (Choice(error="orders.CardError"), True),
        (Choice(error="Card"), False),
        (Choice(error="payments.CardError"), False),
        (Choice(service="orders"), True),
        (Choice(service="order"), False),
        (Choice(method="refund"), True),
        (Choice(method="pay"), False),
        (Choice(since=NOW), True),
        (Choice(since=NOW + HOUR), False),
        (Choice(until=NOW), True),
        (Choice(until=NOW - HOUR), False),
        (Choice(since=NOW - HOUR, until=NOW + HOUR, service="orders", error="CardError"), True),
        (Choice(since=NOW - HOUR, until=NOW + HOUR, service="payments", error="CardError"), False),
    ],
)
def test_a_message_is_meant_when_all_that_is_said_holds(choice, taken):
    assert choice.takes(parked_record(identifier="abcdef-1", service="orders", method="refund")) is taken


def test_a_builtin_error_goes_by_its_name():
    assert Choice(error="TimeoutError").takes(parked_record(error="TimeoutError"))


@pytest.mark.parametrize("choice", [Choice(since=NOW), Choice(until=NOW)])
def test_a_message_without_a_time_is_not_meant_where_one_is_asked_for(choice):
    assert not choice.takes(parked_record(last=None))
    assert Choice().takes(parked_record(last=None))
