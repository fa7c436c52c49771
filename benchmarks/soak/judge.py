"""Runs a soak: starts its processes, has them work slice by slice, looks at them, and counts."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak.board import Board, Phase
from benchmarks.soak.parties import PARTIES
from benchmarks.soak.verdict import Party, Sample, Slice, flatness_of, growths, unequal
from micro_framework.testing.broker_state import BrokerStateError, VHost
from micro_framework.testing.rabbitmq import free_port

__all__ = ["KINDS", "Judge", "Plan", "SoakFailed"]

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "events consumed": Phase.CONSUME,
    "events published": Phase.PUBLISH,
    "calls": Phase.CALL,
    "all at once": Phase.TOGETHER,
}
"""What is done one after the other, again and again."""
QUEUES = ("evt-source-tick--soaked.handle", "rpc-soaked")
START_SECONDS = SETTLE_SECONDS = 60.0
END_SECONDS = 20.0
POLL_SECONDS = 0.005
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""glibc gives every few threads an arena of their own, whose free memory no other can use. Of half a million publishes
by 11 threads that leaves 3 MB behind, in ever smaller steps, while Python has not one object more; here it would hide
what is looked for."""
RECEIVED = "micro_framework_calls_received_total"
MOST_AHEAD = 10_000
"""A source with so many messages handled after one that is missing has lost it."""


class SoakFailed(Exception):
    """A soak could not go on, and why."""


@dataclass(frozen=True)
class Plan:
    """How long.

    Args:
        seconds: All slices together; less by a little than the whole soak takes.
    """

    seconds: float

    @property
    def cycles(self) -> int:
        """How often everything is done: every two minutes, at least four times."""
        return max(4, round(self.seconds / 120))

    @property
    def slice_seconds(self) -> float:
        """How long one thing is done."""
        return self.seconds / self.cycles / len(KINDS)

    @property
    def sample_seconds(self) -> float:
        """How often is looked: every five seconds, at least four times a slice."""
        return min(5.0, self.slice_seconds / 4)


