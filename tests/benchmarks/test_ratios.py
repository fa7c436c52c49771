"""Medians of per-round ratios, and what the report makes of void runs."""

from benchmarks.plan import BASE, OWN, Cell
from benchmarks.ratios import Spread, ratio_of, voids_of
from benchmarks.report import as_json, as_markdown
from benchmarks.rounds import Round, turns
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
    text = as_markdown({CELL: ROUNDS}, {"cpus": 2})
    assert f"| {OWN} | 200 | 2.00 (1.00..3.00) |" in text
    text = as_markdown({CELL: [*ROUNDS, {OWN: Void("7 handled twice")}]}, {})
    assert f"| {OWN} | VOID | 7 handled twice" in text


def test_the_data_holds_every_run() -> None:
    data = as_json({CELL: [{OWN: run(OWN, 1.0), BASE: Void("lost")}]}, {})
    assert data["cells"][0]["rounds"][0][OWN]["rate"] == 1.0
    assert data["cells"][0]["rounds"][0][BASE] == {"void": "lost"}
