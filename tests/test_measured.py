"""What a measured route counts in cases that no broker brings about at will; the rest is in test_observed.py."""

import threading

import pytest

from micro_framework import measured
from micro_framework.metrics.snapshots import COUNTS, ROUTE_FIELDS, RUN_SUM, WAIT_BUCKETS, WAIT_SUM
from micro_framework.routes import route
from micro_framework.runner import Runner
from tests.spawners.laboratory import Desk

METRICS = {"ENABLE_METRICS": True, "METRICS": {"HOST": "127.0.0.1", "PORT": 0}}
SECONDS = 30.0


class Choosy(Desk):
    """Cannot decode some, leaves out some, and cannot filter some."""

    def to_call(self, item):
        if item == "garbage":
            raise ValueError("cannot be decoded")
        return super().to_call(item)

    def prepare(self, call):
        if call.args == ("broken filter",):
            raise ValueError("the filter is broken")
        return None if call.args == ("not for us",) else call

    def refuse(self, item, error):
        self.settled.put((item, None))
        return ""


class Counter:
    name = "counter"
    began = threading.Event()
    gate = threading.Event()

    @route(Choosy())
    def count(self, payload):
        if payload == "wait":
            self.began.set()
            self.gate.wait(SECONDS)
        if payload == "fail":
            raise ValueError("failed")


def counts(runner):
    (row,) = runner.tallies.snapshot().routes.values()
    return {name: number for name, number in zip(COUNTS, row, strict=False) if number}


def choosy(runner):
    (bound,) = runner.assembly.routes
    return bound.entrypoint


@pytest.mark.parametrize(
    ("payload", "counted"),
    [
        ("fine", {"received": 1, "started": 1, "succeeded": 1}),
        ("fail", {"received": 1, "started": 1, "failed": 1}),
        ("garbage", {"received": 1, "refused": 1}),
        ("not for us", {"received": 1, "skipped": 1}),
        ("broken filter", {"received": 1, "started": 1, "failed": 1}),
    ],
)
def test_every_message_is_counted_once(payload, counted):
    with Runner([Counter], METRICS) as runner:
        choosy(runner).route.submit(payload)
        choosy(runner).settled.get(timeout=SECONDS)
        assert counts(runner) == counted


def test_what_waits_at_a_stop_is_handed_back_and_counted():
    Counter.began.clear()
    Counter.gate.clear()
    with Runner([Counter], {**METRICS, "MAX_WORKERS": 1}) as runner:
        choosy(runner).route.submit("wait")
        assert Counter.began.wait(SECONDS)
        choosy(runner).route.submit("never")
        assert counts(runner) == {"received": 2, "started": 1}
        stopping = threading.Thread(target=runner.stop)
        stopping.start()
        assert choosy(runner).handed_back.get(timeout=SECONDS) == "never"
        Counter.gate.set()
        stopping.join(SECONDS)
        assert counts(runner) == {"received": 2, "started": 1, "succeeded": 1, "handed_back": 1}


def test_errors_are_noted_with_their_call_id():
    with Runner([Counter], METRICS) as runner:
        choosy(runner).call("fail")
        (error,) = runner.tallies.recent.latest()
        assert (error["call_id"], error["type"], error["what"]) == ("counter.count.1", "ValueError", "failed")


def test_durations_come_into_the_bucket_that_they_fit(monkeypatch):
    moments = iter([0.0, 0.001, 1.0, 62.0])
    monkeypatch.setattr(measured, "perf_counter", lambda: next(moments))
    with Runner([Counter], METRICS) as runner:
        choosy(runner).call("fine")
        (row,) = runner.tallies.snapshot().routes.values()
    assert (row[WAIT_SUM], row[WAIT_BUCKETS]) == (0.001, 1)
    assert (row[RUN_SUM], row[ROUTE_FIELDS - 1]) == (61, 1)
