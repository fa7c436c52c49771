"""Counting in many threads at once loses nothing."""

import threading

from micro_framework.metrics import tallies as counting
from micro_framework.metrics.snapshots import (
    CONNECTIONS_UP,
    CONNECTS,
    LOSSES,
    RECONNECTS,
    STARTED,
)
from micro_framework.metrics.tallies import Cells, Tallies

SECONDS = 30.0


def test_what_many_threads_count_adds_up():
    cells, together = Cells(2), threading.Barrier(8)

    def count():
        together.wait(SECONDS)
        for _ in range(5000):
            cells.mine()[0] += 1
        cells.mine()[1] += 2

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert cells.totals() == [40000, 16]


def test_threads_that_come_and_go_leave_their_numbers_and_nothing_else():
    cells = Cells(1)

    def count():
        cells.mine()[0] += 1

    for _ in range(50):
        thread = threading.Thread(target=count)
        thread.start()
        thread.join(SECONDS)
    assert cells.totals() == [50]
    assert len(cells.cells) < 50


def test_nothing_counted_is_zero():
    assert Cells(3).totals() == [0, 0, 0]


def test_routes_of_the_same_labels_share_a_tally():
    tallies = Tallies()
    tallies.route("shop", "sell", "default").mine()[STARTED] += 1
    tallies.route("shop", "sell", "default").mine()[STARTED] += 1
    assert tallies.snapshot().routes[("shop", "sell", "default")][STARTED] == 2


def test_methods_called_by_no_end_of_names_are_counted_together(monkeypatch):
    monkeypatch.setattr(counting, "MOST_METHODS", 2)
    tallies = Tallies()
    for number in range(5):
        tallies.rpc_method("shop", f"method_{number}").mine()[0] += 1
    rpc = tallies.snapshot().rpc
    assert rpc[("(other)", "(other)")][0] == 3
    assert len(rpc) == 3


class Line:
    ready, blocked, turns = True, False, True


def test_a_connection_tells_its_comings_and_goings():
    tallies = Tallies()
    tally = tallies.connection("publisher", Line())
    tally.became_ready()
    tally.lost()
    tally.became_ready()
    row = tallies.snapshot().connections[("publisher",)]
    assert (row[CONNECTS], row[RECONNECTS], row[LOSSES], row[CONNECTIONS_UP]) == (2, 1, 1, 1)
