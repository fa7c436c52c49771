"""What a soak has found, as Markdown for people and as JSON for programs."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.report import ruled
from benchmarks.soak.judge import KINDS, Judge
from benchmarks.soak.parties import PARTIES
from benchmarks.soak.verdict import flatness_of, rates, thirds

__all__ = ["as_json", "as_markdown"]


def as_json(judge: Judge, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, sample by sample."""
    return {
        "environment": dict(facts),
        "faults": judge.faults,
        **judge.counts,
        "cycles": judge.plan.cycles,
        "slices": [asdict(each) for each in judge.slices],
        "samples": [sample.as_dict() for sample in judge.samples],
    }


def as_markdown(judge: Judge, facts: Mapping[str, Any]) -> str:
    """The verdict, and two tables if the soak came to its end."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    lines = [f"Measured: {told}.", "", *verdict(judge)]
    if judge.slices and judge.slices[-1].cycle == judge.plan.cycles - 1:
        lines += ["", *rate_table(judge), "", *memory_table(judge)]
    return "\n".join(lines)


def verdict(judge: Judge) -> list[str]:
    if judge.faults:
        return ["**FAILED**", "", *(f"- {fault}" for fault in judge.faults)]
    counts = judge.counts
    most = max(sample.waiting for sample in judge.samples)
    return [
        f"{counts['handled']:,} messages in {counts['seconds']:,.0f} s:",
        f"{counts['events']:,} events and {counts['calls']:,} calls, each handled exactly once, none left.",
        f"At most {most:,} events were seen to wait. Memory, threads and descriptors are flat.",
        "Figures are of the first third after the warm-up → of the last.",
    ]


def rate_table(judge: Judge) -> list[str]:
    heads = ["", "messages/s, first third", "last third"]
    return [
        *ruled(heads),
        *(f"| {kind} | {' | '.join(f'{rate:,.0f}' for rate in middle_rates(judge, kind))} |" for kind in KINDS),
    ]


def middle_rates(judge: Judge, kind: str) -> list[float]:
    return [statistics.median(rates(judge.slices, kind, third)) for third in thirds(judge.plan.cycles)]


def memory_table(judge: Judge) -> list[str]:
    heads = ["", "USS, MB", "RSS, MB", "USS, KB per 100,000 messages", "threads", "descriptors", "CPU µs per message"]
    return [*ruled(heads), *(memory_row(judge, party) for party in PARTIES)]


def memory_row(judge: Judge, party: str) -> str:
    found = flatness_of(judge.samples, judge.plan.cycles, party)
    cells = [
        party,
        both(found.uss, 1e6, ".2f"),
        both(found.rss, 1e6, ".2f"),
        f"{found.slope * 100:+.1f}",  # bytes per message, times 100,000, in thousands
        both(found.threads),
        both(found.descriptors),
        both(found.cpu, 1, ".0f"),
    ]
    return f"| {' | '.join(cells)} |"


def both(values: tuple[float, float], unit: float = 1, form: str = "g") -> str:
    return " → ".join(f"{value / unit:{form}}" for value in values)
