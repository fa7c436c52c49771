"""The word *greedy*."""

import pytest

from micro_framework.spawners.base import is_greedy


@pytest.mark.parametrize(
    ("mode", "greedy"), [("thread", False), ("greedy_thread", True), ("process", False), ("greedy_process", True)]
)
def test_which_modes_are_greedy(mode: str, greedy: bool) -> None:
    assert is_greedy(mode) is greedy
