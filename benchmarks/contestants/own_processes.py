"""micro_framework with worker processes, or in several copies: more than one process handles the events.

A module of its own because those processes import what they run: `Bench` must be at the top of it.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

from tally import counting, read_order
from work import work_of

from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import Config
from micro_framework.runner import Runner

__all__ = ["Bench", "main"]


@functools.cache
def tools(order: str) -> tuple[Callable[..., None], Callable[[], float]]:
    """What counts and what works, once in each process."""
    read = json.loads(order)
    return counting(read), work_of(read)


class Bench:
    """Handles events as the order in the configuration says."""

    name = "bench"
    config = Config()

    @EventListener("source", "tick")
    def handle(self, payload: dict[str, Any]) -> None:
        """One event."""
        handled, work = tools(self.config["ORDER"])
        handled(payload["id"], work())


def main() -> None:
    """Handle events as ordered: ``mode`` is the ``WORKER_MODE``, ``copies`` the ``PROCESSES``."""
    order = read_order()
    workers, copies = order["workers"], order.get("copies", 1)
    config = {"AMQP_URI": order["uri"], "PROCESSES": copies, "WORKER_MODE": order.get("mode", "thread")}
    share = max(1, workers // copies)
    config |= {"MAX_WORKERS": share, "PREFETCH_COUNT": 2 * share, "ORDER": json.dumps(order)}
    Runner([Bench], config).start()


if __name__ == "__main__":
    main()
