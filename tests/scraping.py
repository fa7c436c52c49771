"""Reading the port for operators, as Prometheus and a probe do."""

import http.client
import threading
import time
from collections.abc import Callable
from typing import TypeVar

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