class Judge:
    """One soak. What it keeps are samples and slices: some hundreds, however many messages there are.

    Args:
        vhost: An empty virtual host.
        plan: How long.
        tell: Gets a line of progress now and then.
    """

    def __init__(self, vhost: VHost, plan: Plan, tell: Callable[[str], None]) -> None:
        self.vhost = vhost
        self.plan = plan
        self.tell = tell
        self.samples: list[Sample] = []
        self.slices: list[Slice] = []
        self.faults: list[str] = []
        self.counts: dict[str, Any] = {}
        self.begin = time.monotonic()
        self.port = free_port()

    def run(self) -> None:
        """The whole soak. However it ends, its processes do.

        Raises:
            SoakFailed: It could not go on.
        """
        with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
            file.truncate(Board.SIZE)
            self.board = Board(file.fileno())
            self.board.change(Phase.PAUSE)
            self.processes = {
                party: stack.enter_context(started(party, self.order(file.fileno()))) for party in PARTIES
            }
            self.watched = {party: psutil.Process(process.pid) for party, process in self.processes.items()}
            self.wait(self.is_served, START_SECONDS, "the service to consume")
            self.tell(f"working, {self.plan.cycles} cycles of {self.plan.slice_seconds:g} s for each kind of work")
            self.begin = time.monotonic()
            try:
                for cycle in range(self.plan.cycles):
                    for kind in KINDS:
                        self.slices.append(self.slice(kind, cycle))
                    self.tell(self.progress(cycle))
                self.settle()
            finally:
                self.counts = self.count()
            self.finish()

    def order(self, file: int) -> dict[str, Any]:
        return {"uri": self.vhost.uri, "board": file, "port": self.port}

    def slice(self, kind: str, cycle: int) -> Slice:
        """Have one thing done for its time, and wait until all of it is handled."""
        begin, before = time.monotonic(), self.board.messages()
        self.board.change(KINDS[kind])
        end = begin + self.plan.slice_seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self.plan.sample_seconds))
            self.check()
            self.samples.append(self.sample(cycle))
            self.scrape()
        self.board.change(Phase.PAUSE)
        self.wait(self.board.all_paused, SETTLE_SECONDS, "the last messages to be sent")
        self.wait(self.board.all_handled, SETTLE_SECONDS, "the last messages to be handled")
        return Slice(kind, cycle, self.board.messages() - before, time.monotonic() - begin)

    def settle(self) -> None:
        """Nothing may be left in any queue."""
        try:
            self.vhost.wait_until_drained(timeout=SETTLE_SECONDS)
        except BrokerStateError as error:
            self.faults.append(f"messages are left: {error}")

    def finish(self) -> None:
        """Compare what everybody has counted, and have the processes end by themselves."""
        board = self.board
        self.faults += unequal(board.sent, board.handled, board.through, board.twice)
        if (received := self.scrape()) != board.messages():
            self.faults.append(f"the metrics count {received:,.0f} calls, handled were {board.messages():,}")
        found = {party: flatness_of(self.samples, self.plan.cycles, party) for party in PARTIES}
        self.faults += growths(found)
        board.change(Phase.OVER)
        self.processes["service"].terminate()
        for party, process in self.processes.items():
            try:
                code: int | str = process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                code = f"none within {END_SECONDS:g} s"
            if code:
                self.faults.append(f"exit code of the {party}: {code}")

    def count(self) -> dict[str, Any]:
        board = self.board
        return {
            "events": board.published(),
            "calls": board.called(),
            "handled": board.messages(),
            "handled_twice": board.twice,
            "seconds": round(time.monotonic() - self.begin, 1),
        }

    def is_served(self) -> bool:
        queues = self.vhost.queues()
        return all(name in queues and queues[name].consumers for name in QUEUES)

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise SoakFailed(f"waited {seconds:g} s for {what}; {self.vhost.describe()}")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Find out whether it still makes sense to go on."""
        for party, process in self.processes.items():
            if process.poll() is not None:
                raise SoakFailed(f"the {party} ended with exit code {process.returncode}")
        if self.board.furthest > MOST_AHEAD:
            found = unequal(self.board.sent, self.board.handled, self.board.through, self.board.twice)
            raise SoakFailed(f"a message is lost: {'; '.join(found)}")

    def sample(self, cycle: int) -> Sample:
        counts = {"service": self.board.messages(), "publisher": self.board.published(), "caller": self.board.called()}
        parties = {party: party_of(process, counts[party]) for party, process in self.watched.items()}
        at = round(time.monotonic() - self.begin, 2)
        return Sample(at, cycle, self.board.waiting(), parties)

    def scrape(self) -> float:
        """Ask for the metrics, as Prometheus does; how many calls they count."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=SETTLE_SECONDS) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples if sample.name == RECEIVED]
        return sum(sample.value for sample in samples)

    def progress(self, cycle: int) -> str:
        sizes = [f"{party} {each.memory_info().rss / 1e6:.1f} MB" for party, each in self.watched.items()]
        return f"cycle {cycle + 1} of {self.plan.cycles}: {self.board.messages():,} messages; {', '.join(sizes)}"


def party_of(process: psutil.Process, messages: int) -> Party:
    with process.oneshot():
        memory, cpu = process.memory_full_info(), process.cpu_times()
        return Party(
            messages,
            memory.rss,
            memory.pss,
            memory.uss,
            process.num_threads(),
            process.num_fds(),
            cpu.user + cpu.system,
        )


@contextlib.contextmanager
def started(party: str, order: dict[str, Any]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process inside the block; nothing is left of it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak.parties", json.dumps({**order, "party": party})],
        cwd=ROOT,
        env={**os.environ, **ONE_ARENA},
        stdin=subprocess.PIPE,
        stdout=sys.stderr,
        pass_fds=[order["board"]],
        start_new_session=True,  # a Ctrl-C in the terminal is for the judge
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
