"""``python -m benchmarks.layers``: where the CPU time of a message goes on each hot path; needs perf (Linux).

Each path is run twice: as in the benchmarks, for the CPU time of one message, and under ``perf record``, for the share
of each layer. A sample belongs to the kernel, or to the innermost Python function that ran; Python names those for perf
from 3.12 on (``-X perf``), and perf's unwinding with DWARF ends there. Samples of the main thread, which imports and
starts, are left out.
"""

import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.plan import CONTESTANTS, OWN, Cell, Contestant
from benchmarks.runs import Contest
from micro_framework.testing.rabbitmq import RabbitMQNode

__all__ = ["Watched", "layer_of", "main", "shares", "table"]

SECONDS, WARMUP_SECONDS = 3.0, 0.3
END_SECONDS = 60.0
PATHS = (
    ("an event handled, 10 workers", Cell("consume", "", 10, (OWN,), 1), False),
    ("an event published, 1 caller", Cell("publish", "single", 1, (OWN,), 1), False),
    ("an event published, 10 threads", Cell("publish", "single", 10, (OWN,), 1), False),
    ("a call made, 10 callers", Cell("call", "", 10, (OWN,), 1), False),
    ("a call answered, 10 callers, 10 workers", Cell("call", "", 10, (OWN,), 1), True),
)
"""A title, what is run, and whether the server of it is watched."""

WRAPPER = """#!/bin/sh
(setsid perf record -q -e cpu-clock -F 299 --call-graph dwarf,16000 -p $$ -o {folder}/$$.data >/dev/null 2>&1 &)
exec {python} -X perf "$@"
"""
SCRIPT = ["perf", "script", "-F", "pid,tid,ip,sym,dso", "-i"]

KERNEL = "[kernel.kallsyms]"
SYSTEM_CALLS = {
    "futex": "kernel: threads that wait and wake",
    "poll": "kernel: waiting for the socket",
    "send": "kernel: the socket",
    "recv": "kernel: the socket",
    "read": "kernel: wake-ups of the reading thread",
    "write": "kernel: wake-ups of the reading thread",
}
INTERPRETER = ("take_gil", "drop_gil", "create_gil", "_PyEval_AcquireLock")
SOURCES = {
    "micro_framework/brokers/rabbitmq/": "AMQP: frames, the connection, acknowledgements, confirms",
    "micro_framework/brokers/": "bodies: content types",
    "micro_framework/wire/": "Nameko's conventions: headers, names, properties",
    "micro_framework/rpc/": "RPC: proxies, futures, waiting calls",
    "micro_framework/amqp/": "entrypoints and dependencies: a message to a call and back",
    "micro_framework/standalone": "entrypoints and dependencies: a message to a call and back",
    "micro_framework/spawners/": "workers: taking the next message",
    "micro_framework/": "the call: route, worker, target, outcome",
    "benchmarks/": "the benchmark's own handler or caller",
    "/json/": "JSON",
    "/amqp/": "py-amqp",
    "/threading.py": "threading: locks and conditions",
    "/queue.py": "threading: locks and conditions",
    "<string>": "constructors of data classes and named tuples",
}
"""What a file's path contains, and its layer; the first that fits counts."""
LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Watched(Contestant):
    """A contestant whose process is watched by perf.

    Args:
        wrapper: The program that starts it so.
    """

    wrapper: str = field(default="", compare=False)

    @property
    def python(self) -> str:
        return self.wrapper


def main() -> int:
    """Measure every path and print its table; the return value is the exit code."""
    if sys.version_info < (3, 12) or shutil.which("perf") is None:
        sys.stderr.write("this needs Python 3.12 or newer, and perf (Debian: apt-get install linux-perf)\n")
        return 2
    with RabbitMQNode() as node:
        contest = Contest(node, SECONDS, WARMUP_SECONDS)
        for title, cell, serving in PATHS:
            plain = contest.run(cell, CONTESTANTS[OWN])
            cpu = math.nan if serving else plain.cpu  # the benchmarks measure that of callers alone
            with watching() as (watched, stacks):
                contest.run(cell, caller_of(watched) if serving else watched)
                counted = shares(stacks())
            print(table(title, counted, cpu), flush=True)
    return 0


