"""What every contestant counts with: which messages were handled, and when the measured window began and ended.

Runs in each contestant's own environment: standard library only. A contestant is started with one argument, the order
as JSON (see `benchmarks/runs.py`), and writes its report when it is sent SIGUSR1; it is killed afterwards.
"""

import itertools
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Clocks", "Record", "Recorded", "Tally", "clocks", "counting", "pack", "read_order"]

Clocks = tuple[float, float]
"""Seconds of wall time and of this process's CPU time."""

Entry = tuple[str, float, float]
"""A message's identity, the seconds of the machine's monotonic clock when it was handled, and those of CPU time that
the work took."""

ENTRY = struct.Struct("<dd36s")
"""The identity comes last: an entry whose last byte is there is whole."""
MOST_ENTRIES = 1_000_000
"""Of one process; what is not used takes no space."""


def read_order() -> dict[str, Any]:
    """The order this process was started with."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    return order


def counting(order: dict[str, Any]) -> Callable[..., None]:
    """What a handler calls with the identity of each message that it has handled, and the CPU time of its work.

    Args:
        order: With ``record``, the path of a folder, if more than one process handles messages; else as for `Tally`.
    """
    return Record(order["record"]).handled if order.get("record") else Tally(order).handled


class Record:
    """Where each of several processes notes what it has handled, and when. Safe in threads and forks.

    Each has a file of its own, in memory that whoever reads it shares: beside a handler that computes, a system call
    for each message was seen in the figures.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.open()
        os.register_at_fork(after_in_child=self.open)

    def open(self) -> None:
        """Begin the file of this process."""
        file = os.open(os.path.join(self.folder, str(os.getpid())), os.O_RDWR | os.O_CREAT, 0o600)
        os.truncate(file, ENTRY.size * MOST_ENTRIES)
        self.entries = mmap.mmap(file, ENTRY.size * MOST_ENTRIES)
        os.close(file)
        self.places = itertools.count(0, ENTRY.size)

    def handled(self, identity: str, work: float = 0.0) -> None:
        """One message was handled."""
        ENTRY.pack_into(self.entries, next(self.places), time.monotonic(), work, identity.encode())


class Recorded:
    """What processes have noted in a folder, see `Record`.

    Args:
        folder: Where their files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[Path, BinaryIO] = {}
        self.entries: list[Entry] = []

    def look(self) -> list[Entry]:
        """All that has been noted by now; only what is new is read."""
        for path in self.folder.iterdir():
            if path not in self.files:
                self.files[path] = path.open("rb", buffering=0)
            self.entries += new_entries(self.files[path])
        return self.entries

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()


def new_entries(file: BinaryIO) -> Iterator[Entry]:
    """The entries that follow in a file; its position is then behind the last one that is whole."""
    while block := file.read(ENTRY.size * 1000):
        for number, (at, work, identity) in enumerate(ENTRY.iter_unpack(block)):
            if not identity[-1]:
                file.seek(number * ENTRY.size - len(block), os.SEEK_CUR)
                return
            yield identity.decode(), at, work


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
