"""The tree of errors is what its docstring draws, and every message can be read and pickled."""

import inspect
import pickle
import re

import pytest

from micro_framework import exceptions
from micro_framework.exceptions import (
    CallsAbandoned,
    ConfigError,
    CopyFailed,
    DeclarationError,
    MicroFrameworkError,
    NotInjected,
    ProblemList,
    PublishTimeout,
    RemoteError,
    ReplyQueueLost,
    RPCTimeout,
    TaskTimeout,
    TooManyCrashes,
    UnknownService,
    UnserializableValueError,
    WorkerDied,
)

TREE_LINE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)")


class HasNoRepr:
    def __repr__(self) -> str:
        raise ValueError("no repr for you")


def drawn_tree() -> dict[str, str]:
    """Every error in the module's docstring with its base."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (inspect.getdoc(exceptions) or "").splitlines()[3:]:
        if found := TREE_LINE.match(line.removeprefix("    ")):
            depth = len(found["indent"]) // 4
            path = [*path[:depth], found["name"]]
            parents[found["name"]] = path[-2] if depth else "Exception"
    return parents


def test_the_docstring_draws_every_error_under_its_base() -> None:
    assert drawn_tree() == {name: getattr(exceptions, name).__bases__[0].__name__ for name in exceptions.__all__}


def test_one_problem_stands_in_the_same_line() -> None:
    assert str(ConfigError("the configuration cannot be used", ["A is wrong"])) == (
        "the configuration cannot be used: A is wrong"
    )


def test_several_problems_stand_in_a_list() -> None:
    assert str(DeclarationError("it cannot run", ["a", "b"])) == "it cannot run:\n  - a\n  - b"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CallsAbandoned(["Orders.create"], 1.5), "1 running call did not finish within SHUTDOWN_TIMEOUT (1.5 s)"),
        (CallsAbandoned(["Orders.create", "Orders.pay"], 30), "2 running calls did not finish"),
        (CopyFailed("copy-1 was killed by SIGKILL", 2), "copy-1 was killed by SIGKILL"),
        (TooManyCrashes(4, 3), "not run any more: 4 times a worker, a service or its connection has ended"),
        (UnserializableValueError({1}), "Unserializable value: `{1}`"),
        (UnknownService("payments"), "Unknown service `payments`"),
        (RemoteError("KeyError", "'a'"), "KeyError 'a'"),
        (WorkerDied("orders.create.1", 3), "the worker process that ran call orders.create.1 ended with exit code 3"),
        (WorkerDied("orders.create.1", -11), "that ran call orders.create.1 was killed by SIGSEGV (signal 11)"),
        (WorkerDied("orders.create.1", -9), "killed by SIGKILL (signal 9: by somebody, or by the system for want of"),
        (WorkerDied("orders.create.1", -63), "was killed by signal 63"),
        (TaskTimeout("orders.create.1", 1.5), "call orders.create.1 ran longer than TASK_TIMEOUT (1.5 s)"),
        (RPCTimeout("payments", "charge", 2), "payments.charge did not answer within 2 s"),
        (
            RPCTimeout("payments", "charge", 0.25, "it is slow"),
            "payments.charge did not answer within 0.25 s: it is slow",
        ),
        (RPCTimeout("payments", "charge", 86400.0), "within 86400 s"),
        (RPCTimeout("payments", "charge", 1234567.891234), "within 1234567.891 s"),
        (
            ReplyQueueLost("payments", "charge", "q"),
            "the answer of payments.charge may be lost: the reply queue 'q' was",
        ),
        (ReplyQueueLost("payments", "charge", "q", "is on fire"), "'q' is on fire; the call may have been carried out"),
    ],
)
def test_messages_carry_their_data(error: MicroFrameworkError, text: str) -> None:
    assert text in str(error)


@pytest.mark.parametrize("value", [10**5000, HasNoRepr()], ids=["too many digits", "a repr that raises"])
def test_a_value_that_cannot_be_shown_is_named_by_its_type(value: object) -> None:
    assert str(UnserializableValueError(value)) == f"Unserializable value: `<{type(value).__name__} without a repr>`"


def test_abandoned_calls_are_named() -> None:
    assert str(CallsAbandoned(["Orders.create", "Orders.pay"], 30)).endswith("Orders.create, Orders.pay")


@pytest.mark.parametrize(("exit_code", "signal"), [(-9, 9), (0, None), (3, None)])
def test_a_worker_that_died_says_whether_a_signal_killed_it(exit_code: int, signal: int | None) -> None:
    assert WorkerDied("orders.create.1", exit_code).signal == signal


def test_a_task_timeout_is_a_timeout() -> None:
    assert issubclass(TaskTimeout, TimeoutError), "exception_list=[TimeoutError] retries it"


def test_touching_what_was_not_injected_is_an_attribute_error() -> None:
    assert issubclass(NotInjected, AttributeError), "hasattr() and getattr(..., default) must work"


@pytest.mark.parametrize(
    "error",
    [
        ProblemList("headline", ["a", "b"]),
        CallsAbandoned(["a"], 2.0),
        UnknownService("payments"),
        UnserializableValueError(object),
        RemoteError("KeyError", "a"),
        PublishTimeout("no answer"),
        WorkerDied("orders.create.1", -9),
        TaskTimeout("orders.create.1", 1.5),
        RPCTimeout("payments", "charge", 2.5, "it is slow"),
        ReplyQueueLost("payments", "charge", "q", "is on fire"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: MicroFrameworkError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_a_timeout_of_a_call_is_a_timeout_error_and_nothing_of_the_operating_systems() -> None:
    """TimeoutError is an OSError, which takes several arguments for an errno and file names."""
    error = RPCTimeout("payments", "charge", 2, "it is slow")
    assert isinstance(error, TimeoutError)
    assert error.args == (str(error),)
    assert (error.errno, error.filename) == (None, None)
