"""The course of the cluster: start, take orders, wait for what is under way, stop, sum up. Started by `run.py`."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kombu import Connection
from kombu.exceptions import OperationalError

from micro_framework.config import redact_uri
from micro_framework.exceptions import MicroFrameworkError
from micro_framework.standalone import RPCClient
from micro_framework.testing.rabbitmq import RabbitMQNode, Watchdog

FOLDER = Path(__file__).resolve().parent
NAMEKO_2, NAMEKO_3, OURS = RUNTIMES = ("Nameko 2.14.1", "Nameko 3.0.0rc11", "micro_framework")
START_SECONDS, STOP_SECONDS, CALL_SECONDS = 90.0, 15.0, 30.0
LOST_SHOWN = 10

SHARED = "evt-orders-placed--payments.charge"
CONSUMERS = {
    SHARED: 2,
    "rpc-stock": 1,
    "evt-payments-paid--shipping.ship": 1,
    "rpc-orders": 1,
    "evt-shipping-shipped--orders.shipped": 1,
    "rpc-books": 1,
    "evt-shipping-shipped--books.shipped": 1,
}
"""Queues, and how many processes consume them once the cluster stands."""

STEPS = (
    ("call", "reserve", "orders", "stock"),
    ("event", "placed", "orders", "payments"),
    ("call", "price", "payments", "stock"),
    ("event", "paid", "payments", "shipping"),
    ("call", "address", "shipping", "orders"),
    ("call", "invoice", "shipping", "books"),
    ("event", "shipped", "shipping", "orders"),
    ("event", "shipped", "shipping", "books"),
)
"""What each order brings about: what kind, its name, from which service, to which."""


class ClusterError(Exception):
    """A service did not start, or has ended."""


@dataclass(frozen=True)
class Arrow:
    """Something that has arrived; ``sent_by`` and ``taken_by`` are what the services run on."""

    kind: str
    name: str
    order: int
    sender: str
    sent_by: str
    receiver: str
    taken_by: str

    @classmethod
    def read(cls, line: bytes) -> "Arrow | None":
        """An arrow from a line of `arrows.arrow`; None from any other line."""
        if not line.startswith(b'{"kind"'):
            return None
        told = json.loads(line)
        return cls(told["kind"], told["name"], told["order"], *told["sender"], *told["receiver"])

    @property
    def step(self) -> tuple[str, str, str, str]:
        """Which of `STEPS` it is."""
        return self.kind, self.name, self.sender, self.receiver

    def __str__(self) -> str:
        sign = "--call--->" if self.kind == "call" else "==event==>"
        sender, receiver = f"{self.sender} ({self.sent_by})", f"{self.receiver} ({self.taken_by})"
        return f"order {self.order:<4} {sender:27} {sign} {receiver:27} {self.name}"


class Tally:
    """What has arrived of all that had to."""

    def __init__(self) -> None:
        self.orders = 0
        self.seen: Counter[tuple[int, tuple[str, str, str, str]]] = Counter()
        self.between: Counter[tuple[str, str, str]] = Counter()
        self.shared: Counter[str] = Counter()

    def add(self, arrow: Arrow) -> None:
        """Count an arrow."""
        self.seen[arrow.order, arrow.step] += 1
        self.between[arrow.kind, arrow.sent_by, arrow.taken_by] += 1
        if arrow.name == "placed":
            self.shared[arrow.taken_by] += 1

    @property
    def lost(self) -> list[str]:
        """What should have arrived and has not, also because what would have brought it about has not."""
        return [
            f"order {order}: {kind} {name!r} from {sender} to {receiver}"
            for order in range(1, self.orders + 1)
            for kind, name, sender, receiver in STEPS
            if not self.seen[order, (kind, name, sender, receiver)]
        ]

    def summary(self, seconds: float) -> str:
        """The table, the shared queue, and the balance."""
        lost, expected = self.lost, self.orders * len(STEPS)
        twice = sum(count - 1 for count in self.seen.values() if count > 1)
        table = [["from \\ to", *RUNTIMES]]
        table += [[sent, *(self.cell(sent, taken) for taken in RUNTIMES)] for sent in RUNTIMES]
        lines = [
            f"{self.orders} orders in {seconds:.0f} s",
            "",
            *("".join(f"{cell:22}" for cell in row).rstrip() for row in table),
            "",
            f"of one queue, {SHARED}: {self.shared[NAMEKO_3]} to {NAMEKO_3}, {self.shared[OURS]} to {OURS}",
            f"{expected - len(lost)} of {expected} arrived, {len(lost)} lost, {twice} more than once",
            *(f"lost: {text}" for text in lost[:LOST_SHOWN]),
            *([f"and {len(lost) - LOST_SHOWN} more"] if len(lost) > LOST_SHOWN else []),
        ]
        return "\n".join(lines)

    def cell(self, sent_by: str, taken_by: str) -> str:
        """How many events and calls went from one to the other."""
        counts = [(self.between[kind, sent_by, taken_by], kind) for kind in ("event", "call")]
        return ", ".join(f"{count} {kind}{'s' * (count > 1)}" for count, kind in counts if count) or "-"


class Services:
    """The four processes, and one pipe on which they all report.

    Args:
        uri: The broker.
        folder: For what they log, and their process ids.
    """

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.reading, self.writing = os.pipe()
        self.rest = b""

    def start(self, title: str, *command: str) -> None:
        """Start one; it lives until `stop`, or until this process is gone."""
        variables = {key: value for key, value in os.environ.items() if title == OURS or key != "PYTHONPATH"}
        variables |= {"AMQP_URI": self.uri, "PYTHONWARNINGS": "ignore"}
        number = len(self.processes)
        with (self.folder / f"{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--config", "config.yaml"],
                cwd=FOLDER,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=self.writing,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the taking of orders, not the services under way
            )
        (self.folder / f"{number}.pid").write_text(str(process.pid))
        self.processes[f"{title}, {' '.join(command[1:])}"] = process

    def check(self) -> None:
        """Raise `ClusterError` if one has ended."""
        for number, (title, process) in enumerate(self.processes.items()):
            if process.poll() is not None:
                log = (self.folder / f"{number}.log").read_text(errors="replace")
                raise ClusterError(f"{title} ended with exit code {process.returncode}:\n{log[-3000:]}")

    def wait_for_consumers(self) -> None:
        """Return when every queue is there and consumed, so that no event goes to a queue that is not there yet."""
        deadline = time.monotonic() + START_SECONDS
        with Connection(self.uri) as connection:
            missing = CONSUMERS
            while missing := {name: count for name, count in missing.items() if consumers(connection, name) < count}:
                self.check()
                if time.monotonic() > deadline:
                    raise ClusterError(f"not consumed within {START_SECONDS:.0f} s: {', '.join(missing)}")
                time.sleep(0.1)

    def arrows(self, seconds: float) -> list[Arrow]:
        """What has arrived since, as soon as there is something, at the latest after ``seconds``."""
        if not select.select([self.reading], [], [], max(0.0, seconds))[0]:
            return []
        *lines, self.rest = (self.rest + os.read(self.reading, 65536)).split(b"\n")
        return [arrow for line in lines if (arrow := Arrow.read(line))]

    def stop(self) -> None:
        """Stop all of them, by force if need be."""
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for number, process in enumerate(self.processes.values()):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            (self.folder / f"{number}.pid").unlink()  # the watchdog must not kill a later process of the same id


def consumers(connection: Connection, queue: str) -> int:
    """How many consume a queue; none if there is no such queue."""
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).consumer_count)
        except connection.channel_errors:
            return 0


class StopRequest:
    """Handles SIGINT and SIGTERM: the first asks for an end and drops nothing that was read, the next one is fatal."""

    def __init__(self) -> None:
        self.made = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.made:
            raise KeyboardInterrupt
        self.made = True


def run(services: Services, tally: Tally, seconds: float, patience: float) -> float:
    """Place orders, and wait until everything has arrived.

    Returns:
        For how many seconds orders were placed: fewer than asked for after Ctrl-C.
    """

    def show_until(end: float, is_over: Callable[[], bool]) -> None:
        while (left := end - time.monotonic()) > 0 and not is_over():
            for arrow in services.arrows(min(left, 0.5)):
                tally.add(arrow)
                print(f"{time.monotonic() - begin:6.2f} s  {arrow}", flush=True)
            services.check()

    with RPCClient(services.uri, timeout=CALL_SECONDS) as rpc:
        rpc.orders.open()
        begin, stop = time.monotonic(), StopRequest()
        show_until(begin + seconds, lambda: stop.made)
        tally.orders = rpc.orders.close()
        taken = time.monotonic() - begin
    show_until(time.monotonic() + patience, lambda: not tally.lost)
    return taken


def main(seconds: float, patience: float, nameko_2: str, nameko_3: str) -> int:
    """Run the cluster; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tally = Tally()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mf-cluster-"))
        stack.callback(Watchdog(folder).close)
        given = os.environ.get("AMQP_URI")
        uri = given or stack.enter_context(RabbitMQNode()).vhost().uri
        services = Services(uri, folder)
        stack.callback(services.stop)
        print(f"{', '.join(RUNTIMES)} on {redact_uri(uri)}", flush=True)
        services.start(NAMEKO_2, str(Path(nameko_2).with_name("nameko")), "run", "nameko_orders")
        services.start(NAMEKO_3, str(Path(nameko_3).with_name("nameko")), "run", "nameko_payments")
        ours = (sys.executable, "-m", "micro_framework", "run")
        services.start(OURS, *ours, "payments")
        services.start(OURS, *ours, "shipping")
        services.wait_for_consumers()
        taken = run(services, tally, seconds, patience)
    print(f"\n{tally.summary(taken)}", flush=True)
    if not tally.orders:
        print("no order was placed", file=sys.stderr)
    return 0 if tally.orders and not tally.lost else 1


if __name__ == "__main__":
    try:
        sys.exit(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]))
    except (ClusterError, MicroFrameworkError, OperationalError, OSError) as error:
        sys.exit(f"the cluster failed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
