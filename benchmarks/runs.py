"""One run of one contestant: fill, start, wait, count, judge.

A run is valid only if every message was handled exactly once and nothing is left in the queue; whatever else it shows
is a `Void` with the reason.
"""

import contextlib
import functools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contestants.tally import Recorded
from benchmarks.contestants.work import burn
from benchmarks.plan import COMPUTE_MILLISECONDS, CONTESTANTS, CORES, OWN, PAUSE, SERVER_WORKERS, Cell, Contestant
from benchmarks.queues import EVENTS, BrokerSide, Source, Template
from micro_framework.testing.broker_state import BrokerStateError, VHost
from micro_framework.testing.rabbitmq import RabbitMQNode

__all__ = ["Contest", "ContestantProcess", "Run", "Void", "faults"]

START_SECONDS = 20.0
RUN_SECONDS = 60.0
DRAIN_SECONDS = 10.0
POLL_SECONDS = 0.02
RECORD_POLL_SECONDS = 0.1
SIZING_MESSAGES = 2000
SIZING_BYTES = 20_000_000
SIZING_COMPUTED = 200
DROPPED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""Not passed on to contestants: modules of theirs must come from their environments, and be compiled only once."""
MARGIN = 1.25
"""A window is planned this much longer than it must last, for a rate is not known before it was measured."""


class Void(Exception):
    """The run's figure does not count: messages left, lost or handled twice, or a contestant that did not finish."""


@dataclass(frozen=True)
class Run:
    """What one valid run measured.

    Args:
        contestant: Its name.
        cell: The cell's title.
        rate: Messages per second in the window.
        cpu: Microseconds of the contestant's CPU time per message in the window; NaN where several processes work.
        window: Seconds that the window lasted.
        messages: Messages in the window.
        p50, p99: Of publishes and calls: how long half of them, and 99 of 100, took at most, in milliseconds.
        work: Of handlers that compute in several processes: the share of the cores' time that went into their work.
    """

    contestant: str
    cell: str
    rate: float
    cpu: float
    window: float
    messages: int
    p50: float | None = None
    p99: float | None = None
    work: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


