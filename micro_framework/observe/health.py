"""Whether a process lives, and whether it does its work."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Health", "Stage"]

Stage = str
"""``starting``, ``running`` or ``stopping``."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a process is.

    Args:
        stage: What it is about.
        dead: What in it does not turn any more and will not again, a reason each: starting it again helps.
        missing: What it has to have to do its work and has not right now, likewise.
    """

    stage: Stage
    dead: Sequence[str] = field(default=())
    missing: Sequence[str] = field(default=())

    @property
    def alive(self) -> bool:
        """Whether it is of use to let it live."""
        return not self.dead

    @property
    def ready(self) -> bool:
        """Whether it does its work right now."""
        return self.stage == "running" and not self.dead and not self.missing

    def plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {
            "stage": self.stage,
            "alive": self.alive,
            "ready": self.ready,
            "reasons": [*self.dead, *self.missing],
        }

    def line(self, good: bool) -> bytes:
        """One line of JSON for whoever asks whether that is good."""
        return json.dumps({"status": "ok" if good else "unavailable", **self.plain()}).encode() + b"\n"
