"""A snapshot as Prometheus reads it."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from micro_framework.metrics.snapshots import (
    BUCKETS,
    CONNECTIONS,
    CONNECTIONS_BLOCKED,
    CONNECTIONS_UP,
    CONNECTS,
    CONTEXT_WAITING,
    CONTEXT_WORKERS,
    COUNTS,
    LOSSES,
    PUBLISH_OUTCOMES,
    PUBLISHED,
    RECONNECTS,
    REMOTE_ERRORS,
    RPC_OUTCOMES,
    RUN_BUCKETS,
    RUN_SUM,
    SIDE_CONSUMERS,
    SIDE_LOOKS,
    SIDE_WAITING,
    WAIT_BUCKETS,
    WAIT_SUM,
    Snapshot,
    Table,
    running,
)

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

ROUTE = ("service", "route", "context")

CALLS = {
    "received": "Messages, requests and ticks received for a route, redelivered ones again",
    "started": "Calls begun, each attempt of its own",
    "succeeded": "Calls that ended without an error",
    "failed": "Calls that raised, each attempt of its own",
    "undone": "Calls begun that do not count and come again: abandoned at a stop, or without a dependency",
    "retried": "Failed calls put off to be tried again",
    "parked": "Messages parked after their last failure",
    "refused": "Messages not run because they cannot be decoded, or workers died of them too often",
    "skipped": "Messages not run because the entrypoint's filter left them out",
    "handed_back": "Messages given back without having been run, at a stop",
}


class Told(Collector):
    """Hands a snapshot to prometheus_client.

    Args:
        snapshot: The snapshot.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """Every metric."""
        yield from calls(self.snapshot)
        yield from pools(self.snapshot)
        yield from rpc(self.snapshot)
        yield from publishing(self.snapshot)
        yield from connections(self.snapshot)
        yield from takeovers(self.snapshot)


def calls(snapshot: Snapshot) -> Iterator[Metric]:
    """What becomes of calls, by route."""
    for position, name in enumerate(COUNTS):
        yield counter(f"calls_{name}", CALLS[name], ROUTE, snapshot.routes, position)
    gauge = GaugeMetricFamily("micro_framework_calls_running", "Calls that run right now", labels=ROUTE)
    waits = HistogramMetricFamily(
        "micro_framework_call_wait_seconds", "From the receipt of a message to its worker, in seconds", labels=ROUTE
    )
    runs = HistogramMetricFamily("micro_framework_call_seconds", "How long calls run, in seconds", labels=ROUTE)
    for key, row in snapshot.routes.items():
        gauge.add_metric(key, running(row))
        waits.add_metric(key, buckets(row[WAIT_BUCKETS:RUN_SUM]), row[WAIT_SUM])
        runs.add_metric(key, buckets(row[RUN_BUCKETS:]), row[RUN_SUM])
    yield from (gauge, waits, runs)


def buckets(numbers: list[float]) -> list[tuple[str, float]]:
    """The buckets of a histogram, each with those below it."""
    bounds = [*map(str, BUCKETS), "+Inf"]
    return list(zip(bounds, accumulate(numbers), strict=True))


def pools(snapshot: Snapshot) -> Iterator[Metric]:
    """Workers, by context."""
    labels = ("context",)
    workers = GaugeMetricFamily("micro_framework_workers", "Workers of a context", labels=labels)
    available = GaugeMetricFamily("micro_framework_workers_available", "Workers that run no call", labels=labels)
    waiting = GaugeMetricFamily("micro_framework_calls_waiting", "Received and without a worker yet", labels=labels)
    for key, row in snapshot.contexts.items():
        busy = sum(running(numbers) for (_, _, context), numbers in snapshot.routes.items() if context == key[0])
        workers.add_metric(key, row[CONTEXT_WORKERS])
        available.add_metric(key, max(0, row[CONTEXT_WORKERS] - busy))
        waiting.add_metric(key, row[CONTEXT_WAITING])
    yield from (workers, available, waiting)


def rpc(snapshot: Snapshot) -> Iterator[Metric]:
    """Calls of other services."""
    text = "Calls of other services that have ended, by how"
    ended = CounterMetricFamily("micro_framework_rpc_client_calls", text, labels=("service", "method", "outcome"))
    for key, row in snapshot.rpc.items():
        for outcome, number in zip(RPC_OUTCOMES, row, strict=False):
            if number:
                ended.add_metric((*key, outcome), number)
    yield ended
    text = "Answers that told of an error which the other service's target raised"
    yield counter("rpc_client_remote_errors", text, ("service", "method"), snapshot.rpc, REMOTE_ERRORS)


def publishing(snapshot: Snapshot) -> Iterator[Metric]:
    """Publishes and what the broker said."""
    text = "Messages handed in to be published: of our own accord, or to be delivered after a delay"
    yield counter("publishes", text, ("kind",), snapshot.publishing, PUBLISHED)
    text = "Publishes that have an outcome, by what it is"
    ended = CounterMetricFamily("micro_framework_publish_outcomes", text, labels=("kind", "outcome"))
    for key, row in snapshot.publishing.items():
        for outcome, number in zip(PUBLISH_OUTCOMES, row[1:], strict=True):
            ended.add_metric((*key, outcome), number)
    yield ended


def connections(snapshot: Snapshot) -> Iterator[Metric]:
    """Connections to the broker."""
    labels, table = ("connection",), snapshot.connections
    yield counter("connects", "Connections made", labels, table, CONNECTS)
    yield counter("reconnects", "Connections made again after a loss", labels, table, RECONNECTS)
    yield counter("connection_losses", "Connections lost", labels, table, LOSSES)
    for name, text, position in (
        ("connections", "Connections to the broker that there are to be", CONNECTIONS),
        ("connections_up", "Connections that are up, with everything declared and consumed", CONNECTIONS_UP),
        ("connections_blocked", "Connections that the broker takes no messages on, in an alarm", CONNECTIONS_BLOCKED),
    ):
        gauge = GaugeMetricFamily(f"micro_framework_{name}", text, labels=labels)
        for key, row in table.items():
            gauge.add_metric(key, row[position])
        yield gauge


def takeovers(snapshot: Snapshot) -> Iterator[Metric]:
    """Services that take methods over from Nameko."""
    text = "Requests of a method with rollout= that were passed on to the old side"
    yield counter("calls_passed_on", text, ("service", "method"), snapshot.passed_on, 0)
    for name, text, position in (
        ("waiting", "Requests that wait in the queue of a side", SIDE_WAITING),
        ("consumers", "Consumers of the queue of a side", SIDE_CONSUMERS),
    ):
        gauge = GaugeMetricFamily(f"micro_framework_takeover_{name}", text, labels=("service", "side"))
        for key, row in snapshot.sides.items():
            gauge.add_metric(key, row[position] / row[SIDE_LOOKS])
        yield gauge


def counter(name: str, text: str, labels: tuple[str, ...], table: Table, position: int) -> Metric:
    """One number of every row of a table."""
    family = CounterMetricFamily(f"micro_framework_{name}", text, labels=labels)
    for key, row in table.items():
        family.add_metric(key, row[position])
    return family


def exposition(snapshot: Snapshot, *others: CollectorRegistry) -> bytes:
    """A snapshot in Prometheus' text format.

    Args:
        snapshot: The snapshot.
        others: What else is to be told, as the program's own metrics.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Told(snapshot))
    return b"".join(generate_latest(each) for each in (registry, *others))
