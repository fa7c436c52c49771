"""The demo's live view, as text of a console of a given size."""

import io

import pytest
from rich.console import Console

from micro_framework.cli.demo.ledger import Event, Latency, RouteCounts, Snapshot
from micro_framework.cli.demo.live import LiveView, Rates, can_show_live, sparkline
from micro_framework.cli.demo.plain import RouteRow, Stage

ROWS = [
    RouteRow(label, "order_placed") for label in ("Orders.place", "Orders.ship", "Orders.cancel", "Payments.charge")
]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def books(elapsed, arrived=0, calls=0, events=()):
    routes = {"Payments.charge": RouteCounts(ok=calls)}
    return Snapshot(elapsed, arrived, arrived, arrived, 0, 0, 0, routes, Latency(0.0003, 0.001, 2.5), tuple(events))


def drawn(width, height, snapshot, broker="the embedded broker"):
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=False)
    view = LiveView(console, broker, ROWS)
    view.rates.add(books(0.0))
    view.rates.add(snapshot)
    console.print(view.screen(snapshot, Stage("taking orders", 15)))
    return file.getvalue().splitlines()


def test_it_fits_a_terminal_of_80_by_24():
    events = [Event(number, "retry", f"order {number}: " + "x" * 100) for number in range(50)]
    lines = drawn(80, 24, books(2.0, 80, 40, events))
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert "order 49" in lines[-1]


def test_it_shows_counts_rates_latency_and_time():
    text = "\n".join(drawn(100, 30, books(2.0, 80, 40)))
    assert "the embedded broker" in text
    assert "taking orders, 2.0 s" in text
    assert "Payments.charge" in text
    assert "20.0" in text
    assert "p50 0.30 ms  p99 1.00 ms  max 2500 ms" in text
    assert "40.0 /s" in text


def test_a_long_uri_does_not_push_the_time_out():
    first = drawn(80, 24, books(2.0), broker="amqp://somebody:***@" + "very-long-host." * 8)[0]
    assert first.rstrip().endswith("taking orders, 2.0 s")
    assert len(first) <= 80


def test_rates_forget_what_is_long_ago():
    rates = Rates(window=2.0)
    for elapsed, arrived in [(0.0, 0), (1.0, 100), (2.0, 100), (3.0, 100), (4.0, 120)]:
        rates.add(books(elapsed, arrived, arrived))
    assert rates.arrivals() == 10
    assert rates.calls("Payments.charge") == 10
    assert rates.calls("Orders.ship") == 0


def test_rates_need_two_moments():
    rates = Rates()
    rates.add(books(0.0, 5))
    assert rates.arrivals() == 0


@pytest.mark.parametrize(("values", "bars"), [([], ""), ([0, 0], "▁▁"), ([0, 7, 14], "▁▅█"), ([3, 3], "██")])
def test_sparklines(values, bars):
    assert sparkline(values) == bars


@pytest.mark.parametrize(
    ("file", "width", "height", "environment", "shown"),
    [
        (Terminal(), 80, 24, {"TERM": "xterm"}, True),
        (Terminal(), 80, 24, {"TERM": "dumb"}, False),
        (Terminal(), 60, 24, {"TERM": "xterm"}, False),
        (Terminal(), 80, 10, {"TERM": "xterm"}, False),
        (io.StringIO(), 80, 24, {"TERM": "xterm"}, False),
    ],
)
def test_where_the_live_view_is_shown(file, width, height, environment, shown):
    assert can_show_live(Console(file=file, width=width, height=height, _environ=environment)) is shown


def test_a_terminal_without_unicode_gets_plain_lines():
    class OldTerminal(Terminal):
        encoding = "ascii"

    assert not can_show_live(Console(file=OldTerminal(), width=80, height=24, _environ={"TERM": "xterm"}))
