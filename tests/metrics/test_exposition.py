"""What Prometheus reads: its own parser reads it here."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from micro_framework.metrics.exposition import exposition
from micro_framework.metrics.snapshots import RECEIVED, RUN_BUCKETS, STARTED, SUCCEEDED, Snapshot
from micro_framework.metrics.tallies import Tallies

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


class Line:
    ready, blocked, turns = True, False, True


def everything() -> Snapshot:
    tallies = Tallies()
    cell = tallies.route("shop", 'se"ll', "default").mine()
    cell[RECEIVED], cell[STARTED], cell[SUCCEEDED] = 4, 4, 3
    cell[RUN_BUCKETS] = 3
    tallies.rpc_method("payments", "charge").mine()[0] = 2
    tallies.publishes("publish").mine()[:2] = [5, 4]
    tallies.connection("publishing connection", Line()).became_ready()
    tallies.passed_on_requests("shop", "shop.sell").mine()[0] = 3
    tallies.side("shop", "old", 5, 2)
    snapshot = tallies.snapshot()
    snapshot.contexts[("default",)] = [10, 2]
    return snapshot


def read(text: bytes) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_numbers_come_out_under_their_labels():
    values = read(exposition(everything()))
    route = "[('context', 'default'), ('route', 'se\"ll'), ('service', 'shop')]"
    assert values[f"micro_framework_calls_received_total{route}"] == 4
    assert values[f"micro_framework_calls_running{route}"] == 1
    assert values[f"micro_framework_call_seconds_count{route}"] == 3
    assert values["micro_framework_workers_available[('context', 'default')]"] == 9
    assert values["micro_framework_calls_waiting[('context', 'default')]"] == 2
    answered = "[('method', 'charge'), ('outcome', 'answered'), ('service', 'payments')]"
    assert values[f"micro_framework_rpc_client_calls_total{answered}"] == 2
    assert values["micro_framework_publish_outcomes_total[('kind', 'publish'), ('outcome', 'confirmed')]"] == 4
    assert values["micro_framework_connections_up[('connection', 'publishing connection')]"] == 1
    assert values["micro_framework_calls_passed_on_total[('method', 'sell'), ('service', 'shop')]"] == 3
    assert values["micro_framework_takeover_waiting[('service', 'shop'), ('side', 'old')]"] == 5


def test_a_queue_that_several_processes_look_at_is_told_once():
    values = read(exposition(Snapshot.sum([everything(), everything()])))
    assert values["micro_framework_takeover_consumers[('service', 'shop'), ('side', 'old')]"] == 2
    assert values["micro_framework_calls_passed_on_total[('method', 'sell'), ('service', 'shop')]"] == 6


def test_the_programs_own_metrics_come_too():
    registry = CollectorRegistry()
    Counter("orders_sold", "Orders sold", registry=registry).inc(3)
    assert read(exposition(everything(), registry))["orders_sold_total[]"] == 3


def test_names_follow_the_conventions_and_the_page_lists_them_all():
    families = list(text_string_to_metric_families(exposition(everything()).decode()))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert all(re.fullmatch(r"micro_framework_[a-z_]+", name) for name in names)
    assert all(family.name.endswith("_seconds") for family in families if family.type == "histogram")
    listed = set(re.findall(r"`(micro_framework_[a-z_]+)`", PAGE.read_text()))
    assert listed == names