def caller_of(server: Contestant) -> Contestant:
    """The contestant that calls it; it is known by name."""
    CONTESTANTS[server.name] = server
    return replace(CONTESTANTS[OWN], server=server.name)


@contextmanager
def watching() -> Iterator[tuple[Watched, "Stacks"]]:
    """A contestant under perf, and what asks for its stacks once it has run."""
    with tempfile.TemporaryDirectory(prefix="mf-layers-") as name:
        folder = Path(name)
        wrapper = folder / "python"
        wrapper.write_text(WRAPPER.format(folder=folder, python=sys.executable))
        wrapper.chmod(0o755)
        own = CONTESTANTS[OWN]
        yield (
            Watched(f"{OWN}, watched", own.script, server=OWN, options=own.options, wrapper=str(wrapper)),
            Stacks(folder),
        )


class Stacks:
    """What perf has recorded in a folder: of the last process there, for the first ones only prepare.

    Args:
        folder: Holds a file for each process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> list[str]:
        """The stacks, each as text, once perf has written them."""
        newest = max(self.folder.glob("*.data"), key=lambda path: path.stat().st_mtime_ns)
        deadline = time.monotonic() + END_SECONDS
        while is_written_to(newest) and time.monotonic() < deadline:
            time.sleep(0.1)
        done = subprocess.run([*SCRIPT, str(newest)], capture_output=True, text=True, check=True)
        return [stack for stack in done.stdout.split("\n\n") if stack.strip()]


def is_written_to(path: Path) -> bool:
    """Whether a process has the file open."""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if entry.readlink() == path:
                return True
        except OSError:
            continue
    return False


def shares(stacks: Iterable[str]) -> Mapping[str, float]:
    """The share of each layer in the samples of all threads but the main one, the greatest first."""
    counts: Counter[str] = Counter()
    for stack in stacks:
        head, *frames = stack.strip().splitlines()
        process, thread = head.split()[0].split("/")
        if process != thread:
            counts[layer_of([frame.split(None, 1)[1] for frame in frames])] += 1
    return {layer: count / counts.total() for layer, count in counts.most_common()}


def layer_of(frames: list[str]) -> str:
    """The layer of one sample.

    Args:
        frames: Symbol and object of each frame, the innermost first.
    """
    if frames and KERNEL in frames[0]:
        calls = (frame for frame in frames if "__x64_sys_" in frame or "__arm64_sys_" in frame)
        name = next(calls, "")
        return next((layer for call, layer in SYSTEM_CALLS.items() if call in name), "kernel: the rest")
    inner: list[str] = []
    for frame in frames:
        if frame.startswith("py::"):
            if any(name in symbol for name in INTERPRETER for symbol in inner):
                return "taking turns at the interpreter (GIL)"
            return next((layer for part, layer in SOURCES.items() if part in frame), "the rest of the standard library")
        inner.append(frame)
    return "the rest"


def table(title: str, found: Mapping[str, float], cpu: float) -> str:
    """A Markdown table.

    Args:
        title: Of the path.
        found: The share of each layer.
        cpu: Microseconds of CPU time that a message costs, NaN where that is not known.
    """
    known = not math.isnan(cpu)
    lines = [f"**{title}**" + (f": {cpu:.0f} µs" if known else ""), ""]
    lines += ["| layer | share | µs |", "| --- | --- | --- |"] if known else ["| layer | share |", "| --- | --- |"]
    small = sum(share for share in found.values() if share < LEAST_SHARE)
    for layer, share in [*((each, share) for each, share in found.items() if share >= LEAST_SHARE), ("less", small)]:
        lines.append(f"| {layer} | {share:.1%} |" + (f" {share * cpu:.1f} |" if known else ""))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
