"""``python -m benchmarks.curves [--rounds N] [--into FOLDER]``: what a message costs beside more and more of something.

The cost of a message is measured beside 1, 10, 100 and 1000 routes, with more workers, contexts and waiting calls: in
calls of Python functions, which are exact but for chance in how many messages one read brings, and in microseconds of
CPU time. Each point is measured in a process of its own (`benchmarks.costs` says how); rounds are interleaved, their
order reversed every other round, and what counts is the median. Prints tables, and writes them, everything as JSON and
a picture to ``results/``. The exit code is 1 if any cost in calls grows.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.costs import CallMeter, CpuMeter, Meter, call, consume
from benchmarks.plot import drawn
from benchmarks.ratios import Spread
from benchmarks.report import RESULTS, environment, ruled, spread_text, tell, write
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.erlang import ErlangAdmin
from micro_framework.testing.rabbitmq import RabbitMQNode

__all__ = ["CURVES", "Curve", "Point", "as_json", "as_markdown", "charts", "growing", "main", "picture", "play"]

ROOT = Path(__file__).resolve().parents[1]
POINT_SECONDS = 600.0
MOST_GROWTH = 1.1
"""A cost in calls that is so many times that of the least size has grown; chance alone makes a few percent."""


@dataclass(frozen=True)
class Curve:
    """One thing of which there is more and more.

    Args:
        title: What it is.
        sizes: How many there are.
        run: Sends so many messages beside so many of it.
        calls, cpu: How many messages are few and many for each meter.
    """

    title: str
    sizes: tuple[int, ...]
    run: Callable[[VHost, int, Meter, int], None]
    calls: tuple[int, int]
    cpu: tuple[int, int]


EVENTS = ((50, 350), (500, 4500))
CALLS = ((50, 350), (50, 1050))

CURVES = {
    "routes": Curve(
        "an event handled, beside routes that nothing is sent to",
        (1, 10, 100, 1000),
        lambda vhost, count, meter, size: consume(vhost, count, meter, routes=size),
        *EVENTS,
    ),
    "workers": Curve(
        "an event handled, by more workers",
        (1, 10, 100),
        lambda vhost, count, meter, size: consume(vhost, count, meter, workers=size),
        *EVENTS,
    ),
    "contexts": Curve(
        "an event handled, beside contexts that nothing is sent to",
        (1, 4, 16),
        lambda vhost, count, meter, size: consume(vhost, count, meter, contexts=size),
        *EVENTS,
    ),
    "busy contexts": Curve(
        "an event handled, by contexts that all have work",
        (1, 4, 16),
        lambda vhost, count, meter, size: consume(vhost, count, meter, contexts=size, busy=size),
        *EVENTS,
    ),
    "pending calls": Curve(
        "a call made and answered, while others of the client wait",
        (1, 10, 100, 1000),
        lambda vhost, count, meter, size: call(vhost, count, meter, pending=size),
        *CALLS,
    ),
}
UNITS: Mapping[str, str] = {"calls": "calls of functions", "cpu": "CPU µs"}


@dataclass(frozen=True)
class Point:
    """One place on a curve.

    Args:
        curve: Its name.
        size: How many there are.
    """

    curve: str
    size: int

    @property
    def label(self) -> str:
        """``100 routes``."""
        return f"{self.size} {self.curve if self.size > 1 else self.curve.removesuffix('s')}"


Figures = Mapping[Point, Mapping[str, Sequence[float]]]
"""Of each point and unit, what each round measured."""


def main(arguments: Sequence[str]) -> int:
    """Measure; with ``--point`` a single one, in this process."""
    options = parse(arguments)
    if options.point:
        print(json.dumps(measured(json.loads(options.point))))
        return 0
    points = [Point(name, size) for name, curve in CURVES.items() for size in curve.sizes[: options.most]]
    facts = environment()
    with RabbitMQNode() as node:
        figures = play(node, points, options.rounds)
    grown = growing(figures)
    data = json.dumps(as_json(figures, facts), indent=1)
    write(options.into, "curves-", md=as_markdown(figures, facts), json=data, svg=picture(figures))
    for line in grown:
        tell(f"GROWS: {line}")
    return 1 if grown else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    described = "What a message costs beside more and more routes, workers, contexts and waiting calls."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=described)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of each point (3)")
    parser.add_argument("--most", type=int, default=None, metavar="N", help="only the first N points of each curve")
    parser.add_argument("--into", type=Path, default=RESULTS, metavar="FOLDER", help="where the results go")
    parser.add_argument("--point", default="", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def play(node: RabbitMQNode, points: Sequence[Point], rounds: int) -> Figures:
    """Every point in every round."""
    figures: dict[Point, dict[str, list[float]]] = {point: {unit: [] for unit in UNITS} for point in points}
    for number in range(rounds):
        for point in points if number % 2 == 0 else reversed(points):
            found = in_own_process(node, point)
            for unit in UNITS:
                figures[point][unit].append(found[unit])
            tell(
                f"round {number + 1} of {rounds}, {point.label}: "
                + ", ".join(f"{found[u]:.1f} {UNITS[u]}" for u in UNITS)
            )
    return figures


def in_own_process(node: RabbitMQNode, point: Point) -> dict[str, float]:
    order = {"node": node.settings(), "curve": point.curve, "size": point.size}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.curves", "--point", json.dumps(order)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=POINT_SECONDS,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(order: Mapping[str, Any]) -> dict[str, float]:
    """What a message costs at one point, in each unit."""
    curve = CURVES[order["curve"]]
    # One for all, so that a thousand queues are declared once; it goes with its node, for to delete them takes minutes.
    vhost = ErlangAdmin(**order["node"]).vhost()
    return {
        "calls": per_message(vhost, curve, order["size"], curve.calls, CallMeter),
        "cpu": per_message(vhost, curve, order["size"], curve.cpu, CpuMeter),
    }


def per_message(
    vhost: VHost, curve: Curve, size: int, counts: tuple[int, int], new: Callable[[], CallMeter | CpuMeter]
) -> float:
    totals = []
    for count in counts:
        meter = new()
        curve.run(vhost, count, meter, size)
        totals.append(meter.total)
    few, many = counts
    return (totals[1] - totals[0]) / (many - few)


def medians(figures: Figures, curve: str, unit: str) -> dict[Point, float]:
    """The middle of each point of a curve."""
    return {point: statistics.median(found[unit]) for point, found in figures.items() if point.curve == curve}


def growing(figures: Figures) -> list[str]:
    """Which curves grow, by calls."""
    found = []
    for name in CURVES:
        (least, first), *others = medians(figures, name, "calls").items()
        found += [
            f"{point.label}: {cost:.1f} calls a message, {first:.1f} at {least.label}"
            for point, cost in others
            if cost > first * MOST_GROWTH
        ]
    return found


def as_markdown(figures: Figures, facts: Mapping[str, Any]) -> str:
    """One table for each curve: medians, with the least and the greatest."""
    lines = [f"Measured: {', '.join(f'{name} {value}' for name, value in facts.items())}."]
    for name, curve in CURVES.items():
        lines += ["", f"### {curve.title}", "", *ruled(["", *UNITS.values()])]
        for point in (point for point in figures if point.curve == name):
            lines.append(f"| {point.label} | {' | '.join(spread(figures[point][unit]) for unit in UNITS)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    return spread_text(Spread.of(values), "{:.1f}")


def as_json(figures: Figures, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, round by round."""
    points = [{"curve": point.curve, "size": point.size, **found} for point, found in figures.items()]
    return {"environment": dict(facts), "points": points, "growing": growing(figures)}


def charts(figures: Figures) -> dict[str, dict[str, float]]:
    """The bars of each curve and unit: the cost as a multiple of that at the least size."""
    found = {}
    for name, curve in CURVES.items():
        for unit, title in UNITS.items():
            costs = medians(figures, name, unit)
            first = next(iter(costs.values()))
            found[f"{curve.title}: {title}"] = {point.label: cost / first for point, cost in costs.items()}
    return found


def picture(figures: Figures) -> str:
    return drawn(charts(figures), "What a message costs, as multiples of the first bar of each")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
