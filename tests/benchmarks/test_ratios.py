"""Medians of per-round ratios, and what the report makes of void runs."""

import math

from benchmarks.lives import Life
from benchmarks.plan import BASE, LOOPS, OWN, Cell
from benchmarks.ratios import Spread, cpu_of, life_ratio_of, ratio_of, voids_of
from benchmarks.report import as_json, as_markdown
from benchmarks.rounds import LifeRound, Round, turns
from benchmarks.runs import Run, Void

CELL = Cell("consume", "", 10, (OWN, BASE), 3)


def run(name: str, rate: float) -> Run:
    return Run(name, CELL.title, rate, 50.0, 2.1, 1000)


def played(own: float, base: float) -> Round:
    return {OWN: run(OWN, own), BASE: run(BASE, base)}


ROUNDS = [played(200, 100), played(900, 300), played(100, 100)]


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio_of(ROUNDS, OWN, BASE) == Spread(2.0, 1.0, 3.0, 3)


def test_a_void_run_is_left_out_of_the_ratios() -> None:
    rounds = [*ROUNDS[:2], {OWN: run(OWN, 500), BASE: Void("1 lost")}]
    assert ratio_of(rounds, OWN, BASE) == Spread(2.5, 2.0, 3.0, 2)
    assert voids_of(rounds, BASE) == ["1 lost"]
    assert ratio_of([{}], OWN, BASE) is None


def test_the_order_is_reversed_every_other_round() -> None:
    assert list(turns(("a", "b"), 3)) == [("a", "b"), ("b", "a"), ("a", "b")]


def test_the_table_shows_ratios_and_calls_void_what_is_void() -> None:
    text = as_markdown({CELL: ROUNDS}, [], {"cpus": 2})
    assert f"| {OWN} | 200 | 2.00 (1.00..3.00) |" in text
    text = as_markdown({CELL: [*ROUNDS, {OWN: Void("7 handled twice")}]}, [], {})
    assert f"| {OWN} | VOID | 7 handled twice" in text


def test_the_data_holds_every_run() -> None:
    data = as_json({CELL: [{OWN: run(OWN, 1.0), BASE: Void("lost")}]}, LIVES, {})
    assert data["cells"][0]["rounds"][0][OWN]["rate"] == 1.0
    assert data["cells"][0]["rounds"][0][BASE] == {"void": "lost"}
    assert data["lives"][0][OWN]["stop"] == 50
    assert data["lives"][1][BASE] == {"void": "left"}


def test_a_limit_has_a_column_where_it_was_measured() -> None:
    cell = Cell("consume", "", 2, (OWN, LOOPS), 1, work="compute")
    computed = {OWN: Run(OWN, cell.title, 360, math.nan, 2.1, 800, work=0.91), LOOPS: run(LOOPS, 400)}
    text = as_markdown({cell: [computed]}, [], {})
    assert "### consume, 2 workers, 5 ms CPU" in text
    assert f"| of {LOOPS} |" in text
    assert f"| {OWN} | 360 |  | 0.90 | 0.91 |  |  | 1 |" in text
    assert cpu_of([computed], OWN) is None


LIVES: list[LifeRound] = [
    {OWN: Life(OWN, 150, 35, 40, 50), BASE: Life(BASE, 200, 45, 50, 2000)},
    {OWN: Life(OWN, 100, 35, 40, 100), BASE: Void("left")},
]


def test_lives_are_compared_figure_by_figure() -> None:
    assert life_ratio_of(LIVES, OWN, BASE, "start") == Spread(0.75, 0.75, 0.75, 1)
    text = as_markdown({}, LIVES, {})
    assert f"| {OWN} | 125 (0.75) | 35 (0.78) | 40 (0.80) | 75 (0.03) | 2 |" in text
    assert f"| {BASE} | VOID: left" in text
