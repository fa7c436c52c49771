"""What is measured: the contestants, the cells of the tables, and how much of it a run does."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.queues import DRAMATIQ, EVENTS, RPC_QUEUE, TASKS, Source

__all__ = [
    "BASE",
    "COMPUTE_MILLISECONDS",
    "CONTESTANTS",
    "CORES",
    "LIVES_TITLE",
    "LOOP",
    "LOOPS",
    "OWN",
    "OWN_SINGLE",
    "PAUSE",
    "RAW",
    "SERVER_WORKERS",
    "Cell",
    "Contestant",
    "Plan",
    "chosen_plan",
]  # fmt: skip

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(__file__).resolve().parent / "contestants"
CORES = os.cpu_count() or 1

OWN = "micro_framework"
OWN_METRICS, OWN_SINGLE = f"{OWN}, metrics", f"{OWN}, 1 thread"
OWN_PROCESSES = (f"{OWN}, process", f"{OWN}, greedy_process", f"{OWN}, PROCESSES: {CORES}")
BASE, NAMEKO_3 = "nameko 2.14.1", "nameko 3.0.0rc11"
OWN_TO_BASE, BASE_TO_OWN = f"{OWN} -> {BASE}", f"{BASE} -> {OWN}"
FASTSTREAM, DRAMATIQ_NAME, CELERY = "faststream", "dramatiq", "celery"
DRAMATIQ_PROCESSES, CELERY_PROCESSES = f"dramatiq, {CORES} processes", f"celery, {CORES} processes"
RAW = ("raw kombu", "raw py-amqp")
LOOP, LOOPS = "plain loop", f"plain loop, {CORES} processes"


SERVER_WORKERS = 10
"""Workers of a service that is called, whoever serves."""

PAUSE = 0.01
"""Seconds that a handler waits where handlers wait."""

LIVES_TITLE = "start, memory, stop"

COMPUTE_MILLISECONDS = 5
"""What a handler takes of a core where handlers compute."""


@dataclass(frozen=True)
class Contestant:
    """One way to do the work, in an environment and a process of its own.

    Args:
        name: As it is printed.
        script: A file in `contestants/`.
        environment: The environment it runs in, as `scripts/environments.py` names it; None: the one this runs in.
        server: The contestant that serves its calls, where that is another.
        source: Where its messages wait.
        calls: The queue of the service that it calls, if it serves that itself.
        options: Parts of its order that make it this variant of the script.
        together: Whether more than one process handles its messages.
    """

    name: str
    script: str
    environment: str | None = None
    server: str | None = None
    source: Source = EVENTS
    calls: str = RPC_QUEUE
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    together: bool = False

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return sys.executable if self.environment is None else python_of(self.environment)

    @property
    def path(self) -> Path:
        """Its script."""
        return SCRIPTS / self.script


def variable_of(environment: str) -> str:
    """``MF_NAMEKO_2``, ``MF_NAMEKO_3``, ``MF_FASTSTREAM`` ...: what names the Python of an environment."""
    return {"2.14.1": "MF_NAMEKO_2", "3.0.0rc11": "MF_NAMEKO_3"}.get(environment, f"MF_{environment.upper()}")


def python_of(environment: str) -> str:
    """The Python that the environment's variable names, else one made by ``scripts/environments.py``."""
    given = os.environ.get(variable_of(environment))
    if given:
        return given
    command = [sys.executable, str(ROOT / "scripts" / "environments.py"), environment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"there is no environment {environment}: {done.stderr}")
    os.environ[variable_of(environment)] = done.stdout.strip()
    return done.stdout.strip()


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant(OWN, "own_service.py"),
        Contestant(OWN_METRICS, "own_service.py", options={"metrics": True}),
        Contestant(OWN_SINGLE, "own_processes.py", options={"workers": 1}, together=True),
        *(
            Contestant(name, "own_processes.py", options=options, together=True)
            for name, options in zip(
                OWN_PROCESSES, ({"mode": "process"}, {"mode": "greedy_process"}, {"copies": CORES}), strict=True
            )
        ),
        Contestant(BASE, "nameko_service.py", "2.14.1"),
        Contestant(NAMEKO_3, "nameko_service.py", "3.0.0rc11"),
        Contestant(FASTSTREAM, "faststream_service.py", FASTSTREAM),
        Contestant(DRAMATIQ_NAME, "dramatiq_service.py", DRAMATIQ_NAME, source=DRAMATIQ),
        Contestant(
            DRAMATIQ_PROCESSES, "dramatiq_service.py", DRAMATIQ_NAME, source=DRAMATIQ, options={"copies": CORES},
            together=True,
        ),
        Contestant(CELERY, "celery_service.py", CELERY, source=TASKS, calls=TASKS.queue),
        Contestant(
            CELERY_PROCESSES, "celery_service.py", CELERY, source=TASKS, options={"copies": CORES}, together=True
        ),
        Contestant("raw kombu", "raw_kombu.py"),
        Contestant("raw py-amqp", "raw_amqp.py"),
        Contestant(LOOP, "plain_loop.py", options={"copies": 1}),
        Contestant(LOOPS, "plain_loop.py", options={"copies": CORES}),
        Contestant(OWN_TO_BASE, "own_service.py", server=BASE),
        Contestant(BASE_TO_OWN, "nameko_service.py", "2.14.1", server=OWN),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One table: what is done, by whom.

    Args:
        kind: ``consume``, ``publish`` or ``call``.
        mode: Of publishing, ``single``, ``many``; else empty.
        workers: Workers and prefetch of a consumer; callers that publish or call at once.
        contestants: Their names.
        rounds: How often each of them runs.
        work: What the handler does: ``nothing``, ``wait`` or ``compute``.
        size: Bytes of the body's note, 0 for a body of about 200 bytes.
        more_routes: Event handlers of the service that nothing is sent to.
    """

    kind: str
    mode: str
    workers: int
    contestants: tuple[str, ...]
    rounds: int
    work: str = "nothing"
    size: int = 0
    more_routes: int = 0

    @property
    def title(self) -> str:
        """As it is printed."""
        if self.kind == "consume":
            return ", ".join(("consume", f"{self.workers} worker{'s' * (self.workers > 1)}", *self.particulars()))
        if self.kind == "call":
            return f"RPC, {self.workers} caller{'s' * (self.workers > 1)}"
        callers = "1 caller" if self.workers == 1 else f"{self.workers} threads"
        return f"publish, {'many' if self.mode == 'many' else callers}"

    def particulars(self) -> list[str]:
        """What distinguishes it from the plain cell of its kind."""
        works = {"wait": f"{PAUSE * 1000:.0f} ms I/O", "compute": f"{COMPUTE_MILLISECONDS} ms CPU"}
        return [
            *([works[self.work]] if self.work in works else []),
            *([f"bodies of {self.size // 1000:,} KB"] if self.size else []),
            *([f"{self.more_routes + 1:,} routes"] if self.more_routes else []),
        ]


@dataclass(frozen=True)
class Plan:
    """Everything one run of the benchmarks does.

    Args:
        cells: In the order in which they are printed.
        lives: Contestants whose start, memory and stop are measured.
        life_rounds: How often.
        seconds: How long a window must last at least.
        warmup_seconds: How long messages are handled before the window, about.
    """

    cells: tuple[Cell, ...]
    lives: tuple[str, ...] = ()
    life_rounds: int = 1
    seconds: float = 2.0
    warmup_seconds: float = 0.3


PEERS = (FASTSTREAM, DRAMATIQ_NAME, CELERY)
SERVICES = (OWN, BASE, NAMEKO_3, *PEERS)
ALL = (*SERVICES, *RAW)
PAIRS = (OWN, BASE, OWN_TO_BASE, BASE_TO_OWN)
RIVALS = (OWN, BASE)
COMPUTING = (OWN_SINGLE, *OWN_PROCESSES, BASE, DRAMATIQ_PROCESSES, CELERY_PROCESSES, LOOP, LOOPS)

QUICK = Plan(
    (
        Cell("consume", "", 10, (*RIVALS, NAMEKO_3, *RAW), 3),
        Cell("consume", "", 1, (*RIVALS, "raw kombu"), 1),
        Cell("consume", "", 100, (*RIVALS, "raw kombu"), 1),
        Cell("publish", "single", 1, (*RIVALS, "raw py-amqp"), 1),
        Cell("publish", "single", 10, RIVALS, 1),
        Cell("publish", "many", 1, RIVALS, 1),
        Cell("call", "", 1, (*RIVALS, "raw py-amqp"), 1),
        Cell("call", "", 10, RIVALS, 1),
        Cell("call", "", 100, RIVALS, 1),
    )
)
FULL = Plan(
    (
        *(Cell("consume", "", workers, (OWN_METRICS, *ALL), 5) for workers in (1, 10, 100)),
        Cell("consume", "", 10, (OWN, *OWN_PROCESSES), 3),
        Cell("publish", "single", 1, ALL, 5),
        Cell("publish", "single", 10, SERVICES, 5),
        Cell("publish", "single", 100, SERVICES, 5),
        Cell("publish", "many", 1, (*RIVALS, NAMEKO_3), 5),
        Cell("call", "", 1, (*PAIRS, NAMEKO_3, FASTSTREAM, CELERY, "raw py-amqp"), 5),
        *(Cell("call", "", callers, (*PAIRS, FASTSTREAM), 5) for callers in (10, 100)),
        Cell("consume", "", 100, SERVICES, 5, work="wait"),
        Cell("consume", "", CORES, COMPUTING, 5, work="compute"),
        # One more than the cores, so that no core waits for the service.
        Cell("consume", "", CORES + 1, (OWN_SINGLE, *OWN_PROCESSES, LOOPS), 3, work="compute"),
        *(Cell("consume", "", 10, RIVALS, 3, size=size) for size in (1_000, 100_000, 10_000_000)),
        *(Cell("consume", "", 10, RIVALS, 3, more_routes=more) for more in (99, 999)),
    ),
    lives=SERVICES,
    life_rounds=5,
)


def chosen_plan(quick: bool, only: str = "", rounds: int | None = None) -> Plan:
    """The quick plan or the full one, cut down to what was asked for.

    Args:
        quick: The one that takes less than three minutes.
        only: Keep the tables whose title contains this.
        rounds: Instead of the plan's own.
    """
    plan = QUICK if quick else FULL
    cells = tuple(replace(cell, rounds=rounds or cell.rounds) for cell in plan.cells if only in cell.title)
    lives = plan.lives if only in LIVES_TITLE else ()
    if not cells and not lives:
        titles = [*(cell.title for cell in plan.cells), *([LIVES_TITLE] if plan.lives else [])]
        raise SystemExit(f"--only {only!r} names nothing; there is {'; '.join(titles)}")
    return replace(plan, cells=cells, lives=lives, life_rounds=rounds or plan.life_rounds)
