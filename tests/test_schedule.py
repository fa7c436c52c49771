"""The grid of a timer."""

import pytest

from micro_framework.schedule import next_on_grid


@pytest.mark.parametrize(
    ("start", "interval", "now", "expected"),
    [
        (100, 10, 100, 110),
        (100, 10, 109.9, 110),
        (100, 10, 110, 120),
        (100, 10, 111, 120),
        (100, 10, 147, 150),
        (100, 10, 90, 110),
        (0, 0.25, 0.3, 0.5),
    ],
)
def test_the_next_point_lies_on_the_grid_after_now(start: float, interval: float, now: float, expected: float) -> None:
    assert next_on_grid(start, interval, now) == expected


def test_a_million_ticks_do_not_drift() -> None:
    now = 0.0
    for _ in range(1000):
        now = next_on_grid(0.0, 0.1, now + 0.03)
    assert now == pytest.approx(100.0, abs=1e-6)
