"""Which pools look out for input while they are idle."""

import pytest

from micro_framework.lookout import Lookout
from micro_framework.runner import Runner
from micro_framework.spawners.jobs import CAN_LOOK_OUT, JobQueue
from tests.spawners.laboratory import Laboratory


def lookouts_of(mode: str) -> set[Lookout | None]:
    runner = Runner([Laboratory], {"WORKER_MODE": mode, "MINE": 1})
    return {route.lookout for route in runner.assembly.routes}


@pytest.mark.parametrize("mode", ["thread", "greedy_thread"])
def test_threads_look_out_where_the_system_can_wake_one_of_those_that_wait(mode: str) -> None:
    (found,) = lookouts_of(mode)
    assert isinstance(found, JobQueue) is CAN_LOOK_OUT


def test_threads_that_wait_for_processes_do_not() -> None:
    assert lookouts_of("process") == {None}
