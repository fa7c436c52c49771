"""One call that waits: a `concurrent.futures.Future` for all who take one, that always ends."""

import asyncio
import concurrent.futures
import gc
import math
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from micro_framework.calls import Outcome
from micro_framework.exceptions import RemoteError, RPCTimeout
from micro_framework.rpc.futures import RPCFuture
from tests.rpc.keepers import SECONDS, Table


def later(work: Any) -> None:
    """From another thread, as answers come."""
    threading.Thread(target=work).start()


def test_the_result_is_what_was_answered_and_decoded_once_by_who_asks(table: Table) -> None:
    call = table.call()
    later(lambda: table.answer(call, {"id": 1}))
    assert call.result() == {"id": 1}
    assert call.result(0) == {"id": 1}
    assert call.exception() is None
    assert (table.decodings, call.done(), call.running(), call.cancelled()) == (1, True, False, False)


def test_an_error_in_the_answer_is_raised(table: Table) -> None:
    call, error = table.call(), RemoteError("Boom", "no")
    table.answer(call, error=error)
    with pytest.raises(RemoteError) as caught:
        call.result()
    assert caught.value is error
    assert call.exception() is error


def test_an_answer_is_not_decoded_where_it_comes(table: Table) -> None:
    call = table.call()
    table.answer(call, 1)
    assert table.decodings == 0


@pytest.mark.parametrize("ask", ["result", "exception"])
def test_without_an_answer_it_ends_at_its_deadline(table: Table, ask: str) -> None:
    call = table.call(0.02)
    started = time.monotonic()
    if ask == "result":
        with pytest.raises(RPCTimeout) as caught:
            call.result()
        error = caught.value
    else:
        found = call.exception()
        assert isinstance(found, RPCTimeout)
        error = found
    assert time.monotonic() - started >= 0.02
    assert str(error) == "payments.charge did not answer within 0.02 s: nobody knows"
    assert call.done()
    assert len(table.pending) == 0


def test_a_shorter_wait_leaves_the_call_going_on(table: Table) -> None:
    call = table.call()
    with pytest.raises(TimeoutError, match=r"within 0\.01 s: its deadline has not passed, the call goes on"):
        call.result(0.01)
    with pytest.raises(RPCTimeout, match="within 0 s"):
        call.exception(0)
    assert not call.done()
    table.answer(call, 1)
    assert call.result(0) == 1


def test_a_longer_wait_ends_at_the_deadline_all_the_same(table: Table) -> None:
    with pytest.raises(RPCTimeout, match=r"within 0\.02 s: nobody knows"):
        table.call(0.02).result(1000)


def test_without_a_deadline_it_waits_for_its_answer(table: Table) -> None:
    call = table.call(math.inf)
    later(lambda: table.answer(call, 1))
    assert call.result() == 1


def test_who_is_late_and_meets_the_answer_gets_the_answer(table: Table) -> None:
    """The deadline passes while another thread writes the outcome."""
    call = table.call(0.01)
    taken = table.pending.take(call.correlation_id)
    assert taken is call
    threading.Timer(0.1, lambda: call.set_result(Outcome(1))).start()
    assert call.result() == 1


# -- with the standard library


def test_wait_and_as_completed_take_it(table: Table) -> None:
    calls = [table.call() for _ in range(5)]
    later(lambda: [table.answer(call, number) for number, call in enumerate(calls)])
    done, left = concurrent.futures.wait(calls, SECONDS)
    assert (done, left) == (set(calls), set())
    assert sorted(call.result() for call in concurrent.futures.as_completed(calls, SECONDS)) == list(range(5))


def test_wait_returns_with_the_first(table: Table) -> None:
    calls = [table.call() for _ in range(3)]
    later(lambda: table.answer(calls[1], 1))
    done, left = concurrent.futures.wait(calls, SECONDS, concurrent.futures.FIRST_COMPLETED)
    assert (done, left) == ({calls[1]}, {calls[0], calls[2]})


