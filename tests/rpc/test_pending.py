"""The table of calls: each gets exactly one outcome, and none is forgotten."""

import gc
import math
import threading
import weakref
from concurrent.futures import CancelledError

import pytest

from micro_framework.exceptions import ReplyQueueLost, RPCTimeout
from micro_framework.rpc.futures import RPCFuture
from tests.brokers.probes import mf_threads
from tests.rpc.keepers import SECONDS, Table


def lost(call: RPCFuture) -> ReplyQueueLost:
    return ReplyQueueLost(call.service_name, call.method, "q")


def test_an_answer_goes_to_its_call_and_to_no_other(table: Table) -> None:
    first, second = table.call(), table.call()
    assert len(table.pending) == 2
    assert table.answer(second, "two")
    assert (second.result(), first.done()) == ("two", False)
    assert len(table.pending) == 1


@pytest.mark.parametrize("correlation_id", ["nobody's", None])
def test_an_answer_for_nobody_is_told(table: Table, correlation_id: str | None) -> None:
    assert not table.pending.answer(correlation_id, None)


def test_the_first_outcome_wins(table: Table) -> None:
    call = table.call()
    assert table.answer(call, 1)
    assert not table.answer(call, 2)
    table.pending.fail(call.correlation_id, lost)
    table.pending.expire(call)
    assert not call.cancel()
    assert (call.result(), table.given_up) == (1, [])


def test_an_error_is_made_for_the_call_it_is_for(table: Table) -> None:
    calls = [table.call() for _ in range(3)]
    table.answer(calls[0], 0)
    table.pending.fail_all(lost)
    assert calls[0].result() == 0
    for call in calls[1:]:
        with pytest.raises(ReplyQueueLost, match=r"payments\.charge"):
            call.result()
    assert len(table.pending) == 0


def test_an_error_may_be_for_some_calls_only(table: Table) -> None:
    calls = [table.call() for _ in range(2)]
    table.pending.fail_all(lost, lambda call: call is calls[0])
    assert [call.done() for call in calls] == [True, False]


def test_a_call_that_nobody_waits_for_ends_at_its_deadline(table: Table) -> None:
    call = table.call(0.01, watched=True)
    ended = threading.Event()
    call.add_done_callback(lambda _: ended.set())
    assert ended.wait(SECONDS)
    with pytest.raises(RPCTimeout, match=r"^payments\.charge did not answer within 0\.01 s: nobody knows$"):
        call.result()
    assert table.given_up == [call]
    assert len(table.pending) == 0


def test_a_call_without_deadline_needs_no_clock(table: Table) -> None:
    call = table.call(math.inf, watched=True)
    assert call.alarm is None
    assert mf_threads() == []
    table.answer(call, 1)
    assert call.result() == 1


def test_an_answered_call_is_not_kept_until_its_deadline(table: Table) -> None:
    """Answers may be large, and deadlines far away."""
    call = table.call(watched=True)
    table.answer(call, 1)
    kept = weakref.ref(call)
    del call
    gc.collect()
    assert kept() is None


def test_a_cancelled_call_gets_nothing_any_more(table: Table) -> None:
    call = table.call(watched=True)
    assert call.cancel()
    assert call.cancel()
    assert table.given_up == [call]
    assert not table.answer(call, 1)
    with pytest.raises(CancelledError):
        call.result()


@pytest.mark.parametrize("how", ["answer", "fail"])
def test_a_call_cancelled_while_its_outcome_comes_stays_cancelled(table: Table, how: str) -> None:
    """The two meet between taking the call and giving it its outcome."""
    call = table.call()
    take = table.pending.take

    def take_and_be_late(correlation_id: str | None) -> RPCFuture | None:
        taken = take(correlation_id)
        table.pending.take = take  # type: ignore[method-assign]
        assert call.cancel()
        return taken

    table.pending.take = take_and_be_late  # type: ignore[method-assign]
    if how == "answer":
        assert not table.answer(call, 1)
    else:
        table.pending.fail(call.correlation_id, lost)
    with pytest.raises(CancelledError):
        call.result()


def test_a_call_that_was_never_sent_is_forgotten(table: Table) -> None:
    call = table.call(watched=True)
    table.pending.forget(call)
    assert len(table.pending) == 0
    assert not call.done()


def test_a_stop_ends_the_threads(table: Table) -> None:
    call = table.call(watched=True)
    told = threading.Event()
    call.add_done_callback(lambda _: told.set())
    table.answer(call, 1)
    table.pending.stop(0.0)
    assert told.wait(SECONDS)
    assert [name for name in mf_threads() if "deadlines" in name] == []


def test_many_threads_answer_and_expire_and_cancel_and_each_call_has_one_outcome(table: Table) -> None:
    calls = [table.call(watched=True) for _ in range(500)]
    together = threading.Barrier(4)

    def at_once(work: object) -> None:
        together.wait(SECONDS)
        for call in calls:
            work(call)  # type: ignore[operator]

    works = [lambda call: table.answer(call, 1), table.pending.expire, lambda call: call.cancel()]
    threads = [threading.Thread(target=at_once, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    together.wait(SECONDS)
    for thread in threads:
        thread.join(SECONDS)
    assert len(table.pending) == 0
    for call in calls:
        assert call.done()
        assert call.cancelled() or call.exception() is not None or call.result() == 1
