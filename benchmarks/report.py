"""Figures as a Markdown table for people and as JSON for programs."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from benchmarks.plan import BASE, RAW, Cell
from benchmarks.ratios import Spread, cpu_of, percentile_of, rate_of, ratio_of, voids_of
from benchmarks.rounds import Round
from benchmarks.runs import Run

__all__ = ["as_json", "as_markdown", "environment"]

Results = Mapping[Cell, Sequence[Round]]

HEADER = f"| | messages/s | x {BASE} | of raw kombu | of raw py-amqp | p50 / p99 ms | CPU us/message | rounds |"
RULE = "| --- | --- | --- | --- | --- | --- | --- | --- |"


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("kombu", "amqp")},
    }


def as_markdown(results: Results, facts: Mapping[str, Any]) -> str:
    """One table for each cell."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    return "\n".join(
        [f"Measured: {told}.", *(line for cell, rounds in results.items() for line in table(cell, rounds))]
    )


def table(cell: Cell, rounds: Sequence[Round]) -> list[str]:
    """A cell's table."""
    return ["", f"### {cell.title}", "", HEADER, RULE, *(row(rounds, name) for name in cell.contestants)]


def row(rounds: Sequence[Round], name: str) -> str:
    """A contestant's row; a void run is shown, whatever the others measured."""
    voids = voids_of(rounds, name)
    if voids:
        return f"| {name} | VOID | {'; '.join(voids)[:200]} | | | | | {len(rounds)} |"
    rate, cpu = rate_of(rounds, name), cpu_of(rounds, name)
    shares = " | ".join(spread_text(ratio_of(rounds, name, raw), "{:.2f}") for raw in RAW)
    multiple = spread_text(ratio_of(rounds, name, BASE), "{:.2f}")
    return (
        f"| {name} | {middle(rate)} | {multiple} | {shares} | {latency(rounds, name)} | {middle(cpu)} | {len(rounds)} |"
    )


def latency(rounds: Sequence[Round], name: str) -> str:
    """``0.65 / 1.2``; empty where nothing was called."""
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


def as_json(results: Results, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, run by run."""
    return {
        "environment": dict(facts),
        "base": BASE,
        "cells": [
            {"title": cell.title, "rounds": [plain(played) for played in rounds]} for cell, rounds in results.items()
        ],
    }


def plain(played: Round) -> dict[str, Any]:
    """A round without classes."""
    return {
        name: result.as_dict() if isinstance(result, Run) else {"void": str(result)} for name, result in played.items()
    }
