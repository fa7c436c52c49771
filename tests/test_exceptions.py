"""The tree of errors is what its docstring draws, and every message can be read and pickled."""

import inspect
import pickle
import re

import pytest

from micro_framework import exceptions
from micro_framework.exceptions import (
    CallsAbandoned,
    ConfigError,
    DeclarationError,
    MicroFrameworkError,
    NotInjected,
    ProblemList,
    PublishTimeout,
    RemoteError,
    TooManyCrashes,
    UnknownService,
    UnserializableValueError,
)

TREE_LINE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)")


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
        (TooManyCrashes(4, 3), "not run any more: 4 times a worker, a service or its connection has ended"),
        (UnserializableValueError({1}), "Unserializable value: `{1}`"),
        (UnknownService("payments"), "Unknown service `payments`"),
        (RemoteError("KeyError", "'a'"), "KeyError 'a'"),
    ],
)
def test_messages_carry_their_data(error: MicroFrameworkError, text: str) -> None:
    assert text in str(error)


def test_abandoned_calls_are_named() -> None:
    assert str(CallsAbandoned(["Orders.create", "Orders.pay"], 30)).endswith("Orders.create, Orders.pay")


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
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: MicroFrameworkError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
