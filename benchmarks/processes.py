"""``python -m benchmarks.processes``: what worker processes make of the cores, and what a call in one costs.

Each round: one plain loop, as many at once as there are cores, then services whose handler runs the same loop in worker
processes or in copies of the service, and services whose handler does nothing. Only the ratios within a round mean
something; the table shows their medians. About three minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan import CONTESTANTS, OWN, SCRIPTS, Contestant
from benchmarks.queues import EVENT_QUEUE
from benchmarks.runs import Contest, Void, faults, is_drained, started, wait_until
from micro_framework.testing.rabbitmq import RabbitMQNode

__all__ = ["Pool", "main"]

SERVICE = Contestant("worker processes", "process_service.py")
COPIES, COPIES_SECONDS = SCRIPTS / "copies_service.py", 120.0
MILLISECONDS = 5
SECONDS = 3.0
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Pool:
    """A service to measure.

    Args:
        mode: Its ``WORKER_MODE``; ``copies`` for threads in as many ``PROCESSES`` as there are cores.
        workers: Its ``MAX_WORKERS``, of each copy.
        computes: Whether its handler computes, or does nothing.
    """

    mode: str
    workers: int
    computes: bool

    @property
    def title(self) -> str:
        """As it is printed."""
        work = f"{MILLISECONDS} ms" if self.computes else "nothing"
        return f"{work}, {self.workers} workers, {self.mode}"


POOLS = (
    Pool("process", CORES, True),
    Pool("process", 2 * CORES, True),
    Pool("greedy_process", CORES, True),
    Pool("copies", 1, True),
    Pool("thread", 10, True),
    Pool("process", CORES, False),
    Pool("process", 10, False),
    Pool("thread", 10, False),
)


def main(arguments: list[str]) -> int:
    """Measure and print; the exit code is 1 if a run was void."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    rounds = parser.parse_args(arguments).rounds
    turns = calibrated()
    figures: dict[str, list[tuple[float, float]]] = {}
    void = False
    with RabbitMQNode() as node:
        contest = Contest(node, SECONDS, 0.0)
        for number in range(rounds):
            one = loops(turns, 1)
            figures.setdefault("plain loop, one process", []).append((one, 1 / CORES))
            all_cores = loops(turns, CORES)
            figures.setdefault(f"plain loop, {CORES} processes", []).append((all_cores, all_cores / (CORES * one)))
            for pool in POOLS:
                try:
                    measure = measured_copies if pool.mode == "copies" else measured
                    rate = measure(contest, pool, turns, 1.3 * CORES * one)
                except Void as error:
                    print(f"round {number}: {pool.title}: VOID: {error}", file=sys.stderr)
                    void = True
                    continue
                print(f"round {number}: {pool.title}: {rate:,.0f}/s", file=sys.stderr)
                share = rate / (CORES * one) if pool.computes else float("nan")
                figures.setdefault(pool.title, []).append((rate, share))
    print_table(figures)
    return int(void)


def print_table(figures: dict[str, list[tuple[float, float]]]) -> None:
    """The medians, with least and greatest."""
    print(f"\n| | a second | share of {CORES} x one core |\n| --- | --- | --- |")
    for title, pairs in figures.items():
        rates, shares = zip(*pairs, strict=True)
        share = f"{statistics.median(shares):.2f} ({min(shares):.2f}..{max(shares):.2f})"
        share = share if shares[0] == shares[0] else ""  # no figure where nothing is computed
        print(f"| {title} | {statistics.median(rates):,.0f} | {share} |")


def calibrated() -> int:
    """How many turns of the loop take the milliseconds."""
    turns = 10_000
    taken = min(timed(turns) for _ in range(20))
    return int(turns * MILLISECONDS / 1000 / taken)


def timed(turns: int) -> float:
    """Seconds of CPU time for so many turns."""
    value, begin = 1, time.process_time()
    for _ in range(turns):  # as `burn` of the service
        value = (value * 31 + 7) % 65521
    return time.process_time() - begin


LOOP = f"""
import sys, time
sys.path[:0] = [{str(SCRIPTS)!r}, {str(SCRIPTS.parent.parent)!r}]
from process_service import burn
turns, seconds, count = int(sys.argv[1]), float(sys.argv[2]), 0
begin = time.perf_counter()
while time.perf_counter() - begin < seconds:
    burn(turns)
    count += 1
print(count / (time.perf_counter() - begin))
"""


def loops(turns: int, processes: int) -> float:
    """How often so many plain processes together run the loop in a second."""
    command = [sys.executable, "-c", LOOP, str(turns), str(SECONDS)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(process.communicate(timeout=60)[0]) for process in running)


def measured(contest: Contest, pool: Pool, turns: int, expected: float) -> float:
    """Messages a second that a service handles of a full queue.

    Raises:
        Void: It did not handle each of them once.
    """
    measured = int(SECONDS * expected) if pool.computes else 8000
    warmup = measured // 5
    template = contest.template(CONTESTANTS[OWN])
    with contest.virtual_host() as (vhost, side):
        identities = side.fill(template, warmup + measured)
        order = {"workers": pool.workers, "prefetch": 2 * pool.workers, "mode": pool.mode, "uri": vhost.uri}
        burnt = turns if pool.computes else 0
        with started(SERVICE, {**order, "burn": burnt, "warmup": warmup, "measured": measured}) as process:
            process.wait_done()
            settled = is_drained(vhost)
            report = process.ask_for_report()
        left = vhost.depth(EVENT_QUEUE)
    if found := faults(identities, report["ids"], left if settled else max(left, 1)):
        raise Void(found)
    (begin, _), (end, _) = report["marks"]["begin"], report["marks"]["end"]
    return float(measured / (end - begin))


def measured_copies(contest: Contest, pool: Pool, turns: int, expected: float) -> float:
    """The same for copies: each writes into one file what it has handled, and when.

    Raises:
        Void: They did not handle each message once.
    """
    measured = int(SECONDS * expected)
    warmup = measured // 5
    template = contest.template(CONTESTANTS[OWN])
    with contest.virtual_host() as (vhost, side), tempfile.TemporaryDirectory() as folder:
        identities, record = side.fill(template, warmup + measured), Path(folder) / "record"
        config = {"AMQP_URI": vhost.uri, "PROCESSES": CORES, "MAX_WORKERS": pool.workers, "BURN": turns}
        config |= {"PREFETCH_COUNT": 2 * pool.workers, "RECORD": str(record)}
        with subprocess.Popen([sys.executable, str(COPIES), json.dumps(config)]) as process:
            try:
                wait_until(lambda: record.exists() and lines_in(record) >= warmup + measured, COPIES_SECONDS, "copies")
                settled = is_drained(vhost)
            finally:
                process.terminate()
        left = vhost.depth(EVENT_QUEUE)
        handled = [line.split() for line in record.read_text().splitlines()]
    if found := faults(identities, [identity for identity, _ in handled], left if settled else max(left, 1)):
        raise Void(found)
    times = sorted(float(at) for _, at in handled)
    return measured / (times[-1] - times[warmup - 1])


def lines_in(record: Path) -> int:
    """How many messages have been handled."""
    return record.read_bytes().count(b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
