"""Nameko services by Nameko's Python names, hosted here, and somebody at the same broker."""

from queue import SimpleQueue
from typing import Any

from nameko_compat.extensions import DependencyProvider
from tests.outside import SECONDS


class Context(DependencyProvider):
    """Gives the worker context."""

    def get_dependency(self, worker_ctx: Any) -> Any:
        return worker_ctx


class Notes:
    """What happened, as it comes."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Any] = SimpleQueue()

    def __call__(self, *what: Any) -> None:
        self.queue.put(what[0] if len(what) == 1 else what)

    def next(self) -> Any:
        return self.queue.get(timeout=SECONDS)

    def several(self, count: int) -> list[Any]:
        return [self.next() for _ in range(count)]
