"""Calls of threads that take too long are reported, once, with what they are doing."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from micro_framework.calls import Call, CallIdentity, Outcome
from micro_framework.spawners.overtime import Overtime, TimedRuns
from micro_framework.targets import find_target
from micro_framework.workers import Plan, RunsHere, Worker
from tests.test_workers import HOST

SECONDS = 10.0
CALL = Call(CallIdentity("orders", "slow", ("orders.slow.1",)))


class Heard(logging.Handler):
    """Waits for a line of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.came.set()


@pytest.fixture
def heard() -> Iterator[Heard]:
    logger, handler = logging.getLogger("micro_framework.spawners.overtime"), Heard()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def overtime() -> Iterator[Overtime]:
    overtime = Overtime("default", 0.05)
    overtime.start()
    yield overtime
    overtime.stop()
    assert not overtime.thread.is_alive()


def plan_of(function: Any) -> Plan:
    return Plan.of(HOST, find_target(function))


def test_a_call_that_takes_too_long_is_reported_once_with_its_stack(heard: Heard, overtime: Overtime) -> None:
    def wait_for_the_report() -> bool:
        return heard.came.wait(SECONDS)

    _, outcome = TimedRuns(RunsHere(Worker), overtime).run(plan_of(wait_for_the_report), CALL)
    assert outcome == Outcome(True)
    (record,) = heard.records
    message = record.getMessage()
    assert message.startswith(
        f"{__name__}.wait_for_the_report: call orders.slow.1 has been running for longer than TASK_TIMEOUT (0.05 s); "
        "a worker thread cannot be ended, so it goes on:\n"
    )
    assert "in wait_for_the_report\n    return heard.came.wait(SECONDS)" in message
    assert (record.levelname, record.call_id) == ("WARNING", "orders.slow.1")  # type: ignore[attr-defined]


def test_it_is_reported_once(heard: Heard) -> None:
    overtime = Overtime("default", 1e-9)
    timed = overtime.begins(plan_of(print), CALL)
    for _ in range(2):
        overtime.look()
    assert len(heard.records) == 1
    overtime.ends(timed)
    assert overtime.running == {}


def test_each_look_is_as_late_as_it_may_be() -> None:
    overtime = Overtime("default", 100)
    assert overtime.look() == 100
    overtime.begins(plan_of(print), CALL).began -= 60
    overtime.begins(plan_of(print), CALL)
    assert 39 < overtime.look() <= 40


def test_a_call_that_ends_in_time_is_not_reported(heard: Heard) -> None:
    overtime = Overtime("default", 100)
    TimedRuns(RunsHere(Worker), overtime).run(plan_of(lambda: None), CALL)
    overtime.look()
    assert (heard.records, overtime.running) == ([], {})


def test_a_call_that_could_not_be_run_is_no_longer_noted() -> None:
    class Broken:
        def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
            raise ValueError("no")

    overtime = Overtime("default", 100)
    with pytest.raises(ValueError, match="no"):
        TimedRuns(Broken(), overtime).run(plan_of(print), CALL)
    assert overtime.running == {}


def test_one_that_was_never_started_can_be_stopped() -> None:
    Overtime("default", 1).stop()
