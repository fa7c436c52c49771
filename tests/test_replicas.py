"""Replicas of a service under load, real processes all: one is told to stop, and whatever can die dies.

1,000 messages in each mode, and 2,500 or, in a soak, 50,000 among broken connections and killed processes. What was run
is read from a file, where each call writes one line.
"""

import contextlib
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue
from tests.brokers.probes import Doors, message
from tests.processes import SECONDS, ServiceProcess

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MODES = ["thread", "greedy_thread", "process", "greedy_process"]
MOST = 50_000
DURABLE = Properties("application/json", "utf-8", delivery_mode=2)
WORKERS, PREFETCH = 2, 20
SERVICE = """
import os, time
from micro_framework.amqp.entrypoints import QueueListener


class Jobs:
    name = "jobs"

    @QueueListener("jobs")
    def run(self, number):
        record = os.open("record", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(record, f"{number} {os.environ['REPLICA']} {os.getpid()} {time.monotonic()}\\n".encode())  # whole
        finally:
            os.close(record)
"""
CONFIG = f"""
AMQP_URI: ${{AMQP_URI}}
WORKER_MODE: ${{MODE}}
MAX_WORKERS: {WORKERS}
PREFETCH_COUNT: {PREFETCH}
PUBLISH_TIMEOUT: 60
HEARTBEAT: 5
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One call: its message, the replica, the process, and when, in ``time.monotonic()`` of the whole machine."""

    number: int
    replica: str
    pid: int
    at: float


class Record:
    """What was run so far."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a+")
        self.runs: list[Run] = []
        self.numbers: set[int] = set()

    def read(self) -> None:
        """Take in what has been written since."""
        while line := self.file.readline():
            number, replica, pid, at = line.split()
            self.runs.append(Run(int(number), replica, int(pid), float(at)))
            self.numbers.add(int(number))

    def wait_for(self, vhost: VHost, count: int) -> None:
        """Wait until so many messages have been run."""

        def enough(_: VHost) -> bool:
            self.read()
            return len(self.numbers) >= count

        vhost.wait_for(enough, 2 * SECONDS, f"{count} messages to be run")


class Replicas:
    """A folder with the service, and the processes that run it."""

    def __init__(self, folder: Path, vhost: VHost) -> None:
        self.folder, self.vhost = folder, vhost
        (folder / "jobs.py").write_text(SERVICE)
        (folder / "config.yaml").write_text(CONFIG)
        self.record = Record(folder / "record")
        self.started: list[ServiceProcess] = []

    def start(self, mode: str) -> ServiceProcess:
        arguments = ["-m", "micro_framework", "run", "jobs:Jobs", "--config", "config.yaml"]
        variables = {"AMQP_URI": self.vhost.uri, "MODE": mode, "REPLICA": str(len(self.started))}
        replica = ServiceProcess(self.folder, arguments, **variables)
        self.started.append(replica)
        return replica

    def wait_until_all_consume(self) -> None:
        self.vhost.wait_for(lambda it: it.consumers("jobs") == len(self.started), SECONDS, "all replicas to consume")

    def close(self) -> None:
        for replica in self.started:
            replica.close()
        self.record.file.close()


@contextlib.contextmanager
def replicas_in(folder: Path, vhost: VHost) -> Iterator[Replicas]:
    replicas = Replicas(folder, vhost)
    try:
        yield replicas
    finally:
        replicas.close()


@contextlib.contextmanager
def jobs_at(vhost: VHost) -> Iterator[Callable[[range], None]]:
    """Puts jobs into the queue, and returns when the broker has them."""
    doors = Doors(RabbitMQBroker(vhost.uri))
    doors.declare(Queue("jobs"))
    try:
        yield lambda numbers: doors.send(*(message("jobs", str(each), properties=DURABLE) for each in numbers))
    finally:
        doors.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_replica_that_is_stopped_under_load_hands_over_and_everything_is_run_exactly_once(
    rabbit: VHost, tmp_path: Path, mode: str
) -> None:
    count = 1000
    with replicas_in(tmp_path, rabbit) as replicas, jobs_at(rabbit) as put:
        first, second = replicas.start(mode), replicas.start(mode)
        replicas.wait_until_all_consume()
        put(range(count // 2))
        first.send(signal.SIGTERM)
        put(range(count // 2, count))
        assert first.code() == 0
        replicas.record.wait_for(rabbit, count)
        rabbit.wait_until_drained("jobs", timeout=SECONDS)
        second.send(signal.SIGTERM)
        assert second.code() == 0
        replicas.record.read()
        runs = replicas.record.runs
    assert sorted(run.number for run in runs) == list(range(count))
    assert {run.replica for run in runs} == {"0", "1"}


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that died, and between which two ``time.monotonic()``."""

    what: str
    began: float
    ended: float


