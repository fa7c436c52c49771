"""Reports come while the process runs, and once more at its end."""

import queue

from micro_framework.metrics import reporting
from micro_framework.metrics.reporting import Reporting

SECONDS = 30.0


def test_it_reports_now_and_then(monkeypatch):
    monkeypatch.setattr(reporting, "REPORT_SECONDS", 0.01)
    reports = queue.SimpleQueue()
    told = Reporting(lambda: reports.put(1))
    told.start()
    for _ in range(3):
        assert reports.get(timeout=SECONDS) == 1
    told.stop()


def test_the_end_is_reported_too(monkeypatch):
    monkeypatch.setattr(reporting, "REPORT_SECONDS", 1000)
    reports = []
    told = Reporting(lambda: reports.append(1))
    told.start()
    told.stop()
    told.stop()
    assert reports == [1]


def test_one_that_was_never_started_can_be_stopped():
    Reporting(lambda: None).stop()
