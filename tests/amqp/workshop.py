"""A service for threads and processes alike, whose long calls last as long as the test wants."""

import ctypes
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener, RPCListener

SLOW_QUEUE, QUICK_QUEUE = "evt-web-slow--workshop.slow", "evt-web-quick--workshop.quick"
SEARCH_QUEUE = "evt-web-searched--workshop.search"


class Workshop:
    """Tells what it does by events."""

    name = "workshop"
    dispatch = Producer()

    @EventListener("web", "slow")
    def slow(self, path: str) -> None:
        """Lasts until nobody `holds` this file."""
        self.dispatch("slow", "begun")
        wait_until_free(path)
        self.dispatch("slow", "done")

    @EventListener("web", "quick")
    def quick(self, payload: Any) -> None:
        self.dispatch("quick", payload)

    @EventListener("web", "searched")
    def search(self, path: str) -> None:
        """As `slow`, and no other thread of the process runs meanwhile, as with a long regular expression."""
        self.dispatch("slow", "begun")
        with Path(path).open() as waiting:
            ctypes.PyDLL(None).flock(waiting.fileno(), fcntl.LOCK_SH)
        self.dispatch("slow", "done")

    @RPCListener()
    def ask(self, path: str) -> str:
        """The same for those who call."""
        self.dispatch("slow", "asked")
        wait_until_free(path)
        return "answered"


def wait_until_free(path: str) -> None:
    with Path(path).open() as waiting:
        fcntl.flock(waiting, fcntl.LOCK_SH)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Long calls that were given this file do not end before the block does."""
    with path.open("w") as holding:
        fcntl.flock(holding, fcntl.LOCK_EX)
        yield
