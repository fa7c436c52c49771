"""A table of calls without a transport, for tests of what is above it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from micro_framework.calls import Outcome
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.pending import PendingCalls
from tests.brokers.probes import soon

SECONDS = 10.0


class Table:
    """A `PendingCalls` whose answers are outcomes, and what it was told of calls given up."""

    def __init__(self) -> None:
        self.decodings = 0
        self.given_up: list[RPCFuture] = []
        self.pending = PendingCalls("test", self.decode, self.give_up)
        self.numbers = count()

    def decode(self, answer: Outcome) -> Outcome:
        self.decodings += 1
        return answer

    def give_up(self, call: RPCFuture) -> str:
        self.given_up.append(call)
        return "nobody knows"

    def call(self, seconds: float = 60.0, *, watched: bool = False) -> RPCFuture:
        """A call that waits for its answer."""
        call = RPCFuture("payments", "charge", f"call-{next(self.numbers)}", seconds, self.pending)
        self.pending.add(call)
        if watched:
            self.pending.watch(call)
        return call

    def answer(self, call: RPCFuture, result: Any = None, error: BaseException | None = None) -> bool:
        return self.pending.answer(call.correlation_id, Outcome(result, error))


@contextmanager
def a_table() -> Iterator[Table]:
    table = Table()
    yield table
    table.pending.stop(soon())
