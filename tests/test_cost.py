"""What a message costs on the hot paths, in calls of Python functions: no timing, so a slow machine changes nothing.

Counted with `threading.setprofile` on every thread of the framework, at RabbitMQ, for many messages and for few; the
difference is what the messages cost, without start and stop. How many messages come or go in one read or write depends
on chance, so each bound leaves a tenth above the most that was seen, where nothing depends on it a twentieth. Python
3.12 and 3.13 make fewer calls for the same: their comprehensions are no calls (PEP 709).

That nothing grows is held beside many routes, workers, contexts and waiting calls by the same bound as without them;
``python -m benchmarks.curves`` shows the whole curves.
"""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.costs import CallMeter, call, consume, consume_singly, publish, publish_many
from micro_framework.testing.broker_state import VHost

FEW, MANY = 50, 350
LEAST = 20
"""No path costs less: a figure below it means that something was not counted."""
HANDLED, CALLED = 62, 380
"""Bounds for an event with 10 workers, and for a call with one caller."""


def per_message(run: Callable[..., None], vhost: VHost, **options: Any) -> tuple[float, str]:
    """What one message costs, and the functions that are called the most for it."""
    few, many = CallMeter(), CallMeter()
    run(vhost, FEW, few, **options)
    run(vhost, MANY, many, **options)
    number = MANY - FEW
    each = (many.by_function - few.by_function).most_common(40)
    shown = ", ".join(f"{name} {count / number:.2f}" for name, count in each if count > number / 20)
    return (many.total - few.total) / number, shown


@pytest.mark.parametrize(
    "beside",
    [{}, {"routes": 200}, {"workers": 100}, {"contexts": 8}],
    ids=["alone", "routes", "workers", "contexts"],
)
def test_handling_an_event(rabbit: VHost, beside: dict[str, int]) -> None:
    cost, shown = per_message(consume, rabbit, **beside)
    assert LEAST < cost < HANDLED, shown


@pytest.mark.parametrize(("mode", "bound"), [("thread", 72), ("process", 83)])
def test_handling_one_event_at_a_time(rabbit: VHost, mode: str, bound: float) -> None:
    cost, shown = per_message(consume_singly, rabbit, mode=mode)
    assert LEAST < cost < bound, shown


@pytest.mark.parametrize(("threads", "bound"), [(1, 97), (10, 90)])
def test_publishing_an_event_with_its_confirm(rabbit: VHost, threads: int, bound: float) -> None:
    cost, shown = per_message(publish, rabbit, threads=threads)
    assert LEAST < cost < bound, shown


def test_publishing_many_events(rabbit: VHost) -> None:
    cost, shown = per_message(publish_many, rabbit)
    assert LEAST < cost < 34, shown


@pytest.mark.parametrize(("callers", "bound"), [(1, CALLED), (10, 293)])
def test_calling_a_service(rabbit: VHost, callers: int, bound: float) -> None:
    cost, shown = per_message(call, rabbit, callers=callers)
    assert LEAST < cost < bound, shown


def test_calling_a_service_costs_the_same_while_other_calls_wait(rabbit: VHost) -> None:
    cost, shown = per_message(call, rabbit, pending=200)
    assert LEAST < cost < CALLED, shown
