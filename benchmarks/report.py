"""Figures as a Markdown table for people and as JSON for programs."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.lives import FIGURES
from benchmarks.plan import BASE, LIVES_TITLE, LOOPS, OWN_SINGLE, RAW, Cell
from benchmarks.ratios import (
    Spread,
    cpu_of,
    life_of,
    life_ratio_of,
    percentile_of,
    rate_of,
    ratio_of,
    voids_of,
    work_of,
)
from benchmarks.rounds import LifeRound, Round
from benchmarks.runs import Void

__all__ = ["RESULTS", "as_json", "as_markdown", "environment", "results_of", "ruled", "spread_text", "tell", "write"]

Results = Mapping[Cell, Sequence[Round]]

RESULTS = Path(__file__).resolve().parent / "results"
WORK = "work"
LIMITS = (*RAW, LOOPS, OWN_SINGLE)
"""What the others are shown as multiples of, where it is in the table: limits, and the same on one core."""


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("kombu", "amqp")},
    }


def tell(line: str) -> None:
    """Progress goes to stderr, the tables to stdout."""
    print(line, file=sys.stderr, flush=True)


def write(folder: Path, title: str, **texts: str) -> None:
    """Write texts into a folder, made if need be, under one name with the time in it.

    Args:
        folder: The folder.
        title: What the name begins with.
        texts: By the ending of the file's name; ``md`` is printed, too.
    """
    print(texts["md"], flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / datetime.now(UTC).strftime(f"{title}%Y%m%d-%H%M%S")
    for ending, text in texts.items():
        stem.with_suffix(f".{ending}").write_text(text + "\n")
    tell(f"written: {stem}.{{{','.join(texts)}}}")


def as_markdown(results: Results, lives: Sequence[LifeRound], facts: Mapping[str, Any]) -> str:
    """One table for each cell, and one of the lives if there were any."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    tables = [line for cell, rounds in results.items() for line in table(cell, rounds)]
    return "\n".join([f"Measured: {told}.", *tables, *(life_table(lives) if lives else [])])


def table(cell: Cell, rounds: Sequence[Round]) -> list[str]:
    """A cell's table."""
    limits = [limit for limit in LIMITS if limit in cell.contestants]
    heads = ["", "messages/s", f"x {BASE}", *(f"of {limit}" for limit in limits)]
    if cell.work == "compute":
        limits.append(WORK)
        heads.append("cores' time in the work")
    heads += ["p50 / p99 ms", "CPU us/message", "rounds"]
    return ["", f"### {cell.title}", "", *ruled(heads), *(row(rounds, name, limits) for name in cell.contestants)]


def ruled(heads: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]


def row(rounds: Sequence[Round], name: str, limits: Sequence[str]) -> str:
    """A contestant's row; a void run is shown, whatever the others measured."""
    voids = voids_of(rounds, name)
    if voids:
        return f"| {name} | VOID | {'; '.join(voids)[:200]} {'| ' * (len(limits) + 2)}| {len(rounds)} |"
    rate, cpu = rate_of(rounds, name), cpu_of(rounds, name)
    ratios = [
        spread_text(work_of(rounds, name) if other is WORK else ratio_of(rounds, name, other), "{:.2f}")
        for other in (BASE, *limits)
    ]
    cells = [name, middle(rate), *ratios, latency(rounds, name), middle(cpu), str(len(rounds))]
    return f"| {' | '.join(cells)} |"


def life_table(rounds: Sequence[LifeRound]) -> list[str]:
    """The lives' table: each figure, and its ratio to the base."""
    heads = ["", *(f"{title} (x {BASE})" for title in FIGURES.values()), "rounds"]
    return ["", f"### {LIVES_TITLE}", "", *ruled(heads), *(life_row(rounds, name) for name in rounds[0])]


def life_row(rounds: Sequence[LifeRound], name: str) -> str:
    """A contestant's row of the lives' table."""
    voids = voids_of(rounds, name)
    if voids:
        return f"| {name} | VOID: {'; '.join(voids)[:200]} {'| ' * len(FIGURES)}{len(rounds)} |"
    figures = [
        f"{middle(life_of(rounds, name, field))} ({spread_text(life_ratio_of(rounds, name, BASE, field), '{:.2f}')})"
        for field in FIGURES
    ]
    return f"| {' | '.join([name, *figures, str(len(rounds))])} |"


def latency(rounds: Sequence[Round], name: str) -> str:
    """``0.65 / 1.2``; empty where nothing was published or called."""
    p50, p99 = percentile_of(rounds, name, "p50"), percentile_of(rounds, name, "p99")
    return f"{p50.median:.3g} / {p99.median:.3g}" if p50 and p99 else ""


def middle(spread: Spread | None) -> str:
    return f"{spread.median:,.0f}" if spread else ""


def spread_text(spread: Spread | None, pattern: str) -> str:
    """``1.52 (1.41..1.60)``; of a single round the figure alone."""
    if spread is None:
        return ""
    text = pattern.format(spread.median)
    if spread.count == 1:
        return text
    return f"{text} ({pattern.format(spread.least)}..{pattern.format(spread.greatest)})"


def as_json(results: Results, lives: Sequence[LifeRound], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, run by run."""
    return {
        "environment": dict(facts),
        "base": BASE,
        "cells": [
            {"title": cell.title, "rounds": [plain(played) for played in rounds]} for cell, rounds in results.items()
        ],
        "lives": [plain(played) for played in lives],
    }


def results_of(path: str) -> dict[str, Any]:
    """What `as_json` made, read from a file.

    Raises:
        SystemExit: It is not such a file; the message says why.
    """
    try:
        results: dict[str, Any] = json.loads(Path(path).read_text())
        if not isinstance(results["cells"], list):
            raise TypeError
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}; expected a file of benchmarks/results/") from error
    except (ValueError, LookupError, TypeError):
        raise SystemExit(f"{path} holds no results; expected a .json of benchmarks/results/") from None
    return results


def plain(played: Round | LifeRound) -> dict[str, Any]:
    """A round without classes."""
    return {
        name: {"void": str(result)} if isinstance(result, Void) else result.as_dict() for name, result in played.items()
    }
