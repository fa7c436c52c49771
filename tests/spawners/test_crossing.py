"""Calls on their way to a worker process, and outcomes on their way back."""

import pickle
import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from micro_framework.calls import FIRST_ATTEMPT, Attempt, Call, CallIdentity, FailedAttempt, Outcome
from micro_framework.exceptions import NotPicklable
from micro_framework.spawners.crossing import (
    Answer,
    Request,
    ReturnedCall,
    Role,
    pack_answer,
    pack_call,
    pack_request,
    type_name,
    unpack_answer,
    unpack_call,
    unpack_request,
)
from micro_framework.spawners.failures import failure_of, rebuilt
from micro_framework.targets import find_target

NOW = datetime(2026, 1, 2, tzinfo=UTC)
IDENTITY = CallIdentity("orders", "create", ("web.get.1", "orders.create.2"), "web.get.1", "web.get.1")
CALL = Call(IDENTITY, ({"id": 1},), {"deep": (1, 2)}, {"user_id": 7})


class Orders:
    def create(self) -> None:
        """What the calls are of."""


TARGET = find_target(Orders, "create")
WHERE = "worker process mf-process-default-0 (pid 1)"


class Stubborn:
    """Pickles, and does not unpickle."""

    def __reduce__(self) -> Any:
        return fail, ()


def fail() -> None:
    raise RuntimeError("not here")


@pytest.mark.parametrize(
    "call",
    [CALL, replace(CALL, attempt=Attempt(2, NOW, 5, (FailedAttempt(0, NOW, "ValueError", "no"),))), Call(IDENTITY)],
)
def test_a_call_arrives_as_it_was(call: Call) -> None:
    arrived = unpack_call(pack_call(call))
    assert arrived == call
    assert isinstance(arrived.identity, CallIdentity)


def test_a_first_attempt_costs_nothing() -> None:
    assert unpack_call(pack_call(CALL)).attempt is FIRST_ATTEMPT


@pytest.mark.parametrize(
    ("args", "culprit"),
    [
        ((threading.Lock(),), "_thread.lock"),
        (({"a": [1, {"lock": threading.Lock()}]},), "_thread.lock"),
        ((lambda: None,), "function"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_target(args: tuple[Any, ...], culprit: str) -> None:
    with pytest.raises(NotPicklable) as caught:
        pack_call(replace(CALL, args=args))
    assert str(caught.value).startswith(
        f"an argument of orders.create cannot be sent to a worker process: {culprit} cannot be pickled ("
    )


@pytest.mark.parametrize("failure", [None, failure_of(ValueError("no"))])
def test_a_request_arrives_as_it_was(failure: Any) -> None:
    request = Request(3, Role.CALLBACK, True, b"call", failure, True)
    assert unpack_request(pack_request(request)) == request


def over(outcome: Outcome, *, left: Call | None = None, request: Request | None = None, call: Call = CALL) -> Answer:
    """The answer to a request as the service gets it."""
    asked = request or Request(0, Role.TARGET, True, pack_call(call))
    received = unpack_call(asked.call)
    frame = pack_answer(asked, received, received if left is None else left, outcome)
    return unpack_answer(frame, call, WHERE, TARGET)


@pytest.mark.parametrize("result", [None, 5, "text", [1, {"a": Decimal("1.5")}], (1, 2), NOW, IDENTITY])
def test_a_result_arrives_as_it_was(result: object) -> None:
    answer = over(Outcome(result))
    assert answer == Answer(CALL, Outcome(result))
    assert type(answer.outcome.result) is type(result)


def test_a_result_that_nobody_wants_stays_behind() -> None:
    answer = over(Outcome(threading.Lock()), request=Request(0, Role.TARGET, False, pack_call(CALL)))
    assert answer == Answer(CALL, Outcome())


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (threading.Lock(), "_thread.lock cannot be pickled (TypeError: cannot pickle '_thread.lock' object)"),
        ({"rows": [lambda: None]}, "function cannot be pickled ("),
        (Stubborn(), "RuntimeError: not here"),
    ],
)
def test_a_result_that_cannot_be_sent_is_an_error_that_names_its_type(result: object, told: str) -> None:
    answer = over(Outcome(result))
    assert isinstance(answer.outcome.error, NotPicklable)
    assert str(answer.outcome.error) == answer.dropped
    assert str(answer.dropped).startswith("the result of Orders.create cannot be sent from its worker process: ")
    assert told in str(answer.dropped)


def test_an_error_arrives_with_where_it_was_raised() -> None:
    error = over(Outcome(error=ValueError("no"))).outcome.error
    assert isinstance(error, ValueError)
    assert error.__notes__[0].startswith(f"in {WHERE}:")


# -- the call on its way back, for the callback

FOR_CALLBACK = Request(0, Role.TARGET, False, pack_call(CALL), returned=True)


def test_a_call_that_nothing_changed_does_not_come_back() -> None:
    assert over(Outcome(5)).call is CALL
    assert over(Outcome(error=ValueError("no"))).call is CALL


def test_a_failed_call_comes_back_for_its_callback_as_the_target_left_it() -> None:
    left = replace(CALL, context={"user_id": 7, "added": 1})
    call = over(Outcome(error=ValueError("no")), left=left, request=FOR_CALLBACK).call
    assert isinstance(call, ReturnedCall)
    assert (call.identity, call.context) == (IDENTITY, {"user_id": 7, "added": 1})
    assert unpack_call(pack_call(call)) == left


def test_a_translated_call_comes_back_for_who_looks_on() -> None:
    assert over(Outcome(5), left=replace(CALL, args=(6,))).call.args == (6,)


def test_what_is_not_known_in_the_service_goes_on_to_the_callback_all_the_same() -> None:
    left = replace(CALL, args=(Stubborn(),))
    call = over(Outcome(error=ValueError("no")), left=left, request=FOR_CALLBACK).call
    assert call.args == CALL.args, "who looks on sees what was sent"
    assert b"fail" in pack_call(call), "the callback gets what the target had"


def test_what_cannot_come_back_fails_the_callback_by_name() -> None:
    left = replace(CALL, args=(threading.Lock(),))
    call = over(Outcome(error=ValueError("no")), left=left, request=FOR_CALLBACK).call
    with pytest.raises(NotPicklable, match=r"an argument of orders\.create .* _thread\.lock cannot be pickled"):
        pack_call(replace(call, kwargs={"exception": ValueError("no")}))


def test_a_call_that_could_not_be_unpacked_is_answered_too() -> None:
    frame = pack_answer(FOR_CALLBACK, None, None, Outcome(error=NotPicklable("an argument")))
    assert isinstance(unpack_answer(frame, CALL, WHERE, TARGET).outcome.error, NotPicklable)


def test_the_outside_of_a_frame_holds_nothing_of_the_users() -> None:
    frame = pack_answer(FOR_CALLBACK, CALL, replace(CALL, args=(Stubborn(),)), Outcome(error=ValueError(Stubborn())))
    assert len(pickle.loads(frame)) == 3


@pytest.mark.parametrize(
    ("value", "name"), [(5, "int"), (NOW, "datetime.datetime"), (Stubborn(), f"{__name__}.Stubborn")]
)
def test_types_go_by_their_names(value: object, name: str) -> None:
    assert type_name(value) == name


def test_an_error_for_the_callback_loses_nothing() -> None:
    error = rebuilt(failure_of(ValueError("no", 5)), where=None)
    assert (type(error), error.args) == (ValueError, ("no", 5))
