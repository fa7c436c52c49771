"""The demo on a terminal: counters, rates and the last events, redrawn ten times a second."""

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from micro_framework.cli.demo.ledger import Event, RouteCounts, Snapshot
from micro_framework.cli.demo.plain import RouteRow, Stage, milliseconds

__all__ = ["SMALLEST", "LiveView", "Rates", "can_show_live", "sparkline"]

SMALLEST = (72, 18)
"""Columns and rows below which the plain lines are easier to read."""

FIXED_ROWS = 10
"""Rows that everything but the routes and the events takes."""

BARS = "▁▂▃▄▅▆▇█"
KINDS = {"good": ("✓", "green"), "retry": ("↻", "yellow"), "bad": ("✗", "red"), "note": ("·", "cyan")}
COUNT_STYLES = {"ok": "green", "failed": "yellow", "retried": "yellow", "given up": "red"}


def can_show_live(console: Console) -> bool:
    """Whether a console is a terminal that can show the live view."""
    columns, rows = console.size
    drawable = not console.is_dumb_terminal and console.encoding.lower().startswith("utf")
    return console.file.isatty() and drawable and columns >= SMALLEST[0] and rows >= SMALLEST[1]


class Rates:
    """Figures per second, from snapshots.

    Args:
        window: Seconds that a rate is taken over.
        samples: How many rates of the past are kept, one a second at most twice.
    """

    def __init__(self, window: float = 2.0, samples: int = 48) -> None:
        self.window = window
        self.seen: deque[Snapshot] = deque()
        self.past: deque[float] = deque(maxlen=samples)
        self.next_sample = 0.0

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot in."""
        self.seen.append(snapshot)
        while len(self.seen) > 2 and snapshot.elapsed - self.seen[0].elapsed > self.window:
            self.seen.popleft()
        if snapshot.elapsed >= self.next_sample:
            self.next_sample = snapshot.elapsed + 0.5
            self.past.append(self.arrivals())

    def arrivals(self) -> float:
        """Messages that arrived per second."""
        return self.rate(self.seen[-1].arrived - self.seen[0].arrived)

    def calls(self, label: str) -> float:
        """Calls of a route per second."""
        first, last = (s.routes.get(label, RouteCounts()).calls for s in (self.seen[0], self.seen[-1]))
        return self.rate(last - first)

    def rate(self, count: int) -> float:
        """A count of the window, per second."""
        seconds = self.seen[-1].elapsed - self.seen[0].elapsed
        return count / seconds if seconds > 0 else 0.0


def sparkline(values: Sequence[float]) -> str:
    """Values as bars, the highest one full."""
    highest = max(values, default=0.0)
    return "".join(BARS[round(value / highest * (len(BARS) - 1))] if highest > 0 else BARS[0] for value in values)


class LiveView:
    """Shows the demo on the whole terminal, and gives the terminal back as it was.

    Args:
        console: The terminal.
        broker: Where the demo runs.
        rows: The routes.
    """

    frame = 0.1
    """Seconds between snapshots."""

    def __init__(self, console: Console, broker: str, rows: Sequence[RouteRow]) -> None:
        self.console = console
        self.broker = broker
        self.rows = rows
        self.rates = Rates()
        self.live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.live.stop()

    def show(self, snapshot: Snapshot, stage: Stage) -> None:
        """Draw a snapshot."""
        self.rates.add(snapshot)
        self.live.update(self.screen(snapshot, stage), refresh=True)

    def screen(self, snapshot: Snapshot, stage: Stage) -> RenderableType:
        """Everything, from top to bottom."""
        room = max(1, self.console.size.height - FIXED_ROWS - len(self.rows))
        return Group(
            self.title(snapshot, stage),
            Padding(ProgressBar(stage.seconds, min(snapshot.elapsed, stage.seconds)), (0, 0, 1, 0)),
            self.table(snapshot),
            Text(),
            *self.figures(snapshot),
            Text(),
            Rule("what happened last (Ctrl-C ends the demo)", style="dim", align="left"),
            *(event_line(event) for event in snapshot.events[-room:]),
        )

    def title(self, snapshot: Snapshot, stage: Stage) -> RenderableType:
        """What runs where, and for how long."""
        left = Text.assemble(("micro_framework demo", "bold"), ("  on ", "dim"), self.broker)
        return two_sides(left, Text(f"  {stage.name}, {snapshot.elapsed:.1f} s", "cyan"))

    def table(self, snapshot: Snapshot) -> Table:
        """The routes and their counts."""
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
        for heading in ("route", "driven by"):
            table.add_column(heading, no_wrap=True)
        for heading in ("calls/s", "ok", "failed", "retried", "given up"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(row.label, Text(row.driven_by, "cyan"), *self.cells(row, snapshot))
        return table

    def cells(self, row: RouteRow, snapshot: Snapshot) -> list[Text]:
        """A row's figures; what is not 0 is coloured."""
        counts = snapshot.routes.get(row.label, RouteCounts())
        values = {"ok": counts.ok, "failed": counts.failed, "retried": counts.retried, "given up": counts.given_up}
        cells = [Text(str(value), COUNT_STYLES[name] if value else "dim") for name, value in values.items()]
        return [Text(f"{self.rates.calls(row.label):.1f}"), *cells]

    def figures(self, snapshot: Snapshot) -> list[RenderableType]:
        """Messages, latency and the rate over time."""
        messages = Text.assemble(
            (" messages  ", "dim"), f"{snapshot.sent} sent  {snapshot.arrived} arrived  ", under_way(snapshot.under_way)
        )
        latency = Text.assemble((" latency   ", "dim"), "nothing has arrived yet")
        if found := snapshot.latency:
            latency = Text.assemble(
                (" latency   ", "dim"),
                f"p50 {milliseconds(found.p50)}  p99 {milliseconds(found.p99)}  max {milliseconds(found.longest)}",
                ("  publish to handler", "dim"),
            )
        rate = Text.assemble(
            (" arriving  ", "dim"), f"{self.rates.arrivals():5.1f} /s  ", (sparkline(self.rates.past), "green")
        )
        return [messages, latency, rate]


def under_way(count: int) -> tuple[str, str]:
    """How many messages have not been handled to the end yet."""
    return f"{count} under way", "yellow" if count else "green"


def event_line(event: Event) -> Text:
    """One event, cut to the width of the terminal."""
    mark, style = KINDS[event.kind]
    return Text.assemble(
        (f" {event.when:6.2f} ", "dim"), (f"{mark} ", style), event.text, no_wrap=True, overflow="ellipsis"
    )


def two_sides(left: Text, right: Text) -> Table:
    """A line with one text at each end."""
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(left, right)
    return grid
