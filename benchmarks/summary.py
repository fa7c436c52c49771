"""``python -m benchmarks.summary RESULTS.json``: a run in one Markdown table, how many times as fast as each other one.

A figure is the median of the ratios within rounds, as in the tables of the run; empty where somebody did not take part.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.plan import (
    BASE,
    CELERY,
    CELERY_PROCESSES,
    DRAMATIQ_NAME,
    DRAMATIQ_PROCESSES,
    FASTSTREAM,
    NAMEKO_3,
    OWN,
    RAW,
)
from benchmarks.ratios import Spread, ratios_in
from benchmarks.report import results_of, ruled, spread_text

__all__ = ["main", "summary"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    BASE: (BASE,),
    NAMEKO_3: (NAMEKO_3,),
    FASTSTREAM: (FASTSTREAM,),
    DRAMATIQ_NAME: (DRAMATIQ_NAME, DRAMATIQ_PROCESSES),
    CELERY: (CELERY, CELERY_PROCESSES),
    **{name: (name,) for name in RAW},
}
"""A heading, and the contestants that it stands for."""


def main(arguments: Sequence[str]) -> int:
    """Print the table of a file; the return value is the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m benchmarks.summary RESULTS.json\n")
        return 2
    print(summary(results_of(arguments[0])))
    return 0


def summary(results: Mapping[str, Any]) -> str:
    """The table.

    Args:
        results: As `benchmarks.report.as_json` makes them.
    """
    heads = ["", *(f"x {name}" for name in COLUMNS)]
    return "\n".join([*ruled(heads), *rows(results["cells"])])


def rows(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A row for each cell and each of our own ways to do it."""
    for cell in cells:
        rounds = cell["rounds"]
        for name in rounds[0]:
            if name == OWN or name.startswith(f"{OWN}, "):
                how = name.removeprefix(OWN).removeprefix(", ")
                title = f"{cell['title']} ({how})" if how else cell["title"]
                figures = [
                    spread_text(Spread.of(ratios_in(rounds, name, others)), "{:.2f}") for others in COLUMNS.values()
                ]
                if any(figures):
                    yield f"| {' | '.join([title, *figures])} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
