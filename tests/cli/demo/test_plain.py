"""The demo in plain text."""

import pytest

from micro_framework.cli.demo.ledger import Latency, Ledger, RouteCounts, Snapshot
from micro_framework.cli.demo.plain import PlainView, RouteRow, Stage, milliseconds, rows_of, summary
from micro_framework.cli.demo.shop import open_shop
from micro_framework.runner import Runner

ROWS = [RouteRow("Orders.place", "timer, 0.05 s"), RouteRow("Payments.charge", "order_placed")]


def books(**changes):
    values = {
        "elapsed": 4.0,
        "sent": 160,
        "arrived": 159,
        "finished": 158,
        "under_way": 2,
        "unsure": 0,
        "handled_again": 0,
        "routes": {"Payments.charge": RouteCounts(ok=78, failed=20, retried=18, given_up=2)},
        "latency": Latency(0.0003, 0.0123, 2.5),
        "events": (),
    }
    return Snapshot(**(values | changes))


def test_a_snapshot_is_one_line(capsys):
    with PlainView() as view:
        view.show(books(), Stage("taking orders", 15))
    assert capsys.readouterr().out == (
        "   4.0 s  taking orders: 160 sent, 159 arrived, 2 under way; calls: 78 ok, 20 failed, 18 retried, 2 given up; "
        "latency: p50 0.30 ms, p99 12.3 ms, max 2500 ms\n"
    )


def test_the_summary_of_a_complete_run():
    assert summary("the embedded broker", ROWS, books(arrived=160, finished=160, under_way=0), []).splitlines() == [
        "micro_framework demo on the embedded broker, 4.0 s",
        "",
        "  route            driven by          calls     ok  failed  retried  given up",
        "  Orders.place     timer, 0.05 s          0      0       0        0         0",
        "  Payments.charge  order_placed          98     78      20       18         2",
        "",
        "  messages  160 sent, 160 arrived, 160 handled to the end",
        "  latency   p50 0.30 ms, p99 12.3 ms, max 2500 ms",
        "            from publish to the start of the handler, first attempts",
        "",
        "every message sent has arrived (160 of 160)",
    ]


def test_the_summary_names_what_is_missing():
    missing = [f"order_placed-{number}" for number in range(1, 13)]
    last = summary("the embedded broker", ROWS, books(), missing).splitlines()[-1]
    assert last.startswith("MISSING: 12 of 160 messages sent were not handled to the end: order_placed-1, ")
    assert last.endswith("order_placed-10 and 2 more")


def test_the_summary_says_what_is_not_sure_and_what_came_twice():
    text = summary("b", ROWS, books(unsure=3, handled_again=4), [])
    assert "3 publishes got no answer" in text
    assert "4 messages were handled more than once" in text
    assert "got no answer" not in summary("b", ROWS, books(), [])


def test_nothing_has_to_have_arrived():
    assert "nothing has arrived yet" in summary("b", ROWS, books(latency=None), [])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00042, "0.42 ms"), (0.0173, "17.3 ms"), (2.15, "2150 ms"), (0, "0.00 ms")]
)
def test_milliseconds_have_three_digits_that_count(seconds, text):
    assert milliseconds(seconds) == text


def test_the_rows_say_what_drives_each_route():
    runner = Runner(open_shop(Ledger()), {"AMQP_URI": "memory://rows"})
    assert {(row.label, row.driven_by) for row in rows_of(runner.assembly.routes)} == {
        ("Orders.place", "timer, 0.05 s"),
        ("Orders.ship", "payment_taken"),
        ("Orders.cancel", "payment_declined"),
        ("Payments.charge", "order_placed"),
    }
