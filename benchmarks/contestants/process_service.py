"""micro_framework with workers of any mode, for `benchmarks/processes.py`: an event handler that computes for a while.

A module of its own because worker processes import what they run: `Bench` must be at the top of it.
"""

from typing import Any

from tally import Tally, read_order

from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import Config
from micro_framework.runner import Runner

__all__ = ["Bench", "burn", "main"]


def burn(turns: int) -> int:
    """Plain Python for a while."""
    value = 1
    for _ in range(turns):
        value = (value * 31 + 7) % 65521
    return value


class Bench:
    """Computes at each event, for as many turns as the configuration says."""

    name = "bench"
    config = Config()

    @EventListener("source", "tick")
    def handle(self, payload: dict[str, Any]) -> None:
        """One event."""
        burn(self.config["BURN"])


def main() -> None:
    """Handle events as ordered, and count them in the service's process."""
    order = read_order()
    handled = Tally(order).handled
    config = {"AMQP_URI": order["uri"], "MAX_WORKERS": order["workers"], "PREFETCH_COUNT": order["prefetch"]}
    runner = Runner([Bench], {**config, "WORKER_MODE": order["mode"], "BURN": order["burn"]})
    runner.observers.append(lambda route, call, outcome: handled(call.args[0]["id"]))
    runner.start()


if __name__ == "__main__":
    main()
