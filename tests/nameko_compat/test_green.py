"""eventlet's names on threads."""

import threading
import time
from queue import SimpleQueue
from typing import Any

import pytest

from nameko_compat import green
from nameko_compat.green.event import Event
from nameko_compat.green.queue import Empty, Full, LifoQueue, Queue
from nameko_compat.green.semaphore import BoundedSemaphore, Semaphore
from tests.outside import SECONDS

LONG = 60.0


def test_a_green_thread_gives_its_result_and_its_error() -> None:
    assert green.spawn(lambda a, b=0: a + b, 1, b=2).wait() == 3
    with pytest.raises(ValueError, match="no"):
        green.spawn(int, "no").wait()
    assert green.spawn_after(0.01, lambda: 7).wait() == 7


def test_what_is_linked_is_called_at_the_end_and_after_it() -> None:
    ends: SimpleQueue[Any] = SimpleQueue()
    go = threading.Event()
    thread = green.spawn(go.wait)
    thread.link(lambda ended, word: ends.put((ended, word)), "first")
    go.set()
    assert ends.get(timeout=SECONDS) == (thread, "first")
    thread.link(ends.put)
    assert ends.get(timeout=SECONDS) is thread
    assert thread.dead
    assert not thread


def test_waiting_for_a_green_thread_can_end_early() -> None:
    go = threading.Event()
    thread = green.spawn(go.wait)
    with pytest.raises(TimeoutError):
        thread.wait(0.01)
    go.set()
    thread.wait(SECONDS)


@pytest.mark.parametrize(
    "wait",
    [lambda: green.sleep(LONG), lambda: Event().wait(), lambda: Queue().get(), lambda: Semaphore(0).acquire()],
    ids=["sleep", "event", "queue", "semaphore"],
)
def test_a_killed_thread_ends_where_it_waits(wait: Any) -> None:
    thread = green.spawn(wait)
    green.kill(thread)
    with pytest.raises(green.GreenletExit):
        thread.wait(SECONDS)


def test_an_event_is_sent_once_to_all() -> None:
    event = Event()
    assert (event.ready(), event.poll("not yet")) == (False, "not yet")
    assert event.wait(0.01) is None
    waiting = [green.spawn(event.wait) for _ in range(3)]
    event.send(7)
    assert [thread.wait(SECONDS) for thread in waiting] == [7, 7, 7]
    assert event.has_result()
    with pytest.raises(AssertionError, match="reset"):
        event.send(8)
    event.reset()
    event.send_exception(ValueError("no"))
    assert event.has_exception()
    with pytest.raises(ValueError, match="no"):
        event.wait()


def test_queues_hold_what_they_have_room_for() -> None:
    queue = Queue(1)
    queue.put(1)
    with pytest.raises(Full):
        queue.put(2, timeout=0.01)
    with pytest.raises(Full):
        queue.put(2, block=False)
    assert queue.get() == 1
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    with pytest.raises(Empty):
        queue.get(block=False)
    last = LifoQueue()
    last.put(1)
    last.put(2)
    assert last.get() == 2


def test_semaphores_let_so_many_in() -> None:
    semaphore = BoundedSemaphore(1)
    with semaphore:
        assert not semaphore.acquire(blocking=False)
        assert not semaphore.acquire(timeout=0.01)
    with pytest.raises(ValueError, match="released too many"):
        semaphore.release()


def test_a_pool_runs_so_many_at_once_and_gives_results_in_order() -> None:
    pool, lock, running, most = green.GreenPool(3), threading.Lock(), [0], [0]
    together = threading.Barrier(3)

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(SECONDS)
        with lock:
            running[0] -= 1
        return number * 2

    assert list(pool.imap(work, range(9))) == [number * 2 for number in range(9)]
    assert most[0] == 3
    pool.waitall()
    assert (pool.running(), pool.free()) == (0, 3)


def test_a_pile_gives_results_in_the_order_of_the_beginnings() -> None:
    pile = green.GreenPile(2)
    first_may_end = threading.Event()
    pile.spawn(lambda: first_may_end.wait(SECONDS) and 1)
    pile.spawn(lambda: first_may_end.set() or 2)  # type: ignore[func-returns-value]
    assert list(pile) == [1, 2]


def test_a_timeout_is_raised_where_its_block_waits() -> None:
    with pytest.raises(green.Timeout) as caught, green.Timeout(0.01) as timeout:
        green.sleep(LONG)
    assert caught.value is timeout
    with pytest.raises(LookupError), green.Timeout(0.01, LookupError):
        Event().wait()
    with green.Timeout(0.01, False):
        Queue().get()
        pytest.fail("it ended the block")
    assert green.with_timeout(0.01, green.sleep, LONG, timeout_value="late") == "late"
    assert green.with_timeout(LONG, lambda: "in time") == "in time"


def test_a_timeout_that_could_not_interrupt_is_raised_at_the_end() -> None:
    def busy() -> None:
        with green.Timeout(0.001) as timeout:
            while time.monotonic() < timeout.due:
                pass

    with pytest.raises(green.Timeout):
        busy()
    with green.Timeout(LONG):
        pass
    with green.Timeout(None):
        green.sleep(0)


def test_the_inner_timeout_comes_first_and_the_outer_one_stays() -> None:
    with green.Timeout(LONG) as outer:
        with pytest.raises(green.Timeout) as caught, green.Timeout(0.01):
            green.sleep(LONG)
        assert caught.value is not outer
        assert outer.pending
        outer.cancel()
        assert not outer.pending
