"""From rounds to figures: medians of per-round ratios, for ratios hold where absolute figures drift."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lives import Life
from benchmarks.rounds import LifeRound, Round
from benchmarks.runs import Run, Void

__all__ = [
    "Spread",
    "cpu_of",
    "life_of",
    "life_ratio_of",
    "percentile_of",
    "rate_of",
    "ratio_of",
    "ratios_in",
    "voids_of",
    "work_of",
]


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest value."""

    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None of no values."""
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None


def runs_of(rounds: Sequence[Round], name: str) -> list[Run]:
    """A contestant's valid runs."""
    return [run for played in rounds if isinstance(run := played.get(name), Run)]


def rate_of(rounds: Sequence[Round], name: str) -> Spread | None:
    """Messages per second."""
    return Spread.of([run.rate for run in runs_of(rounds, name)])


def cpu_of(rounds: Sequence[Round], name: str) -> Spread | None:
    """Microseconds of CPU time per message; None where several processes handled them."""
    return Spread.of([run.cpu for run in runs_of(rounds, name) if not math.isnan(run.cpu)])


def percentile_of(rounds: Sequence[Round], name: str, which: str) -> Spread | None:
    """``p50`` or ``p99`` of the calls, in milliseconds; None where nothing was published or called."""
    values = [getattr(run, which) for run in runs_of(rounds, name)]
    return Spread.of([value for value in values if value is not None])


def work_of(rounds: Sequence[Round], name: str) -> Spread | None:
    """The share of the cores' time that went into the handlers' work; None where that is not known."""
    return Spread.of([run.work for run in runs_of(rounds, name) if run.work is not None])


def ratio_of(rounds: Sequence[Round], name: str, base: str) -> Spread | None:
    """How many times the rate of another contestant, over the rounds in which both are valid."""
    pairs = [(played.get(name), played.get(base)) for played in rounds]
    return Spread.of([a.rate / b.rate for a, b in pairs if isinstance(a, Run) and isinstance(b, Run)])


def ratios_in(rounds: Sequence[Mapping[str, Any]], name: str, others: Sequence[str]) -> list[float]:
    """The same of rounds as `benchmarks.report.as_json` makes them, and to whichever of others took part."""
    rates = [{each: run["rate"] for each, run in played.items() if run.get("rate")} for played in rounds]
    return [rate[name] / rate[other] for rate in rates for other in others if name in rate and other in rate]


def life_of(rounds: Sequence[LifeRound], name: str, field: str) -> Spread | None:
    """A figure of a contestant's lives."""
    return Spread.of([getattr(life, field) for played in rounds if isinstance(life := played.get(name), Life)])


def life_ratio_of(rounds: Sequence[LifeRound], name: str, base: str, field: str) -> Spread | None:
    """A figure of a contestant's lives as a multiple of another's, over the rounds in which both are valid."""
    pairs = [(played.get(name), played.get(base)) for played in rounds]
    both = [(a, b) for a, b in pairs if isinstance(a, Life) and isinstance(b, Life)]
    return Spread.of([getattr(a, field) / getattr(b, field) for a, b in both])


def voids_of(rounds: Sequence[Round] | Sequence[LifeRound], name: str) -> list[str]:
    """Why runs or lives of a contestant do not count."""
    return [str(void) for played in rounds if isinstance(void := played.get(name), Void)]