def test_wait_hears_of_deadlines(table: Table) -> None:
    calls = [table.call(0.02, watched=True) for _ in range(3)]
    done, _ = concurrent.futures.wait(calls, SECONDS)
    assert [type(call.exception()) for call in done] == [RPCTimeout] * 3


@pytest.mark.parametrize("before", [True, False])
def test_wait_and_as_completed_hear_of_a_cancel(table: Table, before: bool) -> None:
    call = table.call()
    if before:
        assert call.cancel()
    else:
        later(call.cancel)
    assert concurrent.futures.wait([call], SECONDS).done == {call}
    assert list(concurrent.futures.as_completed([call], SECONDS)) == [call]
    assert call.cancelled()


def test_asyncio_awaits_it(table: Table) -> None:
    answered, failed, cancelled = (table.call() for _ in range(3))

    async def awaiting() -> tuple[Any, str]:
        futures = [asyncio.wrap_future(call) for call in (answered, failed, cancelled)]
        later(lambda: (table.answer(answered, 1), table.answer(failed, error=RemoteError("Boom", "no"))))
        result = await asyncio.wait_for(futures[0], SECONDS)
        with pytest.raises(RemoteError) as caught:
            await asyncio.wait_for(futures[1], SECONDS)
        later(cancelled.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(futures[2], SECONDS)
        return result, str(caught.value)

    assert asyncio.run(awaiting()) == (1, "Boom no")


def test_a_task_that_is_cancelled_cancels_the_call(table: Table) -> None:
    call = table.call()

    async def giving_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(call), 0.01)

    asyncio.run(giving_up())
    assert call.cancelled()
    assert table.given_up == [call]


def test_what_asyncio_of_python_3_14_asks_for_is_the_decoded_outcome(table: Table) -> None:
    answered, failed, cancelled, waiting = (table.call() for _ in range(4))
    error = RemoteError("Boom", "no")
    table.answer(answered, 1)
    table.answer(failed, error=error)
    cancelled.cancel()
    found = [call._get_snapshot() for call in (answered, failed, cancelled, waiting)]
    assert found == [
        (True, False, 1, None),
        (True, False, None, error),
        (True, True, None, None),
        (False, False, None, None),
    ]


# -- callbacks


@pytest.mark.parametrize("before", [True, False])
def test_a_callback_is_called_with_the_future_on_a_thread_for_callbacks(table: Table, before: bool) -> None:
    call = table.call()
    heard: list[tuple[Any, str]] = []
    told = threading.Event()

    def hear(future: Any) -> None:
        heard.append((future, threading.current_thread().name))
        told.set()

    if before:
        call.add_done_callback(hear)
    table.answer(call, 1)
    if not before:
        call.add_done_callback(hear)
    assert told.wait(SECONDS)
    ((future, name),) = heard
    assert future is call
    assert name.startswith("mf-test-callbacks")


def test_a_callback_may_wait_for_other_calls(table: Table) -> None:
    first, second = table.call(), table.call()
    results: list[Any] = []
    told = threading.Event()
    first.add_done_callback(lambda _: (results.append(second.result()), told.set()))
    table.answer(first, 1)
    table.answer(second, 2)
    assert told.wait(SECONDS)
    assert results == [2]


def test_callbacks_hear_of_a_cancel(table: Table) -> None:
    call = table.call()
    told = threading.Event()
    call.add_done_callback(lambda future: told.set() if future.cancelled() else None)
    call.cancel()
    assert told.wait(SECONDS)


# -- memory


def test_a_call_that_is_over_leaves_no_circle_behind(table: Table) -> None:
    """Or every failed call would wait for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        call = table.call()
        table.answer(call, error=RemoteError("Boom", "no"))
        try:
            call.result()
        except RemoteError:
            pass
        kept: weakref.ref[RPCFuture] = weakref.ref(call)
        del call
        assert kept() is None, sys.getrefcount(kept())
    finally:
        gc.enable()
