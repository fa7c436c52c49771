"""Idle workers read a consumer's connection in the place of its thread, and what is not theirs they leave to it."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from micro_framework.brokers.port import Consumer, Delivery, DoorEvents, Subscription, Verdict
from micro_framework.brokers.rabbitmq.connection import Waker
from micro_framework.brokers.rabbitmq.frames import FrameBuffer
from micro_framework.brokers.rabbitmq.sharing import SharedReading
from micro_framework.spawners.jobs import CAN_LOOK_OUT
from micro_framework.spawners.thread import ThreadSpawner
from micro_framework.testing.broker_state import VHost
from tests.brokers.probes import SECONDS, Diary, Doors, message, queue, soon

pytestmark = pytest.mark.skipif(not CAN_LOOK_OUT, reason="epoll is Linux'")
JOBS = queue("jobs")
TRIES = 200


class Pool:
    """Workers that settle deliveries, and who read them. Its own job."""

    label = "Orders.create"

    def __init__(self, workers: int = 1) -> None:
        self.spawner = ThreadSpawner("default", workers, greedy=True)
        self.spawner.start()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.one_at_a_time = threading.Lock()
        self.readers: SimpleQueue[str] = SimpleQueue()
        self.bodies: SimpleQueue[bytes] = SimpleQueue()

    def subscription(self, prefetch: int = 10) -> Subscription:
        return Subscription(JOBS, prefetch, self.take, lookout=self.spawner.lookout)

    def take(self, delivery: Delivery) -> None:
        """On whoever reads."""
        assert self.one_at_a_time.acquire(blocking=False)
        self.readers.put(threading.current_thread().name)
        self.spawner.submit(self, delivery)
        self.one_at_a_time.release()

    def process(self, item: Delivery) -> None:
        self.entered.set()
        assert self.gate.wait(SECONDS)
        self.bodies.put(item.body)
        item.settle(Verdict.ACK)

    def comes_again(self, item: Delivery) -> bool:
        return True

    def hand_back(self, item: Delivery) -> None:
        item.settle(Verdict.REQUEUE)

    def next(self) -> bytes:
        return self.bodies.get(timeout=SECONDS)

    def stop(self) -> None:
        self.gate.set()
        self.spawner.finish_waiting()
        assert self.spawner.stop(soon()) == []


@pytest.fixture
def pool(doors: Doors) -> Iterator[Pool]:
    """Stopped before the doors are closed, as in a service."""
    pool = Pool()
    yield pool
    pool.stop()


def sharing_with(pool: Pool, doors: Doors, events: DoorEvents | None = None) -> Consumer:
    consumer = doors.consumer(pool.subscription(), events=events)
    assert consumer.wait_ready(soon())
    return consumer


def wait_for_a_worker_to_read(pool: Pool, doors: Doors) -> None:
    """Whoever is at the socket first reads, so it may take a few messages."""
    for _ in range(TRIES):
        doors.send(message("jobs", b"x"))
        pool.next()
        if pool.readers.get(timeout=SECONDS).startswith("mf-worker-default"):
            return
    raise AssertionError(f"the consumer's thread has read all of {TRIES} messages")


def test_an_idle_worker_reads_its_message(doors: Doors, pool: Pool) -> None:
    sharing_with(pool, doors)
    wait_for_a_worker_to_read(pool, doors)


def test_while_all_workers_are_busy_the_consumers_thread_reads(doors: Doors, pool: Pool, rabbit: VHost) -> None:
    sharing_with(pool, doors)
    wait_for_a_worker_to_read(pool, doors)
    pool.gate.clear()
    pool.entered.clear()
    doors.send(message("jobs", b"long"))
    assert pool.entered.wait(SECONDS)
    pool.readers.get(timeout=SECONDS)
    for number in range(5):
        doors.send(message("jobs", b"%d" % number))
        assert pool.readers.get(timeout=SECONDS).startswith("mf-consumer-")
    pool.gate.set()
    assert [pool.next() for _ in range(6)] == [b"long", b"0", b"1", b"2", b"3", b"4"]
    rabbit.wait_until_drained("jobs")


def test_a_queue_that_is_deleted_beside_an_idle_worker_is_declared_again(
    doors: Doors, pool: Pool, rabbit: VHost
) -> None:
    sharing_with(pool, doors)
    wait_for_a_worker_to_read(pool, doors)
    rabbit.delete_queue("jobs")
    rabbit.wait_for_consumers("jobs")
    wait_for_a_worker_to_read(pool, doors)


def test_after_a_reconnect_idle_workers_read_the_new_connection(doors: Doors, pool: Pool, rabbit: VHost) -> None:
    diary = Diary()
    sharing_with(pool, doors, diary.events)
    wait_for_a_worker_to_read(pool, doors)
    rabbit.close_connections()
    diary.wait_for("ready", "lost", "ready")
    wait_for_a_worker_to_read(pool, doors)


def test_large_and_small_bodies_arrive_whole_and_in_order(doors: Doors, pool: Pool, rabbit: VHost) -> None:
    sharing_with(pool, doors)
    wait_for_a_worker_to_read(pool, doors)
    bodies = [os.urandom(size) for size in (10, 70_000, 0, 300_000, 4_000_000, 1, 65_536, 131_072, 20)] * 3
    doors.send(*(message("jobs", body) for body in bodies))
    assert [pool.next() for _ in bodies] == bodies
    rabbit.wait_until_drained("jobs")


@pytest.mark.parametrize("workers", [1, 4])
def test_nothing_is_lost_or_doubled_between_those_who_read(doors: Doors, rabbit: VHost, workers: int) -> None:
    pool = Pool(workers)
    sharing_with(pool, doors)
    bodies = [b"%d" % number for number in range(1000)]
    for begin in range(0, len(bodies), 7):  # with pauses, so that both read
        doors.send(*(message("jobs", body) for body in bodies[begin : begin + 7]))
    received = [pool.next() for _ in bodies]
    assert sorted(received) == sorted(bodies)
    if workers == 1:
        assert received == bodies
    rabbit.wait_until_drained("jobs")
    pool.stop()
    assert pool.bodies.empty()


def test_a_cancelled_consumer_hands_on_nothing(doors: Doors, pool: Pool, rabbit: VHost) -> None:
    consumer = sharing_with(pool, doors)
    wait_for_a_worker_to_read(pool, doors)
    consumer.cancel(soon())
    doors.send(message("jobs", b"later"))
    rabbit.wait_for(lambda state: state.depth("jobs") == 1)
    assert pool.bodies.empty()


def test_a_consumer_for_two_pools_is_read_by_its_thread_alone(doors: Doors, pool: Pool) -> None:
    other = Pool()
    others = Subscription(queue("others"), 10, other.take, lookout=other.spawner.lookout)
    assert doors.consumer(pool.subscription(), others).wait_ready(soon())
    for _ in range(20):
        doors.send(message("jobs", b"x"))
        pool.next()
        assert pool.readers.get(timeout=SECONDS).startswith("mf-consumer-")
    other.stop()


def test_a_consumer_leaves_nothing_open(doors: Doors, pool: Pool) -> None:
    doors.send(message("jobs", b"x", mandatory=False))
    before = len(os.listdir("/proc/self/fd"))
    own = Pool()
    consumer = sharing_with(own, doors)
    wait_for_a_worker_to_read(own, doors)
    own.stop()
    consumer.stop(soon())
    assert len(os.listdir("/proc/self/fd")) == before


# -- without a broker


class Watch:
    """A lookout whose worker is the test."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}

    def watch(self, number: int, read: Callable[[], None]) -> None:
        self.readers[number] = read

    def forget(self, number: int) -> None:
        self.readers.pop(number, None)


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def shared(
    waker: Waker, handle: Callable[[Any], object], receive: Callable[[], bytes]
) -> tuple[SharedReading, Watch, socket.socket]:
    ours, theirs = socket.socketpair()
    watch = Watch()
    transport: Any = SimpleNamespace(sock=ours, receive=receive)
    return SharedReading(transport, FrameBuffer(), handle, waker.wake, waker.number, watch), watch, theirs


HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


def test_what_goes_wrong_on_a_worker_is_raised_on_the_reading_thread(waker: Waker) -> None:
    def broken() -> bytes:
        raise ConnectionResetError("gone")

    reading, watch, theirs = shared(waker, print, broken)
    (read,) = watch.readers.values()
    worker = threading.Timer(0.05, read)
    worker.start()
    with pytest.raises(ConnectionResetError, match="gone"):
        reading.sleep(SECONDS, room=False)
    worker.join(SECONDS)
    reading.end()
    theirs.close()


def test_whoever_comes_while_the_reading_thread_is_at_it_wakes_it_and_leaves(waker: Waker) -> None:
    handled: list[Any] = []
    reading, watch, theirs = shared(waker, handled.append, lambda: HEARTBEAT)
    (read,) = watch.readers.values()
    read()
    assert handled == []
    assert [number for number, _ in reading.sleep(SECONDS, room=False)] == [waker.number]
    reading.end()
    read()
    assert handled == []
    theirs.close()


def test_the_reading_thread_waits_for_room_while_something_is_unsent(waker: Waker) -> None:
    reading, _, theirs = shared(waker, print, lambda: b"")
    assert reading.sleep(0.01, room=False) == []
    assert [number for number, _ in reading.sleep(SECONDS, room=True)] == [reading.number]
    assert reading.sleep(0.01, room=False) == []
    theirs.send(b"x")
    assert [number for number, _ in reading.sleep(SECONDS, room=False)] == [reading.number]
    reading.end()
    theirs.close()
