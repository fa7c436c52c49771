"""The picture shows what was measured, to scale."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benchmarks.plan import BASE, OWN
from benchmarks.plot import main, picture

SVG = "{http://www.w3.org/2000/svg}"
ROUNDS = [
    {OWN: {"rate": 300.0}, BASE: {"rate": 100.0}, "raw <kombu>": {"rate": 50.0}},
    {OWN: {"rate": 250.0}, BASE: {"rate": 100.0}, "raw <kombu>": {"void": "1 lost"}},
    {OWN: {"rate": 100.0}, BASE: {"void": "1 left"}, "raw <kombu>": {"rate": 50.0}},
]
RESULTS: dict[str, Any] = {"base": BASE, "cells": [{"title": "consume", "rounds": ROUNDS}]}


def test_each_contestant_has_a_bar_as_long_as_its_median_multiple() -> None:
    root = ET.fromstring(picture(RESULTS))
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect")]
    assert [round(width / widths[1], 2) for width in widths] == [2.75, 1.0, 0.5]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == ["consume", OWN, "2.75", BASE, "1.00", "raw <kombu>", "0.50"]
    (line,) = root.iter(f"{SVG}line")
    assert float(line.attrib["x1"]) - widths[1] == float(next(iter(root.iter(f"{SVG}rect"))).attrib["x"])


def test_a_cell_in_which_everything_is_void_is_left_out() -> None:
    void = {"base": BASE, "cells": [{"title": "consume", "rounds": [{OWN: {"void": "1 lost"}}]}]}
    assert not list(ET.fromstring(picture(void)).iter(f"{SVG}text"))


def test_the_command_draws_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / "results.json", tmp_path / "plot.svg"
    source.write_text(json.dumps(RESULTS))
    assert main([str(source), str(target)]) == 0
    assert target.read_text() == picture(RESULTS)
    assert main([]) == 2


def test_the_command_draws_the_tables_that_are_named(tmp_path: Path) -> None:
    source, target = tmp_path / "results.json", tmp_path / "plot.svg"
    two = [*RESULTS["cells"], {"title": "publish", "rounds": ROUNDS}]
    source.write_text(json.dumps(RESULTS | {"cells": two}))
    assert main([str(source), str(target), "consume"]) == 0
    assert target.read_text() == picture(RESULTS)
    assert main([str(source), str(target), "nothing"]) == 2
