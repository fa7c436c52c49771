"""Calls of other services that are counted: how each ended, and whether the answer told of an error."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from micro_framework.calls import Outcome
from micro_framework.exceptions import ReplyQueueLost, RPCTimeout, UnknownService
from micro_framework.metrics.snapshots import REMOTE_ERRORS, RPC_OUTCOMES
from micro_framework.metrics.tallies import Cells
from micro_framework.rpc.futures import CallKeeper, RPCFuture

__all__ = ["CountingKeeper", "count_end"]


class CountingKeeper:
    """Keeps one call (`micro_framework.rpc.futures.CallKeeper`), and counts an answer that tells of an error.

    Args:
        keeper: Who really keeps it.
        cells: Where it is counted.
    """

    def __init__(self, keeper: CallKeeper, cells: Cells) -> None:
        self.keeper = keeper
        self.cells = cells
        self.expire: Callable[[RPCFuture], None] = keeper.expire
        self.cancel: Callable[[RPCFuture], None] = keeper.cancel
        self.call_back: Callable[[Callable[[], object]], None] = keeper.call_back
        self.counted = False

    def decode(self, answer: Any) -> Outcome:
        """Decode an answer; whoever made the call asks for that, so what nobody looks at is not looked at here."""
        outcome = self.keeper.decode(answer)
        if outcome.error is not None and not self.counted:
            self.counted = True
            self.cells.mine()[REMOTE_ERRORS] += 1
        return outcome


def count_end(call: RPCFuture, cells: Cells) -> None:
    """Count how a call ends, once it does."""
    # Past the future's own method, whose callbacks run on threads of their own.
    Future.add_done_callback(call, partial(ended, cells))


def ended(cells: Cells, call: Future[Any]) -> None:
    """A call has ended."""
    cells.mine()[RPC_OUTCOMES.index(outcome_of(call))] += 1


def outcome_of(call: Future[Any]) -> str:
    """How it ended."""
    if call.cancelled():
        return "cancelled"
    error = Future.exception(call, 0)
    if error is None:
        return "answered"
    if isinstance(error, RPCTimeout):
        return "timeout"
    if isinstance(error, UnknownService):
        return "unknown_service"
    return "answer_lost" if isinstance(error, ReplyQueueLost) else "not_sent"
