"""What is measured: the contestants, the cells of the tables, and how much of it a run does."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BASE", "CONTESTANTS", "OWN", "RAW", "SERVER_WORKERS", "Cell", "Contestant", "Plan", "chosen_plan"]

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(__file__).resolve().parent / "contestants"
NAMEKO_VARIABLES = {"2.14.1": "MF_NAMEKO_2", "3.0.0rc11": "MF_NAMEKO_3"}

OWN = "micro_framework"
BASE = "nameko 2.14.1"
OWN_TO_BASE, BASE_TO_OWN = f"{OWN} -> {BASE}", f"{BASE} -> {OWN}"
RAW = ("raw kombu", "raw py-amqp")


SERVER_WORKERS = 10
"""Workers of a service that is called, whoever serves."""


@dataclass(frozen=True)
class Contestant:
    """One way to do the work, in an environment and a process of its own.

    Args:
        name: As it is printed.
        script: A file in `contestants/`.
        nameko: The version whose environment it runs in; None: the one this runs in.
        server: The contestant that serves its calls, where that is another.
    """

    name: str
    script: str
    nameko: str | None = None
    server: str | None = None

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return sys.executable if self.nameko is None else nameko_python(self.nameko)

    @property
    def path(self) -> Path:
        """Its script."""
        return SCRIPTS / self.script


def nameko_python(version: str) -> str:
    """The Python that ``MF_NAMEKO_2`` or ``MF_NAMEKO_3`` names, else of an environment made by ``scripts/``."""
    given = os.environ.get(NAMEKO_VARIABLES[version])
    if given:
        return given
    command = [sys.executable, str(ROOT / "scripts" / "environments.py"), version]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"there is no environment for Nameko {version}: {done.stderr}")
    os.environ[NAMEKO_VARIABLES[version]] = done.stdout.strip()
    return done.stdout.strip()


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant(OWN, "own_service.py"),
        Contestant(BASE, "nameko_service.py", "2.14.1"),
        Contestant("nameko 3.0.0rc11", "nameko_service.py", "3.0.0rc11"),
        Contestant("raw kombu", "raw_kombu.py"),
        Contestant("raw py-amqp", "raw_amqp.py"),
        Contestant(OWN_TO_BASE, "own_service.py", server=BASE),
        Contestant(BASE_TO_OWN, "nameko_service.py", "2.14.1", server=OWN),
    )
}


@dataclass(frozen=True)
class Cell:
    """One column of a table: what is done, by whom.

    Args:
        kind: ``consume``, ``publish`` or ``call``.
        mode: Of publishing, ``single``, ``many``; else empty.
        workers: Workers and prefetch of a consumer; callers that publish or call at once.
        contestants: Their names.
        rounds: How often each of them runs.
    """

    kind: str
    mode: str
    workers: int
    contestants: tuple[str, ...]
    rounds: int

    @property
    def title(self) -> str:
        """As it is printed."""
        if self.kind == "consume":
            return f"consume, {self.workers} worker{'s' * (self.workers > 1)}"
        if self.kind == "call":
            return f"RPC, {self.workers} caller{'s' * (self.workers > 1)}"
        callers = "1 caller" if self.workers == 1 else f"{self.workers} threads"
        return f"publish, {'many' if self.mode == 'many' else callers}"


@dataclass(frozen=True)
class Plan:
    """Everything one run of the benchmarks does.

    Args:
        cells: In the order in which they are printed.
        seconds: How long a window must last at least.
        warmup_seconds: How long messages are handled before the window, about.
    """

    cells: tuple[Cell, ...]
    seconds: float = 2.0
    warmup_seconds: float = 0.3


ALL = (OWN, BASE, "nameko 3.0.0rc11", *RAW)
PAIRS = (OWN, BASE, OWN_TO_BASE, BASE_TO_OWN)
WITHOUT_LOOPS = tuple(name for name in ALL if name not in RAW)
RIVALS = (OWN, BASE)

QUICK = Plan(
    (
        Cell("consume", "", 10, ALL, 3),
        Cell("consume", "", 1, (OWN, BASE, "raw kombu"), 1),
        Cell("consume", "", 100, (OWN, BASE, "raw kombu"), 1),
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
        *(Cell("consume", "", workers, ALL, 5) for workers in (1, 10, 100)),
        Cell("publish", "single", 1, ALL, 5),
        Cell("publish", "single", 10, WITHOUT_LOOPS, 5),
        Cell("publish", "many", 1, WITHOUT_LOOPS, 5),
        Cell("call", "", 1, (*PAIRS, "nameko 3.0.0rc11", "raw py-amqp"), 5),
        *(Cell("call", "", callers, PAIRS, 5) for callers in (10, 100)),
    )
)


def chosen_plan(quick: bool, only: str = "", rounds: int | None = None) -> Plan:
    """The quick plan or the full one, cut down to what was asked for.

    Args:
        quick: The one that takes less than three minutes.
        only: Keep the cells whose title contains this.
        rounds: Instead of the plan's own.
    """
    plan = QUICK if quick else FULL
    cells = [cell for cell in plan.cells if only in cell.title]
    if not cells:
        raise SystemExit(f"--only {only!r} names nothing; there is {'; '.join(cell.title for cell in plan.cells)}")
    kept = tuple(Cell(c.kind, c.mode, c.workers, c.contestants, rounds or c.rounds) for c in cells)
    return Plan(kept, plan.seconds, plan.warmup_seconds)