class Contest:
    """Runs contestants on one node, each run on a virtual host of its own.

    Args:
        node: A running node of its own.
        seconds: How long a window must last at least.
        warmup_seconds: How long messages are handled before the window begins, about.
    """

    def __init__(self, node: RabbitMQNode, seconds: float, warmup_seconds: float) -> None:
        self.node = node
        self.seconds = seconds
        self.warmup_seconds = warmup_seconds
        self.templates: dict[tuple[str, int], Template] = {}
        self.rates: dict[tuple[str, str], float] = {}

    def run(self, cell: Cell, contestant: Contestant) -> Run:
        """One run that counts.

        Raises:
            Void: It does not count.
        """
        return {"consume": self.consume, "publish": self.publish, "call": self.call}[cell.kind](cell, contestant)

    def consume(self, cell: Cell, contestant: Contestant) -> Run:
        """Drain a full queue; how full is known from the runs before, the first of which only finds out."""
        if contestant.script == "plain_loop.py":
            return self.loop(cell, contestant)
        key = (cell.title, contestant.name)
        if key not in self.rates:
            messages = sizing_messages(cell)
            self.rates[key] = self.drain(cell, contestant, messages // 4, messages).rate
        run = self.sized_drain(cell, contestant)
        if run.window < self.seconds:
            run = self.sized_drain(cell, contestant)
        if run.window < self.seconds:
            raise Void(f"its window lasted {run.window:.2f} s, {self.seconds:g} s are needed")
        return run

    def sized_drain(self, cell: Cell, contestant: Contestant) -> Run:
        """Drain as many messages as should last long enough, and remember the rate if it was higher than before."""
        key = (cell.title, contestant.name)
        rate = self.rates[key]
        warmup, measured = max(1, int(rate * self.warmup_seconds)), int(rate * self.seconds * MARGIN) + 1
        run = self.drain(cell, contestant, warmup, measured)
        self.rates[key] = max(rate, run.rate)
        return run

    def drain(self, cell: Cell, contestant: Contestant, warmup: int, measured: int) -> Run:
        """Let a contestant drain exactly so many messages."""
        template, together = self.template(contestant, cell.size), contestant.together
        with self.virtual_host(contestant.source) as (vhost, side):
            identities = side.fill(template, warmup + measured)
            order = {"role": "consume", "workers": cell.workers, "warmup": warmup, "measured": measured}
            order |= {"more_routes": cell.more_routes, **work_order(cell.work), "uri": vhost.uri}
            with started(contestant, order) as process:
                process.wait_done(warmup + measured)
                settled = is_drained(vhost, contestant.source.queue)
                report = process.record() if together else process.ask_for_report()
            left = vhost.depth(contestant.source.queue)
        if found := faults(identities, report["ids"], left if settled else max(left, 1)):
            raise Void(found)
        if together:
            times = report["times"]
            window, cpu = times[-1] - times[warmup - 1], math.nan
            work = sum(report["work"][warmup:]) / (CORES * window) if cell.work == "compute" else None
        else:
            (begin, begin_cpu), (end, end_cpu) = report["marks"]["begin"], report["marks"]["end"]
            window, cpu, work = end - begin, (end_cpu - begin_cpu) / measured * 1e6, None
        return Run(contestant.name, cell.title, measured / window, cpu, window, measured, work=work)

    def loop(self, cell: Cell, contestant: Contestant) -> Run:
        """Let it compute for the length of a window, without messages."""
        with started(contestant, {**work_order(cell.work), "seconds": self.seconds}) as process:
            process.wait_done()
            rate = process.report()["rate"]
        return Run(contestant.name, cell.title, rate, math.nan, self.seconds, int(rate * self.seconds))

    def publish(self, cell: Cell, contestant: Contestant) -> Run:
        """Let callers publish for the length of a window, and count what arrived."""
        with self.virtual_host(contestant.source) as (vhost, side):
            side.order(cell.mode, cell.workers)
            order = {"role": "publish", "mode": cell.mode, "workers": cell.workers, "callers": cell.workers}
            with started(contestant, {**order, "uri": vhost.uri, "seconds": self.seconds}) as process:
                process.wait_done()
                report = process.report()
            callers, latencies = report["callers"], report["latencies"]
            total, arrived = sum(caller["total"] for caller in callers), vhost.depth(contestant.source.queue)
        if total != arrived:
            raise Void(f"{total} events were confirmed and {arrived} have arrived")
        return run_of(cell, contestant, callers, latencies)

    def call(self, cell: Cell, contestant: Contestant) -> Run:
        """Let callers call a service for the length of a window, and compare what was called with what was run."""
        server = CONTESTANTS[contestant.server or contestant.name]
        endless = {"role": "serve", "workers": SERVER_WORKERS, "warmup": 0, "measured": sys.maxsize}
        with self.virtual_host(server.source) as (vhost, _), started(server, {**endless, "uri": vhost.uri}) as serving:
            wait_until(lambda: is_served(vhost, server.calls), START_SECONDS, f"{server.name} to serve")
            order = {"role": "call", "callers": cell.workers, "seconds": self.seconds, "uri": vhost.uri}
            with started(contestant, order) as process:
                process.wait_done()
                report = process.report()
            settled = is_drained(vhost, server.calls)
            run = len(serving.ask_for_report()["ids"])
        callers, latencies = report["callers"], report["latencies"]
        if (total := sum(caller["total"] for caller in callers)) != run or not settled:
            raise Void(f"{total} calls were answered and {run} were run{'' if settled else '; some are left'}")
        return run_of(cell, contestant, callers, latencies)

    def template(self, contestant: Contestant, size: int = 0) -> Template:
        """A message that the contestant sent itself; captured once for each size."""
        key = (contestant.name, size)
        if key not in self.templates:
            sender = CONTESTANTS[OWN] if contestant.script == "own_processes.py" else contestant
            with self.virtual_host(contestant.source) as (vhost, side):
                side.order("once")
                order = {"role": "publish", "mode": "once", "workers": 1, "callers": 1, "size": size, "uri": vhost.uri}
                with started(sender, order):
                    wait_until(lambda: side.ready() == 1, START_SECONDS, f"a message of {contestant.name}")
                self.templates[key] = side.take_template()
        return self.templates[key]

    @contextlib.contextmanager
    def virtual_host(self, source: Source = EVENTS) -> Iterator[tuple[VHost, BrokerSide]]:
        """An empty virtual host with the queues declared."""
        vhost = self.node.vhost()
        side = BrokerSide(vhost.uri, source)
        try:
            side.declare()
            yield vhost, side
        finally:
            with contextlib.suppress(OSError):
                side.close()
            self.node.delete_vhost(vhost.name)


def run_of(cell: Cell, contestant: Contestant, callers: list[dict[str, Any]], latencies: list[float]) -> Run:
    """What callers have measured together, from the first one's beginning to the last one's end.

    Rates of single callers are not added up: with some contestants callers wait until others have finished.

    Args:
        callers: Of each: how many in all, how many ``measured``, and the clocks at ``begin`` and ``end`` of that.
        latencies: Seconds, sorted.
    """
    measured = sum(caller["measured"] for caller in callers)
    begin, end = min(caller["begin"] for caller in callers), max(caller["end"] for caller in callers)
    window, cpu = end[0] - begin[0], end[1] - begin[1]
    half, most = (latencies[len(latencies) * share // 100] * 1000 for share in (50, 99))
    return Run(contestant.name, cell.title, measured / window, cpu / measured * 1e6, window, measured, half, most)


class ContestantProcess:
    """A contestant at work. Made by `started`."""

    def __init__(self, contestant: Contestant, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.contestant = contestant
        self.process = process
        self.folder = folder
        self.report_path, self.record_path = folder / "report", folder / "record"
        self.noted = Recorded(self.record_path)

    def wait_done(self, messages: int = 0) -> None:
        """Wait until it has handled its last message, or published its last event.

        Args:
            messages: How many it has to handle, if several processes do.
        """
        if self.contestant.together:
            self.wait_recorded(messages, RUN_SECONDS)
        else:
            done = Path(f"{self.report_path}.done")
            wait_until(lambda: self.look_for(done), RUN_SECONDS, f"{self.contestant.name} to finish")

    def wait_recorded(self, messages: int, seconds: float) -> None:
        """Wait until its processes have handled so many messages; seldom, for when they did is in their record.

        Raises:
            Void: They did not in time, or will never.
        """
        what = f"{self.contestant.name} to handle {messages}"
        wait_until(lambda: self.recorded() >= messages, seconds, what, RECORD_POLL_SECONDS)

    def recorded(self) -> int:
        """How many messages its processes have handled."""
        return len(self.noted.look()) if self.look_for(self.record_path) else 0

    def record(self) -> dict[str, Any]:
        """What its processes have handled, when, and with how much CPU time, in the order of time."""
        entries = sorted(self.noted.look(), key=lambda entry: entry[1])
        identities, times, work = zip(*entries, strict=True) if entries else ((), (), ())
        return {"ids": list(identities), "times": list(times), "work": list(work)}

    def ask_for_report(self) -> dict[str, Any]:
        """Have it write its report."""
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.look_for(self.report_path), DRAIN_SECONDS, f"the report of {self.contestant.name}")
        return self.report()

    def report(self) -> dict[str, Any]:
        """The report that it has written."""
        report: dict[str, Any] = json.loads(self.report_path.read_text())
        return report

    def look_for(self, path: Path) -> bool:
        """Whether a file is there.

        Raises:
            Void: It will never be.
        """
        ended = self.process.poll() is not None  # asked first: it may write the file and end between the two looks
        if path.exists():
            return True
        if ended:
            raise Void(f"{self.contestant.name} ended, exit code {self.process.returncode}:\n{self.output()}")
        return False

    def output(self) -> str:
        """The end of what it has written."""
        return (self.folder / "output").read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def started(contestant: Contestant, order: dict[str, Any]) -> Iterator[ContestantProcess]:
    """A contestant's process inside the block; it is killed at the end, having nothing left to do."""
    with tempfile.TemporaryDirectory(prefix="mf-bench-") as name:
        folder = Path(name)
        whole = {"size": 0, **order, **contestant.options, "report": str(folder / "report")}
        if contestant.together:
            (folder / "record").mkdir()
            whole["record"] = str(folder / "record")
        command = [contestant.python, str(contestant.path), json.dumps(whole)]
        variables = {key: value for key, value in os.environ.items() if key not in DROPPED}
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**variables, "PYTHONWARNINGS": "ignore"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        running = ContestantProcess(contestant, process, folder)
        try:
            yield running
        finally:
            end(process)
            running.noted.close()


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and those that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def is_served(vhost: VHost, name: str) -> bool:
    """Whether somebody consumes the service's queue."""
    queue = vhost.queues().get(name)
    return queue is not None and queue.consumers > 0


def is_drained(vhost: VHost, queue: str) -> bool:
    """Whether the broker gets every acknowledgement soon."""
    try:
        vhost.wait_until_drained(queue, timeout=DRAIN_SECONDS)
    except BrokerStateError:
        return False
    return True


def sizing_messages(cell: Cell) -> int:
    """How many messages the first run of a contestant gets, which only finds out how fast it is."""
    if cell.work == "compute":
        return SIZING_COMPUTED
    # Several rounds of all workers: what is received before the first is handled says nothing of the rate.
    return min(SIZING_MESSAGES, max(6 * cell.workers, SIZING_BYTES // max(cell.size, 1)))


def work_order(work: str) -> dict[str, Any]:
    """What a contestant is told of its handler's work."""
    return {"nothing": dict, "wait": lambda: {"pause": PAUSE}, "compute": lambda: {"turns": turns()}}[work]()


@functools.cache
def turns() -> int:
    """How many turns of the loop take the milliseconds on this machine: the fastest of twenty trials counts."""

    def seconds(count: int) -> float:
        begin = time.process_time()
        burn(count)
        return time.process_time() - begin

    trial = 10_000
    return int(trial * COMPUTE_MILLISECONDS / 1000 / min(seconds(trial) for _ in range(20)))


def faults(sent: list[str], handled: list[str], left: int) -> str:
    """What is wrong with a run, empty if nothing is.

    Args:
        sent: The identities that were in the queue.
        handled: Those that the contestant handled, in any order.
        left: Messages that the broker still has.
    """
    times = Counter(handled)
    lost = sum(identity not in times for identity in sent)
    twice = sum(count > 1 for count in times.values())
    foreign = len(times.keys() - set(sent))
    found = {"left in the queue": left, "lost": lost, "handled twice": twice, "not ours": foreign}
    return ", ".join(f"{count} {what}" for what, count in found.items() if count)


def wait_until(condition: Any, seconds: float, what: str, every: float = POLL_SECONDS) -> None:
    """Ask again every few milliseconds, or so many seconds.

    Raises:
        Void: It did not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Void(f"waited {seconds:g} s for {what}")
        time.sleep(every)
