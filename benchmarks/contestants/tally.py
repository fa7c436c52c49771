"""What every contestant counts with: which messages were handled, and when the measured window began and ended.

Runs in each contestant's own environment: standard library only. A contestant is started with one argument, the order
as JSON (see `benchmarks/runs.py`), and writes its report when it is sent SIGUSR1; it is killed afterwards.
"""

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Clocks", "Record", "Tally", "clocks", "counting", "pack", "read_order"]

Clocks = tuple[float, float]
"""Seconds of wall time and of this process's CPU time."""


def read_order() -> dict[str, Any]:
    """The order this process was started with."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    return order


def counting(order: dict[str, Any]) -> Callable[..., None]:
    """What a handler calls with the identity of each message that it has handled, and the CPU time of its work.

    Args:
        order: With ``record``, the path of a file, if more than one process handles messages; else as for `Tally`.
    """
    return Record(order["record"]).handled if order.get("record") else Tally(order).handled


class Record:
    """A file into which each of several processes writes what it has handled, and when. Safe in threads and forks.

    It stays open: where a handler computes, opening it for each message took 2 % of all time.

    Args:
        path: The file; a line is an identity, the seconds of the machine's monotonic clock, and those of CPU time that
            the work took.
    """

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def handled(self, identity: str, work: float = 0.0) -> None:
        """One message was handled."""
        os.write(self.file, f"{identity} {time.monotonic()} {work}\n".encode())


class Tally:
    """Counts handled messages. Called by many threads at once; each operation on shared state is a single atomic one.

    The window begins when message ``warmup`` has been handled and ends with message ``warmup + measured``.

    Args:
        order: Needs ``warmup``, ``measured`` and ``report``, a path; ``report + ".done"`` appears with the last
            message.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.report = order["report"]
        self.first = order["warmup"]
        self.last = order["warmup"] + order["measured"]
        self.ids: list[str] = []
        self.numbers = itertools.count(1)
        self.marks: dict[str, Clocks] = {}
        signal.signal(signal.SIGUSR1, self.write)

    def handled(self, identity: str, work: float = 0.0) -> None:
        """One message was handled."""
        self.ids.append(identity)
        number = next(self.numbers)
        if number == self.first:
            self.marks["begin"] = clocks()
        elif number == self.last:
            self.marks["end"] = clocks()
            Path(self.report + ".done").touch()

    def write(self, *_: object) -> None:
        """Write the report, whole or not at all."""
        pack(self.report, {"ids": self.ids, "marks": self.marks})


def clocks() -> Clocks:
    """The time now."""
    return time.perf_counter(), time.process_time()


def pack(path: str, report: dict[str, Any]) -> None:
    """Write a report so that it appears complete."""
    Path(path + ".part").write_text(json.dumps(report))
    os.replace(path + ".part", path)
