"""When a failed call is tried again, and what its message says about the attempts before."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from micro_framework.backoff import (
    HISTORY_LIMIT,
    LONGEST_DELAY,
    RetryPolicy,
    attempt_from_headers,
    attempt_to_headers,
    expected_delays,
    matches,
    next_attempt,
    next_delay,
    should_retry,
)
from micro_framework.calls import FIRST_ATTEMPT, Attempt, FailedAttempt

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Declined(ValueError):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def attempt(count: int) -> Attempt:
    return Attempt(retry_count=count)


@pytest.mark.parametrize(
    ("error", "exceptions", "expected"),
    [
        (ValueError(), None, True),
        (SystemExit(), None, False),
        (KeyboardInterrupt(), None, False),
        (Declined(), [ValueError], True),
        (Declined(), ["builtins.ValueError"], True),
        (Declined(), [f"{Declined.__module__}.Declined"], True),
        (ValueError(), [Declined], False),
        (ValueError(), ["some.module.Declined"], False),
        (SystemExit(), [SystemExit], True),
        (ValueError(), [], False),
    ],
)
def test_which_errors_are_retried(error: BaseException, exceptions: Sequence[Any] | None, expected: bool) -> None:
    assert matches(error, exceptions) is expected


@pytest.mark.parametrize(
    ("max_retries", "retry_count", "expected"),
    [(3, 0, True), (3, 2, True), (3, 3, False), (0, 0, False), (None, 10_000, True)],
)
def test_how_often_is_limited(max_retries: int | None, retry_count: int, expected: bool) -> None:
    assert should_retry(RetryPolicy(max_retries, 1), attempt(retry_count), ValueError()) is expected


@pytest.mark.parametrize(
    ("policy", "retry_count", "random", "milliseconds"),
    [
        (RetryPolicy(9, 1000), 7, 0.9, 1000),
        (RetryPolicy(9, 1000, factor=2), 0, 0.5, 1000),
        (RetryPolicy(9, 1000, factor=2), 3, 0.5, 8000),
        (RetryPolicy(9, 1000, factor=2, max_interval=5000), 3, 0.5, 5000),
        (RetryPolicy(9, 1000, jitter=0.1), 0, 0.0, 900),
        (RetryPolicy(9, 1000, jitter=0.1), 0, 1.0, 1100),
        (RetryPolicy(9, 1000, jitter=0.1, max_interval=1000), 0, 1.0, 1000),
        (RetryPolicy(9, lambda failed: 100 * (failed.retry_count + 1)), 2, 0.5, 300),
        (RetryPolicy(9, lambda failed: -5), 0, 0.5, 0),
        (RetryPolicy(9, 0.6), 0, 0.5, 1),
        (RetryPolicy(None, 1000, factor=10), 400, 0.5, LONGEST_DELAY),
        (RetryPolicy(None, float("inf")), 0, 0.5, LONGEST_DELAY),
        (RetryPolicy(None, 1000, factor=10, max_interval=60_000), 400, 0.5, 60_000),
    ],
)
def test_how_long_to_wait(policy: RetryPolicy, retry_count: int, random: float, milliseconds: int) -> None:
    assert next_delay(policy, attempt(retry_count), random) == milliseconds


def test_the_next_attempt_knows_the_failed_one() -> None:
    due = NOW + timedelta(seconds=10)
    following = next_attempt(RetryPolicy(3, 1), FIRST_ATTEMPT, Declined("no money"), now=NOW, due=due)
    assert following == Attempt(1, due, 3, (FailedAttempt(0, NOW, "Declined", "no money"),))


def test_the_history_keeps_the_latest_attempts() -> None:
    current = FIRST_ATTEMPT
    for number in range(HISTORY_LIMIT + 5):
        current = next_attempt(RetryPolicy(None, 1), current, ValueError(number), now=NOW, due=NOW)
    assert [failed.attempt for failed in current.history] == list(range(5, HISTORY_LIMIT + 5))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x" * 1000), "x" * 199 + "…"),
        (Mute(), "<its text cannot be had>"),
        (FileNotFoundError("\udcff"), "\\udcff"),
    ],
)
def test_texts_in_the_history_are_short_and_always_there(error: Exception, text: str) -> None:
    following = next_attempt(RetryPolicy(3, 1), FIRST_ATTEMPT, error, now=NOW, due=NOW)
    assert following.history[0].text == text


def test_an_attempt_travels_in_headers_of_our_own() -> None:
    sent = Attempt(2, NOW, 3, (FailedAttempt(0, NOW, "OSError", "down"), FailedAttempt(1, NOW, "OSError", "down")))
    headers = json.loads(json.dumps(attempt_to_headers(sent)))
    assert all(name.startswith("mf-") for name in headers)
    assert attempt_from_headers(headers, 3) == sent


def test_the_limit_is_the_one_of_today() -> None:
    assert attempt_from_headers(attempt_to_headers(Attempt(2, NOW, 3)), 7).max_retries == 7


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"mf-retry-count": 0},
        {"mf-retry-count": "2"},
        {"nameko.mf-retry-count": 2},
        {"mf-retry-count": -1},
        {"mf-retry-count": None},
        {"mf-retry-count": [2]},
    ],
)
def test_headers_that_are_not_ours_are_a_first_attempt(headers: dict[str, Any]) -> None:
    assert attempt_from_headers(headers, None) is FIRST_ATTEMPT
    assert attempt_from_headers(headers, 3) == Attempt(max_retries=3)


@pytest.mark.parametrize("last", [None, 5, "yesterday", "2024-05-01T12:00:00", ""])
def test_a_time_that_cannot_be_read_is_none(last: object) -> None:
    assert attempt_from_headers({"mf-retry-count": 1, "mf-retry-last": last}, 3) == Attempt(1, None, 3)


def test_times_are_utc() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    parsed = attempt_from_headers({"mf-retry-count": 1, "mf-retry-last": elsewhere.isoformat()}, 3)
    assert parsed.last_retry == NOW
    assert parsed.last_retry.tzinfo is UTC


def test_entries_of_another_shape_are_left_out_of_the_history() -> None:
    good = [0, NOW.isoformat(), "OSError", "down"]
    history = [good, [1], "x", [1, "never", "OSError", "down"], None, ["0", *good[1:]]]
    parsed = attempt_from_headers({"mf-retry-count": 2, "mf-retry-history": history}, 3)
    assert parsed.history == (FailedAttempt(0, NOW, "OSError", "down"),)


def test_jitter_makes_few_distinct_delays_all_over_the_range() -> None:
    policy = RetryPolicy(None, 10_000, jitter=0.5)
    seen = {next_delay(policy, attempt(0), number / 1000) for number in range(1001)}
    assert sorted(seen) == [5000, 6250, 7500, 8750, 10_000, 11_250, 12_500, 13_750, 15_000]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(3, 1000), (1000,)),
        (RetryPolicy(None, 1000), (1000,)),
        (RetryPolicy(0, 1000), ()),
        (RetryPolicy(4, 1000, factor=2), (1000, 2000, 4000, 8000)),
        (RetryPolicy(9, 1000, factor=2, max_interval=3000), (1000, 2000, 3000)),
        (RetryPolicy(3, lambda failed: 5), ()),
        (RetryPolicy(2, 1000, jitter=0.1), (900, 925, 950, 975, 1000, 1025, 1050, 1075, 1100)),
    ],
)
def test_the_delays_of_a_policy_are_known_beforehand(policy: RetryPolicy, expected: tuple[int, ...]) -> None:
    assert expected_delays(policy) == expected


@pytest.mark.parametrize(
    "policy", [RetryPolicy(None, 1000, factor=1.01), RetryPolicy(100, 1000, factor=1.5, jitter=0.3)]
)
def test_no_more_delays_are_foreseen_than_one_can_keep_queues_for(policy: RetryPolicy) -> None:
    assert len(expected_delays(policy)) == 64


def test_every_delay_that_comes_is_one_of_those_foreseen() -> None:
    policy = RetryPolicy(5, 700, factor=1.7, jitter=0.4, max_interval=4000)
    expected = set(expected_delays(policy))
    for count in range(5):
        for number in range(101):
            assert next_delay(policy, attempt(count), number / 100) in expected


def test_an_error_may_decide_how_long_to_wait() -> None:
    def delay_of(failed: Attempt, error: BaseException, random: float) -> float:
        return 100 * error.args[0] + failed.retry_count + random

    policy = RetryPolicy(None, 0, delay_of=delay_of)
    assert next_delay(policy, attempt(3), 0.0, ValueError(7)) == 703
    assert expected_delays(policy) == ()