AFTERWARDS = 10.0
"""Seconds for which what was received before a connection broke may be run after it."""


def run_again(runs: list[Run], disturbances: list[Disturbance]) -> Counter[str]:
    """How often messages were run again, by what had died last before."""
    again, seen = Counter[str](), set[int]()
    for run in sorted(runs, key=lambda run: run.at):
        if run.number in seen:
            before = [each.what for each in disturbances if each.began <= run.at]
            again[before[-1] if before else "nothing"] += 1
        seen.add(run.number)
    return again


def unexplained(runs: list[Run], disturbances: list[Disturbance]) -> list[list[Run]]:
    """The messages that were run again although nothing died in between."""
    by_number: dict[int, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.at):
        by_number[run.number].append(run)

    def explained(first: Run, again: Run) -> bool:
        return any(first.at <= each.ended + AFTERWARDS and again.at >= each.began for each in disturbances)

    return [
        found for found in by_number.values() if not all(explained(first, again) for first, again in pairwise(found))
    ]


def test_nothing_is_lost_or_run_again_without_reason_whatever_dies(
    own_node: RabbitMQNode, tmp_path: Path, soak_size: Callable[[int], int], record_property: Callable[[str, Any], None]
) -> None:
    vhost, count = own_node.vhost(), min(MOST, soak_size(2500))
    rounds, disturbances = min(25, soak_size(5)), list[Disturbance]()
    with replicas_in(tmp_path, vhost) as replicas, jobs_at(vhost) as put:
        replicas.start("process"), replicas.start("thread")
        replicas.wait_until_all_consume()
        record, size = replicas.record, count // rounds

        def kill_a_worker() -> None:
            workers = [run.pid for run in record.runs[-size:] if run.replica == "0"]
            if workers:
                with contextlib.suppress(ProcessLookupError):  # it was killed before
                    os.kill(workers[-1], signal.SIGKILL)

        def close_connections() -> None:
            vhost.close_connections()

        def kill_the_broker() -> None:
            own_node.persist_declarations()
            own_node.kill()
            own_node.start()

        ways = [kill_a_worker, close_connections, kill_a_worker, kill_the_broker, kill_a_worker]
        for number in range(rounds):
            put(range(number * size, (number + 1) * size))
            # By chance somewhere in the middle: the replicas go on meanwhile.
            record.wait_for(vhost, number * size + size // 3)
            began, way = time.monotonic(), ways[number % len(ways)]
            way()
            disturbances.append(Disturbance(way.__name__, began, time.monotonic()))
        record.wait_for(vhost, rounds * size)
        vhost.wait_until_drained("jobs", timeout=2 * SECONDS)
        for replica in replicas.started:
            replica.send(signal.SIGTERM)
            assert replica.code() == 0
        record.read()
        assert vhost.depth("jobs.parked") == 0
    again = run_again(record.runs, disturbances)
    record_property("run again", dict(again))
    assert record.numbers == set(range(rounds * size))
    assert not unexplained(record.runs, disturbances)
    print(f"{rounds * size} messages, {len(disturbances)} deaths, run again: {dict(again)}")  # noqa: T201 - for the soak's log
