"""What a parked message carries, and what becomes of it when it is replayed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from amqp.serialization import dumps

from micro_framework.backoff import attempt_to_headers
from micro_framework.calls import Attempt, FailedAttempt
from micro_framework.parking import (
    HEADERS_LIMIT,
    Failure,
    Parked,
    Place,
    Reason,
    copied_headers,
    crash_headers,
    crashes_of,
    first_failure_header,
    is_copy,
    parked_properties,
    parked_queue_name,
    read_parked,
    renewed_properties,
    replayed_properties,
    table_size,
)
from micro_framework.wire.messages import Properties

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
PLACE = Place("jobs", "orders", "handle", "payments.events", "refunded")
PROPERTIES = Properties("application/json", "utf-8", {"nameko.user_id": 7, "own": "kept"}, 2, 0, message_id="m1")


class CardError(Exception):
    """Raised by the tests."""


def failure(error: BaseException | None = None, reason: Reason = Reason.FAILED, **details: Any) -> Failure:
    return Failure(reason, error or CardError("expired"), NOW, **details)


def parked(
    properties: Properties = PROPERTIES, about: Failure | None = None, place: Place = PLACE, traceback: str = "trace"
) -> Properties:
    return parked_properties(properties, place, about or failure(), identifier="id-1", traceback=traceback)


def record_of(properties: Properties) -> Parked:
    found = read_parked(properties.headers)
    assert found is not None
    return found


def with_headers(headers: Mapping[str, Any], **others: Any) -> Properties:
    return replace(PROPERTIES, headers=headers, **others)


# -- the parked message


def test_what_is_known_of_the_failure_is_told() -> None:
    found = record_of(parked(about=failure(retries=2, call_id="orders.handle.1")))
    assert found == Parked(
        identifier="id-1",
        queue="jobs",
        service="orders",
        method="handle",
        exchange="payments.events",
        routing_key="refunded",
        reason="failed",
        error=f"{__name__}.CardError",
        text="expired",
        callback="",
        traceback="trace",
        attempts=3,
        crashes=0,
        first=NOW,
        last=NOW,
        call_id="orders.handle.1",
        history=(FailedAttempt(2, NOW, "CardError", "expired"),),
        withheld={},
        headers={"nameko.user_id": 7, "own": "kept"},
    )


def test_the_message_keeps_its_properties_and_its_own_headers() -> None:
    copy = parked()
    assert replace(copy, headers={}) == replace(PROPERTIES, headers={})
    assert {name: value for name, value in copy.headers.items() if not name.startswith("mf-parked-")} == {
        "nameko.user_id": 7,
        "own": "kept",
    }


def test_what_would_not_let_it_rest_is_taken_off_and_told() -> None:
    properties = with_headers(
        {"CC": ["elsewhere"], "x-death": [{"queue": "a"}], "x-delivery-count": 2, "own": 1},
        expiration="500",
        user_id="guest",
        delivery_mode=None,
    )
    copy = parked(properties)
    assert (copy.expiration, copy.user_id, copy.delivery_mode) == (None, None, 2)
    assert {"CC", "x-death", "x-delivery-count"}.isdisjoint(copy.headers)
    assert record_of(copy).withheld == {
        "CC": ["elsewhere"],
        "x-death": [{"queue": "a"}],
        "expiration": "500",
        "user_id": "guest",
        "delivery_mode": 1,
    }


def test_the_history_of_a_retried_message_is_told_and_its_origin() -> None:
    earlier = FailedAttempt(0, EARLIER, "OSError", "down")
    headers = {
        **copied_headers({"own": 1}, "payments.events", "refunded"),
        **first_failure_header({}, earlier),
        **attempt_to_headers(Attempt(1, NOW, 1, (earlier,))),
    }
    at_the_end = Place("jobs", "orders", "handle", "", "jobs")
    found = record_of(parked(with_headers(headers), failure(retries=1), at_the_end))
    assert (found.exchange, found.routing_key) == ("payments.events", "refunded")
    assert (found.first, found.last, found.attempts) == (EARLIER, NOW, 2)
    assert [entry.exc_type for entry in found.history] == ["OSError", "CardError"]
    assert found.headers == {"own": 1}


def test_the_first_time_is_known_when_the_history_has_forgotten_it() -> None:
    first = first_failure_header({}, FailedAttempt(0, EARLIER, "OSError", ""))
    assert first_failure_header(first, FailedAttempt(99, NOW, "OSError", "")) == first
    history = tuple(FailedAttempt(number, NOW, "OSError", "") for number in range(90, 100))
    headers = {**first, **attempt_to_headers(Attempt(100, NOW, None, history))}
    found = record_of(parked(with_headers(headers), failure(retries=100)))
    assert (found.first, found.attempts, len(found.history)) == (EARLIER, 101, 10)
    assert found.history[-1].attempt == 100


@pytest.mark.parametrize(
    ("about", "attempts"),
    [
        (failure(retries=3), 4),
        (failure(retries=3, crashes=1), 5),
        (failure(reason=Reason.CALLBACK_FAILED), 1),
        (failure(reason=Reason.CRASHED, crashes=3), 3),
        (failure(reason=Reason.CRASHED, crashes=3, retries=1), 4),
        (failure(reason=Reason.UNDECODABLE), 0),
    ],
)
def test_attempts_are_the_runs(about: Failure, attempts: int) -> None:
    assert record_of(parked(about=about)).attempts == attempts


def test_a_failed_callback_is_told_beside_the_error() -> None:
    found = record_of(
        parked(about=failure(reason=Reason.CALLBACK_FAILED, callback_error=KeyError("mail"), call_id="c"))
    )
    assert (found.error, found.callback) == (f"{__name__}.CardError", "KeyError: 'mail'")


def test_a_message_that_was_parked_before_tells_of_this_time_only() -> None:
    moved = parked(about=failure(OSError("first")))
    again = parked_properties(
        moved, Place("jobs", "orders", "handle", "", "jobs"), failure(), identifier="id-2", traceback=""
    )
    found = record_of(again)
    assert (found.identifier, found.text, found.exchange) == ("id-2", "expired", "payments.events")
    assert found.headers == PROPERTIES.headers


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Mute(), "<its text cannot be had>"),
        (ValueError("x" * 5000), "x" * 1999 + "…"),
        (ValueError("\udcff"), "\\udcff"),
    ],
)
def test_a_text_is_always_there_short_and_in_utf8(error: Exception, text: str) -> None:
    assert record_of(parked(about=failure(error))).text == text


# -- how much it carries


def size_of(properties: Properties) -> int:
    return len(dumps("F", [properties.headers]))


def test_the_end_of_a_long_traceback_is_kept_and_all_headers_stay_under_the_limit() -> None:
    copy = parked(about=failure(ValueError("ä" * 100_000)), traceback="ä" * 200_000 + "the end")
    assert size_of(copy) <= HEADERS_LIMIT
    traceback = record_of(copy).traceback
    assert traceback.startswith("…\nä")
    assert traceback.endswith("ä" * 100 + "the end")
    assert len(traceback.encode()) > HEADERS_LIMIT // 2


@pytest.mark.parametrize("size", [30_000, 65_000, 65_535, 70_000, 120_000])
def test_large_headers_of_its_own_are_kept_whole_and_the_essentials_are_told(size: int) -> None:
    about = failure(ValueError("x" * 3000), callback_error=ValueError("x" * 3000), retries=5)
    copy = parked(with_headers({"own": "x" * size}), about, traceback="x" * 100_000)
    found = record_of(copy)
    assert found.headers == {"own": "x" * size}
    assert (found.queue, found.error, found.attempts) == ("jobs", "ValueError", 6)
    assert size_of(copy) <= max(HEADERS_LIMIT, size + 1000)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1, "b": -(2**40), "c": None, "d": True, "e": 1.5},
        {"text": "häuser", "raw": b"\xff", "time": NOW, "money": Decimal("1.25")},
        {"list": [1, "a", [None], {"b": "c"}], "table": {"x": {"y": "z" * 300}}},
    ],
)
def test_the_size_of_a_table_is_never_underestimated(value: dict[str, Any]) -> None:
    assert len(dumps("F", [value])) <= table_size(value) <= len(dumps("F", [value])) + 8 * 10


# -- names


def test_the_queue_is_named_after_the_one_it_stands_beside() -> None:
    assert parked_queue_name("evt-a-b--c.d") == "evt-a-b--c.d.parked"


def test_a_long_name_is_cut_and_stays_different_from_others() -> None:
    first, second = (parked_queue_name("ä" * 124 + last) for last in "ab")
    assert parked_queue_name("q" * 248) == "q" * 248 + ".parked"
    assert len(first.encode()) <= 255
    assert first.endswith(".parked")
    assert first != second


# -- crashes


@pytest.mark.parametrize(
    ("headers", "redelivered", "crashes"),
    [
        ({}, True, 0),
        ({"mf-crashes": 2}, False, 2),
        ({"x-delivery-count": 2}, True, 2),
        ({"mf-crashes": 1, "x-delivery-count": 2}, True, 3),
        ({"x-delivery-count": 2}, False, 0),
        ({"mf-crashes": "many", "x-delivery-count": -1}, True, 0),
        ({"nameko.mf-crashes": 2}, True, 0),
    ],
)
def test_crashes_are_what_we_and_the_queue_have_counted(
    headers: dict[str, Any], redelivered: bool, crashes: int
) -> None:
    assert crashes_of(headers, redelivered=redelivered) == crashes


def test_a_crash_is_counted_and_noted_in_the_history() -> None:
    first = crash_headers({}, 1, FailedAttempt(0, EARLIER, "WorkerDied", "killed"))
    second = crash_headers(first, 2, FailedAttempt(0, NOW, "WorkerDied", "killed"))
    found = record_of(parked(with_headers(second), failure(reason=Reason.CRASHED, crashes=3)))
    assert (found.first, found.crashes) == (EARLIER, 3)
    assert [entry.exc_type for entry in found.history] == ["WorkerDied", "WorkerDied", "CardError"]


def test_a_count_alone_leaves_the_history_as_it_is() -> None:
    assert crash_headers({"mf-retry-history": []}, 2) == {"mf-crashes": 2}


# -- copies


def test_a_copy_says_where_it_came_from_and_goes_to_one_queue() -> None:
    headers = {"own": 1, "mf-retry-count": 1, "BCC": ["a"], "x-first-death-queue": "a", "mf-parked-id": "old"}
    copy = copied_headers(headers, "payments.events", "refunded")
    assert copy == {
        "own": 1,
        "mf-retry-count": 1,
        "mf-exchange": "payments.events",
        "mf-routing-key": "refunded",
    }
    assert copied_headers(copy, "", "jobs") == copy
    assert (is_copy(headers), is_copy(copy)) == (False, True)


def test_names_of_headers_that_are_not_utf8_are_kept() -> None:
    headers: dict[Any, Any] = {b"\xff": 1}
    assert copied_headers(headers, "", "jobs")[b"\xff"] == 1  # type: ignore[index]
    assert record_of(parked(with_headers(headers))).headers == headers


# -- reading and replaying


@pytest.mark.parametrize(
    "headers", [{}, {"mf-parked-id": "a"}, {"mf-parked-queue": "a"}, {"mf-parked-id": 1, "mf-parked-queue": "a"}]
)
def test_a_message_that_was_not_parked_by_us_is_none(headers: dict[str, Any]) -> None:
    assert read_parked(headers) is None


def test_fields_of_another_kind_are_empty() -> None:
    wrong = {name: object() for name in ("text", "attempts", "first", "history", "withheld")}
    headers = {
        "mf-parked-id": "a",
        "mf-parked-queue": "q",
        **{f"mf-parked-{name}": each for name, each in wrong.items()},
    }
    found = read_parked(headers)
    assert found is not None
    assert (found.text, found.attempts, found.first, found.history, found.withheld) == ("", 0, None, (), {})


def test_a_replayed_message_is_what_it_was_and_begins_anew() -> None:
    headers = {"own": 1, "mf-crashes": 1, **attempt_to_headers(Attempt(3, NOW, 3))}
    copy = parked(with_headers(headers, expiration="500", delivery_mode=1), failure(retries=3))
    replayed = replayed_properties(copy, record_of(copy))
    assert replayed == with_headers(
        {"own": 1, "mf-exchange": "payments.events", "mf-routing-key": "refunded"}, expiration="500", delivery_mode=1
    )


def test_a_replayed_message_goes_to_its_queue_alone_and_as_nobody() -> None:
    copy = parked(with_headers({"CC": ["elsewhere"]}, user_id="guest"))
    replayed = replayed_properties(copy, record_of(copy))
    assert "CC" not in replayed.headers
    assert replayed.user_id is None


def test_a_renewed_message_is_only_without_the_brokers_marks() -> None:
    copy = parked()
    seen = replace(copy, headers={**copy.headers, "x-delivery-count": 12})
    assert renewed_properties(seen) == copy
