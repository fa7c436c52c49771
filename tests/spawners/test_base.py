"""What the names of the worker modes mean."""

import pytest

from micro_framework.spawners.base import WORKER_MODES, is_greedy, uses_processes


@pytest.mark.parametrize(
    ("mode", "greedy"), [("thread", False), ("greedy_thread", True), ("process", False), ("greedy_process", True)]
)
def test_which_modes_are_greedy(mode: str, greedy: bool) -> None:
    assert is_greedy(mode) is greedy


def test_which_modes_use_processes() -> None:
    assert [uses_processes(mode) for mode in WORKER_MODES] == [False, False, True, True]
