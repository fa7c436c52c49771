"""What the status page is given."""

import json

from micro_framework.metrics.snapshots import BUCKETS, FAILED, STARTED, SUCCEEDED
from micro_framework.metrics.tallies import Tallies
from micro_framework.observe.health import Health
from micro_framework.observe.status import status


class Line:
    ready, blocked, turns = False, True, True


def test_every_number_has_its_name():
    tallies = Tallies()
    cell = tallies.route("shop", "sell", "slow").mine()
    cell[STARTED], cell[SUCCEEDED], cell[FAILED] = 5, 3, 1
    tallies.rpc_method("payments", "charge").mine()[1] = 2
    tallies.publishes("publish").mine()[0] = 4
    tallies.connection("publisher", Line())
    tallies.passed_on_requests("shop", "shop.sell").mine()[0] = 3
    tallies.side("shop", "old", 5, 2)
    tallies.recent.note("shop", "sell", "id", "failed", ValueError("no"))
    snapshot = tallies.snapshot()
    snapshot.contexts[("slow",)] = [2, 7]
    shown = json.loads(status(snapshot, Health("running"), {"what": "shop"}))
    (route,) = shown["routes"]
    assert (route["service"], route["route"], route["succeeded"], route["failed"]) == ("shop", "sell", 3, 1)
    assert route["running"] == 1
    assert len(route["run"]["buckets"]) == len(BUCKETS) + 1
    assert shown["contexts"] == [{"context": "slow", "workers": 2, "waiting": 7, "running": 1}]
    assert shown["rpc"][0]["timeout"] == 2
    assert shown["publishes"][0]["published"] == 4
    assert shown["connections"] == [
        {"name": "publisher", "wanted": 1, "up": 0, "blocked": 1, "reconnects": 0, "losses": 0}
    ]
    assert shown["passed_on"] == [{"service": "shop", "method": "sell", "requests": 3}]
    assert shown["sides"] == [{"service": "shop", "side": "old", "waiting": 5, "consumers": 2}]
    assert shown["errors"][0]["call_id"] == "id"
    assert shown["health"]["ready"]
