"""What the curves tell of what was measured; and a point that is measured."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from benchmarks.curves import CURVES, Point, as_json, as_markdown, charts, growing, picture, play
from micro_framework.testing.rabbitmq import RabbitMQNode

FLAT = {"calls": [90.0, 95.0, 91.0], "cpu": [40.0, 44.0, 80.0]}
FIGURES: dict[Point, Any] = {Point(name, size): FLAT for name, curve in CURVES.items() for size in curve.sizes}


def test_a_cost_that_stays_does_not_grow() -> None:
    assert growing(FIGURES) == []


@pytest.mark.parametrize(("calls", "grows"), [([90.0, 92.0, 200.0], False), ([90.0, 101.0, 102.0], True)])
def test_a_cost_grows_where_the_middle_of_its_rounds_does(calls: list[float], grows: bool) -> None:
    figures = FIGURES | {Point("workers", 100): {"calls": calls, "cpu": [40.0]}}
    expected = ["100 workers: 101.0 calls a message, 91.0 at 1 worker"]
    assert growing(figures) == (expected if grows else [])
    assert as_json(figures, {})["growing"] == growing(figures)


def test_a_curve_has_a_row_for_each_size() -> None:
    text = as_markdown(FIGURES, {"python": "3.11"})
    assert "Measured: python 3.11." in text
    assert text.count("### ") == len(CURVES)
    assert "| 1 route | 91.0 (90.0..95.0) | 44.0 (40.0..80.0) |\n| 10 routes |" in text


def test_a_bar_is_a_multiple_of_the_first() -> None:
    figures = FIGURES | {Point("routes", 1000): {"calls": [182.0], "cpu": [22.0]}}
    calls, cpu, *_ = charts(figures).values()
    assert calls == {"1 route": 1.0, "10 routes": 1.0, "100 routes": 1.0, "1000 routes": 2.0}
    assert cpu["1000 routes"] == 0.5
    assert len(charts(figures)) == 2 * len(CURVES)
    assert ET.fromstring(picture(figures)).tag.endswith("svg")


def test_a_point_is_measured(own_node: RabbitMQNode) -> None:
    figures = play(own_node, [Point("routes", 2)], 1)
    (found,) = figures.values()
    assert 30 < found["calls"][0] < 200
    assert 5 < found["cpu"][0] < 5000
