"""A run in one table."""

import json
from pathlib import Path

import pytest

from benchmarks.plan import BASE, CELERY_PROCESSES, OWN
from benchmarks.summary import main, summary

ROUNDS = [
    {
        OWN: {"rate": 300.0},
        f"{OWN}, process": {"rate": 100.0},
        BASE: {"rate": 100.0},
        CELERY_PROCESSES: {"rate": 200.0},
    },
    {OWN: {"rate": 250.0}, f"{OWN}, process": {"void": "1 left"}, BASE: {"rate": 100.0}},
    {OWN: {"rate": 100.0}, f"{OWN}, process": {"rate": 100.0}, BASE: {"void": "1 left"}},
]
RESULTS = {"base": BASE, "cells": [{"title": "consume", "rounds": ROUNDS}]}


def test_a_figure_is_the_median_of_the_ratios_of_valid_rounds() -> None:
    assert summary(RESULTS).splitlines()[2:] == [
        "| consume | 2.75 (2.50..3.00) |  |  |  | 1.50 |  |  |",
        "| consume (process) | 1.00 |  |  |  | 0.50 |  |  |",
    ]


def test_a_table_without_anybody_else_is_left_out() -> None:
    alone = {"base": BASE, "cells": [{"title": "consume", "rounds": [{OWN: {"rate": 1.0}}]}]}
    assert len(summary(alone).splitlines()) == 2


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "results.json"
    source.write_text(json.dumps(RESULTS))
    assert main([str(source)]) == 0
    assert capsys.readouterr().out == summary(RESULTS) + "\n"
    assert main([]) == 2


def test_a_file_without_results_is_told(tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    with pytest.raises(SystemExit, match=r"results\.json: No such file or directory; expected"):
        main([str(source)])
    for text in ("{", "[]", "{}"):
        source.write_text(text)
        with pytest.raises(SystemExit, match="holds no results; expected"):
            main([str(source)])
