"""What the port for operators is told of the copies that a supervisor watches."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from micro_framework.metrics.snapshots import Snapshot, Sources
from micro_framework.observe.health import Health, Stage

__all__ = ["CopiesView"]

SLOWEST_ROUND = 60.0
"""Seconds after which a supervisor that has not looked around is taken for dead; it does so every second."""


class CopiesView:
    """The copies that a supervisor watches. The supervisor's thread tells, any thread may ask.

    Args:
        count: How many there are to be.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.sources = Sources()
        self.lock = threading.Lock()
        self.states: dict[str, Mapping[str, Any]] = {}
        self.stage: Stage = "starting"
        self.looked_around = time.monotonic()

    def turned(self) -> None:
        """The supervisor has looked around."""
        self.looked_around = time.monotonic()

    def heard(self, copy: str, snapshot: Mapping[str, Any], health: Mapping[str, Any]) -> None:
        """A copy tells what it has counted, and how it is."""
        self.sources.heard(copy, Snapshot.of(snapshot))
        with self.lock:
            self.states[copy] = health

    def gone(self, copy: str) -> None:
        """A copy has ended."""
        self.sources.gone(copy)
        with self.lock:
            self.states.pop(copy, None)

    def stopping(self) -> None:
        """The copies are to stop."""
        self.stage = "stopping"

    def snapshot(self) -> Snapshot:
        """What all copies have counted since the supervisor began."""
        return self.sources.total()

    def health(self) -> Health:
        """How they are, all together."""
        with self.lock:
            states = dict(self.states)
        dead = [
            f"{copy}: {reason}" for copy, state in states.items() if not state["alive"] for reason in state["reasons"]
        ]
        if time.monotonic() - self.looked_around > SLOWEST_ROUND:
            dead.append("the supervisor does not look after its copies any more")
        ready = [copy for copy, state in states.items() if state["ready"]]
        if len(ready) == self.count and self.stage == "starting":
            self.stage = "running"
        missing = [] if len(ready) == self.count else [f"{len(ready)} of {self.count} copies are ready"]
        return Health(self.stage, dead, missing)
