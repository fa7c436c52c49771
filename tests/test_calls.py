"""`Call` and `Outcome` are frozen, picklable records."""

import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from micro_framework.calls import FIRST_ATTEMPT, Attempt, Call, CallIdentity, FailedAttempt, Outcome

IDENTITY = CallIdentity("orders", "create", ("payments.charge.1", "orders.create.2"))
WHEN = datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_a_call_without_more_is_a_first_attempt_without_arguments() -> None:
    call = Call(IDENTITY)
    assert (call.args, call.kwargs, call.context, call.attempt) == ((), {}, {}, FIRST_ATTEMPT)
    assert (call.attempt.retry_count, call.attempt.last_retry, call.attempt.history) == (0, None, ())


def test_every_call_has_a_context_of_its_own() -> None:
    assert Call(IDENTITY).context is not Call(IDENTITY).context


def test_the_call_id_is_the_last_of_the_stack() -> None:
    assert IDENTITY.call_id == "orders.create.2"


@pytest.mark.parametrize(("record", "field"), [(Call(IDENTITY), "args"), (FIRST_ATTEMPT, "retry_count")])
def test_records_cannot_be_changed(record: object, field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(record, field, 1)


def test_records_cross_a_process_boundary() -> None:
    attempt = Attempt(1, WHEN, 3, (FailedAttempt(0, WHEN, "OSError", "down"),))
    call = Call(IDENTITY, ([1],), {"a": 2}, {"user_id": 7}, attempt)
    assert pickle.loads(pickle.dumps(call)) == call


def test_an_outcome_survives_pickling_with_its_error() -> None:
    outcome = pickle.loads(pickle.dumps(Outcome(error=KeyError("a"))))
    assert isinstance(outcome.error, KeyError)
    assert Outcome(5) == (5, None)
