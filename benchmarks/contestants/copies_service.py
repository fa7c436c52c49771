"""micro_framework in several copies, for `benchmarks/processes.py`: an event handler that computes, then writes a line.

Called with a configuration as JSON. The copies import this module for themselves, so nothing runs but under the guard.
"""

import json
import os
import sys
import time
from typing import Any

from process_service import burn

from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import Config
from micro_framework.runner import Runner

__all__ = ["Bench"]


class Bench:
    """Computes at each event, and writes the event's identity and the time into a file, whichever copy it is."""

    name = "bench"
    config = Config()

    @EventListener("source", "tick")
    def handle(self, payload: dict[str, Any]) -> None:
        """One event."""
        burn(self.config["BURN"])
        record = os.open(self.config["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(record, f"{payload['id']} {time.monotonic()}\n".encode())
        os.close(record)


if __name__ == "__main__":
    Runner([Bench], json.loads(sys.argv[1])).start()
