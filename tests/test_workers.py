"""One call of one target: dependencies, translators, outcome."""

from dataclasses import replace
from typing import Any

import pytest

from micro_framework.calls import Attempt, Call, CallIdentity, Outcome
from micro_framework.config import Settings
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.exceptions import IncorrectSignature
from micro_framework.extensions import Host, Lifecycle, SharedExtensions
from micro_framework.targets import find_target
from micro_framework.testing import ManualClock
from micro_framework.translators import JSONTranslator, MessageTranslator
from micro_framework.workers import DependencyFailure, Plan, RunsHere, Worker

HOST = Host(Settings(), "orders", "default", 1, 1, ManualClock(), Lifecycle(), SharedExtensions())
IDENTITY = CallIdentity("orders", "create", ("orders.create.1",))
CALL = Call(IDENTITY, ("5",), {}, {"user_id": 7}, Attempt(2))


class Tracked(Dependency[str]):
    """Writes down what it is told."""

    def __init__(self, given: str = "given", *, gives: BaseException | None = None, ends: BaseException | None = None):
        self.given, self.gives, self.ends = given, gives, ends
        self.heard: list[tuple[Any, BaseException | None]] = []

    def get_dependency(self, worker: RunningCall) -> str:
        if self.gives is not None:
            raise self.gives
        return f"{self.given} to {worker.call.identity.method} of {worker.host.service}"

    def after_call(self, worker: RunningCall, result: Any, exc: BaseException | None) -> None:
        self.heard.append((result, exc))
        if self.ends is not None:
            raise self.ends


class Silent(Dependency[int]):
    def get_dependency(self, worker: RunningCall) -> int:
        return 1


class Fail(MessageTranslator):
    def translate_message(self, message: Any) -> Any:
        raise ValueError("untranslatable")


def worker(target: Any, *translators: MessageTranslator, **dependencies: Dependency[Any]) -> Worker:
    return Worker(Plan.of(HOST, find_target(target, None, dependencies), translators), CALL)


def echo(payload: Any, **given: Any) -> tuple[Any, dict[str, Any]]:
    return payload, given


def failing(error: BaseException) -> Any:
    def fail(payload: Any, **given: Any) -> None:
        raise error

    return fail


def test_the_target_gets_payload_and_dependencies() -> None:
    outcome = worker(echo, tracked=Tracked(), silent=Silent()).run()
    assert outcome == Outcome(("5", {"tracked": "given to create of orders", "silent": 1}))


def test_translators_change_the_payload_and_nothing_else() -> None:
    translated = worker(echo, JSONTranslator())
    assert translated.run().result == (5, {})
    assert translated.call == Call(IDENTITY, (5,), {}, {"user_id": 7}, Attempt(2))


def test_a_failing_translator_is_a_failure_of_the_call() -> None:
    tracked = Tracked()
    outcome = worker(echo, Fail(), tracked=tracked).run()
    assert str(outcome.error) == "untranslatable"
    assert tracked.heard == []  # nor was it asked for anything


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_target_raises_is_its_outcome(error: BaseException) -> None:
    tracked = Tracked()
    assert worker(failing(error), tracked=tracked).run() == Outcome(None, error)
    assert tracked.heard == [(None, error)]


def test_dependencies_hear_of_the_result() -> None:
    tracked = Tracked()
    result = worker(echo, tracked=tracked).run().result
    assert tracked.heard == [(result, None)]


def test_only_dependencies_with_an_after_call_are_told() -> None:
    plan = Plan.of(HOST, find_target(echo, None, {"tracked": (tracked := Tracked()), "silent": Silent()}))
    assert plan.observed == (tracked,)


@pytest.mark.parametrize("error", [OSError("database down"), SystemExit("database down")])
def test_a_dependency_that_cannot_be_had_keeps_the_target_from_running(error: BaseException) -> None:
    ran, before, after = list[Any](), Tracked(), Tracked()
    outcome = worker(lambda payload, **given: ran.append(payload), a=before, b=Tracked(gives=error), c=after).run()
    assert isinstance(outcome.error, DependencyFailure)
    assert str(outcome.error) == f"b (Tracked): {type(error).__name__}: database down"
    assert outcome.error.__cause__ is error
    assert ran == []
    assert before.heard == [(None, outcome.error)], "what was given must be told, so that it can clean up"
    assert after.heard == []


def test_a_failing_after_call_fails_the_call_and_the_others_still_hear() -> None:
    first, second, error = Tracked(), Tracked(), ValueError("no commit")
    outcome = worker(echo, failing=Tracked(ends=error), second=second, first=first).run()
    assert outcome == Outcome(None, error)
    assert first.heard == second.heard == [(None, error)]


def test_a_failing_after_call_does_not_hide_the_targets_error() -> None:
    error = ValueError("no")
    assert worker(failing(error), tracked=Tracked(ends=OSError("no rollback"))).run().error is error
    assert error.__notes__ == ["then after_call of Tracked failed: OSError: no rollback"]


def test_calls_run_in_a_worker_of_the_class_that_was_named() -> None:
    class Doubled(Worker):
        def run(self) -> Outcome:
            return Outcome((super().run().result, "again"))

    plan = Plan.of(HOST, find_target(echo), (JSONTranslator(),))
    call, outcome = RunsHere(Doubled).run(plan, CALL)
    assert (call.args, outcome) == ((5,), Outcome(((5, {}), "again")))


# -- calls whose arguments a caller chooses


def called(target: Any, *translators: MessageTranslator, **dependencies: Dependency[Any]) -> Worker:
    found = find_target(target, None, dependencies)
    return Worker(Plan.of(HOST, found, translators, called_from_outside=True), CALL)


class Numbers(MessageTranslator):
    def translate_message(self, message: Any) -> Any:
        assert isinstance(message, Call)
        return replace(message, args=tuple(map(int, message.args)))


class Nothing(MessageTranslator):
    def translate_message(self, message: Any) -> Any:
        return None


def test_translators_of_a_target_that_is_called_get_the_whole_call() -> None:
    translated = called(echo, Numbers())
    assert translated.run().result == (5, {})
    assert translated.call == replace(CALL, args=(5,))


def test_translators_of_a_target_that_is_called_give_a_call_back() -> None:
    outcome = called(echo, Nothing()).run()
    assert isinstance(outcome.error, TypeError)
    assert "get the Call and return one, not NoneType" in str(outcome.error)


def test_a_callers_arguments_are_checked_before_any_dependency_is_asked() -> None:
    def two(a: Any, b: Any, tracked: Any = None) -> None: ...

    tracked = Tracked(gives=OSError("asked"))
    outcome = called(two, tracked=tracked).run()
    assert isinstance(outcome.error, IncorrectSignature)
    assert str(outcome.error) == "two() missing 1 required positional argument: 'b'"
    assert tracked.heard == []


def test_what_an_entrypoint_itself_gives_is_not_checked_again() -> None:
    assert Plan.of(HOST, find_target(echo, None, {})).check is None
