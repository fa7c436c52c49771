"""`AsyncBackOff` as a declaration; at work it is tested with the routes and, on brokers, with the AMQP entrypoints."""

from typing import Any

import pytest

from micro_framework.calls import Attempt
from micro_framework.retry import AsyncBackOff


def test_the_seeds_arguments_make_a_constant_delay_without_jitter() -> None:
    policy = AsyncBackOff(max_retries=5, interval=10_000, exception_list=None).policy
    assert (policy.max_retries, policy.interval, policy.exceptions) == (5, 10_000, None)
    assert (policy.factor, policy.max_interval, policy.jitter) == (1.0, None, 0.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_retries": 0, "interval": 0},
        {"max_retries": None, "interval": 1.5},
        {"max_retries": 3, "interval": lambda failed: 1000},
        {"max_retries": 3, "interval": 1, "exception_list": [OSError, "requests.Timeout"]},
        {"max_retries": 3, "interval": 1, "exception_list": []},
        {"max_retries": 3, "interval": 1, "factor": 2, "max_interval": 60_000, "jitter": 1},
    ],
)
def test_sensible_arguments_are_no_problem(arguments: dict[str, Any]) -> None:
    assert AsyncBackOff(**arguments).problems() == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_retries": -1}, "max_retries must be 0 or more, or None for ever, not -1"),
        ({"max_retries": 1.5}, "max_retries must be"),
        ({"max_retries": True}, "max_retries must be"),
        ({"interval": -1}, "interval must be milliseconds, 0 or more, or a callable, not -1"),
        ({"interval": "10"}, "interval must be"),
        ({"factor": 0}, "factor must be greater than 0, not 0"),
        ({"factor": "2"}, "factor must be"),
        ({"max_interval": -1}, "max_interval must be"),
        ({"max_interval": "9"}, "max_interval must be"),
        ({"jitter": 1.1}, "jitter must be a share from 0 to 1, not 1.1"),
        ({"jitter": None}, "jitter must be"),
        ({"exception_list": [int]}, "exception_list must hold exception classes or dotted names"),
        ({"exception_list": [OSError()]}, "exception_list must hold"),
    ],
)
def test_each_wrong_argument_is_one_problem_that_names_it(arguments: dict[str, Any], problem: str) -> None:
    (found,) = AsyncBackOff(**{"max_retries": 3, "interval": 1000, **arguments}).problems()
    assert found.startswith(f"AsyncBackOff: {problem}")


def test_all_problems_are_told_at_once() -> None:
    assert len(AsyncBackOff(max_retries=-1, interval=-1, factor=0, jitter=2).problems()) == 4


def test_a_callable_interval_gets_what_backoff_data_gives() -> None:
    interval = AsyncBackOff(3, lambda failed: failed.retry_count * 7).policy.interval
    assert callable(interval)
    assert interval(Attempt(retry_count=2)) == 14


def test_one_exception_needs_no_list() -> None:
    assert AsyncBackOff(1, 1, ValueError).policy.exceptions == (ValueError,)  # type: ignore[arg-type]


@pytest.mark.parametrize("exceptions", ["ValueError", ["ValueError"]])
def test_a_name_without_a_module_would_match_nothing(exceptions: list[str]) -> None:
    (problem,) = AsyncBackOff(1, 1, exceptions).problems()
    assert "dotted names (builtins.TimeoutError), not ('ValueError',)" in problem
