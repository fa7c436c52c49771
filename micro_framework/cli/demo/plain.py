"""The demo in plain text: a line a second where there is no terminal, and the summary everywhere. ASCII only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import click

from micro_framework.amqp.entrypoints import EventListener
from micro_framework.cli.demo.ledger import Latency, RouteCounts, Snapshot
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.routes import BoundRoute

__all__ = ["PlainView", "RouteRow", "Stage", "milliseconds", "rows_of", "summary"]

SHOWN_MISSING = 10


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route as it is listed: its name and what drives it."""

    label: str
    driven_by: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demo is doing: a word for it, and how many seconds it takes at most."""

    name: str
    seconds: float


def rows_of(routes: Iterable[BoundRoute]) -> list[RouteRow]:
    """The rows of a runner's routes."""
    return [RouteRow(route.label, driven_by(route)) for route in routes]


def driven_by(route: BoundRoute) -> str:
    """What drives a route, in a word or two."""
    entrypoint = route.entrypoint
    if isinstance(entrypoint, TimeEntrypoint):
        return f"timer, {entrypoint.interval:g} s" if entrypoint.interval else f"cron, {entrypoint.cron}"
    return entrypoint.event_name if isinstance(entrypoint, EventListener) else str(entrypoint)


class PlainView:
    """Shows the demo as lines: one for each snapshot."""

    frame = 1.0
    """Seconds between snapshots."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to clean up."""

    def show(self, snapshot: Snapshot, stage: Stage) -> None:
        """One line."""
        counts = total(snapshot.routes.values())
        click.echo(
            f"{snapshot.elapsed:6.1f} s  {stage.name}: {snapshot.sent} sent, {snapshot.arrived} arrived, "
            f"{snapshot.under_way} under way; calls: {counts.ok} ok, {counts.failed} failed, {counts.retried} retried, "
            f"{counts.given_up} given up; latency: {latency_text(snapshot.latency)}"
        )


def total(routes: Iterable[RouteCounts]) -> RouteCounts:
    """The counts of all routes together."""
    counts = list(routes)
    return RouteCounts(
        sum(c.ok for c in counts),
        sum(c.failed for c in counts),
        sum(c.retried for c in counts),
        sum(c.given_up for c in counts),
    )


def milliseconds(seconds: float) -> str:
    """``0.42 ms``, ``17.3 ms``, ``2150 ms``: three digits that count."""
    value = seconds * 1000
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} ms"


def latency_text(latency: Latency | None) -> str:
    """The three figures in a line."""
    if latency is None:
        return "nothing has arrived yet"
    return f"p50 {milliseconds(latency.p50)}, p99 {milliseconds(latency.p99)}, max {milliseconds(latency.longest)}"


def summary(broker: str, rows: Sequence[RouteRow], snapshot: Snapshot, missing: Sequence[str]) -> str:
    """What happened, as text.

    Args:
        broker: Where the demo ran.
        rows: The routes.
        snapshot: The books at the end.
        missing: The messages that have not arrived.
    """
    lines = [f"micro_framework demo on {broker}, {snapshot.elapsed:.1f} s", "", *route_lines(rows, snapshot), ""]
    lines += [f"  {what:<10}{text}" for what, text in facts(snapshot)]
    return "\n".join([*lines, "", verdict(snapshot, missing)])


def route_lines(rows: Sequence[RouteRow], snapshot: Snapshot) -> list[str]:
    """The table of routes."""
    head = f"  {'route':<17}{'driven by':<18}{'calls':>6}{'ok':>7}{'failed':>8}{'retried':>9}{'given up':>10}"
    return [head, *(route_line(row, snapshot.routes.get(row.label, RouteCounts())) for row in rows)]


def route_line(row: RouteRow, counts: RouteCounts) -> str:
    """One row of it."""
    return (
        f"  {row.label:<17}{row.driven_by:<18}{counts.calls:>6}{counts.ok:>7}{counts.failed:>8}{counts.retried:>9}"
        f"{counts.given_up:>10}"
    )


def facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    """The figures beside the table."""
    handled = f"{snapshot.sent} sent, {snapshot.arrived} arrived, {snapshot.finished} handled to the end"
    found = [("messages", handled), ("latency", latency_text(snapshot.latency))]
    if snapshot.latency:
        found.append(("", "from publish to the start of the handler, first attempts"))
    if snapshot.unsure:
        found.append(
            ("unsure", f"{snapshot.unsure} publishes got no answer and nothing arrived; they count as not sent")
        )
    if snapshot.handled_again:
        found.append(
            ("again", f"{snapshot.handled_again} messages were handled more than once (delivery is at least once)")
        )
    return found


def verdict(snapshot: Snapshot, missing: Sequence[str]) -> str:
    """Whether everything has arrived, and what has not."""
    if not missing:
        return f"every message sent has arrived ({snapshot.sent} of {snapshot.sent})"
    shown = ", ".join(missing[:SHOWN_MISSING])
    more = f" and {len(missing) - SHOWN_MISSING} more" if len(missing) > SHOWN_MISSING else ""
    return f"MISSING: {len(missing)} of {snapshot.sent} messages sent were not handled to the end: {shown}{more}"
