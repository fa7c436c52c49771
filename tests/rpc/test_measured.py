"""How calls of other services end, as it is counted."""

from concurrent.futures import InvalidStateError

import pytest

from micro_framework.calls import Outcome
from micro_framework.exceptions import PublishError, ReplyQueueLost, RPCTimeout, UnknownService
from micro_framework.metrics.snapshots import REMOTE_ERRORS, RPC_FIELDS, RPC_OUTCOMES
from micro_framework.metrics.tallies import Cells
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.measured import CountingKeeper, count_end


class Keeper:
    """Answers are outcomes already."""

    def decode(self, answer):
        return answer

    def expire(self, call):
        call.set_exception(RPCTimeout("shop", "sell", 0, "no answer"))

    def cancel(self, call):
        pass

    def call_back(self, callback):
        callback()


def counted_call():
    cells = Cells(RPC_FIELDS)
    call = RPCFuture("shop", "sell", "id", 30, CountingKeeper(Keeper(), cells))
    count_end(call, cells)
    return call, cells


def outcomes(cells):
    return {name: number for name, number in zip(RPC_OUTCOMES, cells.totals(), strict=False) if number}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RPCTimeout("shop", "sell", 1, "no answer"), "timeout"),
        (UnknownService("shop"), "unknown_service"),
        (ReplyQueueLost("shop", "sell", "queue"), "answer_lost"),
        (PublishError("no connection"), "not_sent"),
    ],
)
def test_errors_are_counted_by_their_kind(error, outcome):
    call, cells = counted_call()
    call.set_exception(error)
    assert outcomes(cells) == {outcome: 1}


def test_an_answer_is_counted_once_however_often_it_is_looked_at():
    call, cells = counted_call()
    call.set_result(Outcome(error=ValueError("no")))
    assert cells.totals()[REMOTE_ERRORS] == 0  # nobody has looked
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            call.result()
    assert outcomes(cells) == {"answered": 1}
    assert cells.totals()[REMOTE_ERRORS] == 1


def test_a_cancelled_call_is_counted():
    call, cells = counted_call()
    assert call.cancel()
    assert outcomes(cells) == {"cancelled": 1}
    with pytest.raises(InvalidStateError):
        call.set_result(Outcome())
