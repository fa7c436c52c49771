"""Reading the port for operators, as Prometheus and a probe do."""

import http.client
import math
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

SECONDS = 60.0
T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = SECONDS) -> T:
    """Look until something true is seen; a port that is asked has no other way to tell."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited in vain; seen last: {seen!r}"
        pause.wait(0.05)
    return seen


class Scraper:
    """Asks one port."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over everything that has these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.ask("/metrics")[1])
            for sample in family.samples
            if sample.name == f"micro_framework_{name}" and labels.items() <= sample.labels.items()
        )


def broken_conventions(text: str) -> list[str]:
    """What of Prometheus' rules for names, units, labels and histograms a text of metrics of this project breaks."""
    families = list(text_string_to_metric_families(text))
    own = [family for family in families if family.name.startswith("micro_framework_")]
    assert own, "there is none of this project"
    twice = [
        f"{name} is there {number} times" for name, number in Counter(f.name for f in families).items() if number > 1
    ]
    return twice + [f"{family.name}: {problem}" for family in own for problem in problems_of(family)]


def problems_of(family: Any) -> Iterator[str]:
    """What is wrong with one metric."""
    if not re.fullmatch(r"[a-z]+(_[a-z]+)*", family.name):
        yield "words of small letters, one underscore between two"
    if not family.documentation:
        yield "it has no help text"
    if family.type not in ("counter", "gauge", "histogram"):
        yield f"its type is {family.type}"
    words = set(family.name.split("_"))
    if found := words & {"counter", "gauge", "histogram", "total", "count", "sum", "bucket", "info", "created"}:
        yield f"{found} say what only the type says"
    if found := words & {"ms", "milliseconds", "microseconds", "minutes", "kilobytes", "percent"}:
        yield f"{found} are no base units"
    if family.type == "histogram" and not family.name.endswith("_seconds"):
        yield "it says no unit"
    suffixes = {"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_count", "_sum"}}[family.type]
    rows: dict[Any, list[tuple[float, float]]] = defaultdict(list)
    for sample in family.samples:
        if sample.name.removeprefix(family.name) not in suffixes:
            yield f"a sample is called {sample.name}"
        if not (math.isfinite(sample.value) and sample.value >= 0):
            yield f"{sample.name} is {sample.value}"
        own = {name: value for name, value in sample.labels.items() if name != "le"}
        if wrong := [name for name in own if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)]:
            yield f"labels {wrong}"
        if sample.name.endswith("_bucket"):
            rows[tuple(sorted(own.items()))].append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            rows[tuple(sorted(own.items()))].append((math.inf, sample.value))
    for labels, row in rows.items():
        if row != sorted(row) or [value for _, value in row] != sorted(value for _, value in row):
            yield f"the buckets of {labels} do not grow: {row}"
        if len(row) < 3 or row[-2][0] != math.inf or row[-2] != row[-1]:
            yield f"the last bucket of {labels} is not everything: {row[-2:]}"
