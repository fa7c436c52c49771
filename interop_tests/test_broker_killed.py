"""kill -9 of the broker with thousands of events under way: each is handled at least once, and consuming goes on soon.

2,000 events, or 20,000 in a soak (`make soak`).
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.testing.services import running

EVENTS, MOST = 2_000, 20_000
WORKERS = 10
BACK_WITHIN = 5.0
DEADLINE = 120.0
QUEUE = "evt-source-counted--counter.count"

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


class Tally:
    """What was handled, how often; other threads wait for it to grow."""

    def __init__(self) -> None:
        self.times: dict[int, int] = {}
        self.calls = 0
        self.grown = threading.Condition()

    def add(self, number: int) -> None:
        with self.grown:
            self.times[number] = self.times.get(number, 0) + 1
            self.calls += 1
            self.grown.notify_all()

    def wait_for_calls(self, calls: int, seconds: float) -> bool:
        with self.grown:
            return self.grown.wait_for(lambda: self.calls >= calls, seconds)

    def wait_for_all(self, count: int, seconds: float) -> bool:
        with self.grown:
            return self.grown.wait_for(lambda: len(self.times) == count, seconds)


def counting(tally: Tally) -> type:
    class Counter:
        name = "counter"

        @EventListener("source", "counted")
        def count(self, number: int) -> None:
            tally.add(number)

    return Counter


class Sending:
    """A service that dispatches so many events when it starts."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.under_way, self.finished = threading.Event(), threading.Event()
        self.failure: BaseException | None = None
        sending = self

        class Source:
            name = "source"
            dispatch = Producer()

            @TimeEntrypoint(interval=3600, eager=True)
            def begin(self) -> None:
                try:
                    self.dispatch.many(sending.events())
                except BaseException as error:
                    sending.failure = error
                    raise
                finally:
                    sending.finished.set()

        self.service = Source

    def events(self) -> Iterator[tuple[str, int]]:
        for number in range(self.count):
            if number == self.count // 4:
                self.under_way.set()
            yield "counted", number

    def join(self) -> None:
        """Wait until the broker has confirmed every event."""
        assert self.finished.wait(DEADLINE), "the events were not all confirmed in time"
        assert self.failure is None


@pytest.fixture
def count(soak_size: Callable[[int], int]) -> int:
    return min(MOST, soak_size(EVENTS))


@pytest.fixture
def vhost(own_node: RabbitMQNode) -> VHost:
    return own_node.vhost()


def config_of(vhost: VHost) -> dict[str, Any]:
    return {"AMQP_URI": vhost.uri, "MAX_WORKERS": WORKERS, "PUBLISH_TIMEOUT": DEADLINE}


def bring_back(node: RabbitMQNode, vhost: VHost, tally: Tally) -> None:
    """Start the killed broker again, and wait for the first event that it delivers."""
    in_hand = tally.calls + WORKERS  # what was delivered before may still be handled
    node.start()
    if not tally.wait_for_calls(in_hand + 1, BACK_WITHIN):
        state = (
            f"{tally.calls} calls of {len(tally.times)} events, {in_hand - WORKERS} calls before; {vhost.describe()}"
        )
        pytest.fail(f"nothing was consumed {BACK_WITHIN:g} s after the broker's return: {state}", pytrace=False)


def test_a_full_queue_survives_the_broker(own_node: RabbitMQNode, vhost: VHost, count: int) -> None:
    tally = Tally()
    with running(counting(tally), config=config_of(vhost)):
        pass  # declares the queue
    own_node.persist_declarations()
    sending = Sending(count)
    with running(sending.service, config=config_of(vhost)):
        sending.join()
    assert vhost.depth(QUEUE) == count
    with running(counting(tally), config=config_of(vhost)):
        assert tally.wait_for_calls(count // 4, DEADLINE)
        own_node.kill()
        assert len(tally.times) < count, "everything was handled before the broker was killed"
        bring_back(own_node, vhost, tally)
        assert tally.wait_for_all(count, DEADLINE), f"{count - len(tally.times)} events were lost"
        vhost.wait_until_drained(QUEUE)
    assert set(tally.times) == set(range(count))


def test_events_being_sent_and_handled_survive_the_broker(own_node: RabbitMQNode, vhost: VHost, count: int) -> None:
    tally = Tally()
    sending = Sending(count)
    with running(counting(tally), config=config_of(vhost)):
        own_node.persist_declarations()
        with running(sending.service, config=config_of(vhost)):
            assert sending.under_way.wait(DEADLINE)
            own_node.kill()
            assert not sending.finished.is_set(), "everything was confirmed before the broker was killed"
            bring_back(own_node, vhost, tally)
            sending.join()
            assert tally.wait_for_all(count, DEADLINE), f"{count - len(tally.times)} events were lost"
            vhost.wait_until_drained(QUEUE)
    assert set(tally.times) == set(range(count))
