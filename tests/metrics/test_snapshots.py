"""Snapshots add up, cross processes as JSON, and outlive the process that told them."""

import json

from micro_framework.metrics.recent import MOST_ERRORS
from micro_framework.metrics.snapshots import (
    CONNECTION_FIELDS,
    CONNECTIONS_UP,
    CONNECTS,
    ROUTE_FIELDS,
    STARTED,
    SUCCEEDED,
    UNDONE,
    Snapshot,
    Sources,
    running,
)

KEY = ("shop", "sell", "default")


def counted(started, succeeded):
    row = [0] * ROUTE_FIELDS
    row[STARTED], row[SUCCEEDED] = started, succeeded
    line = [0] * CONNECTION_FIELDS
    line[CONNECTS] = line[CONNECTIONS_UP] = 1
    return Snapshot(
        routes={KEY: row},
        connections={("publisher",): line},
        contexts={("default",): [10, 0]},
        errors=[{"time": started}],
    )


def test_it_crosses_as_json():
    snapshot = counted(3, 2)
    assert Snapshot.of(json.loads(json.dumps(snapshot.plain()))) == snapshot


def test_several_add_up():
    total = Snapshot.sum([counted(3, 2), counted(5, 5)])
    assert (total.routes[KEY][STARTED], running(total.routes[KEY])) == (8, 1)
    assert total.contexts[("default",)] == [20, 0]
    assert [error["time"] for error in total.errors] == [3, 5]


def test_the_latest_errors_of_all_are_kept():
    assert len(Snapshot.sum([counted(number, 0) for number in range(MOST_ERRORS + 9)]).errors) == MOST_ERRORS


def test_what_a_process_counted_stays_when_it_is_gone():
    sources = Sources()
    sources.heard("copy-1", counted(3, 2))
    sources.heard("copy-1", counted(4, 3))
    sources.gone("copy-1")
    sources.gone("copy-1")
    sources.heard("copy-2", counted(1, 1))
    total = sources.total()
    row = total.routes[KEY]
    assert (row[STARTED], row[SUCCEEDED], row[UNDONE], running(row)) == (5, 4, 1, 0)
    assert total.contexts[("default",)] == [10, 0]
    assert total.connections[("publisher",)][CONNECTS] == 2
    assert total.connections[("publisher",)][CONNECTIONS_UP] == 1
