"""The switch alone, with publishers at thousands of messages a second: nothing doubled, refused or lost.

A test at some calls a second would usually pass a wrong order: the window of two bindings is a millisecond or two.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import pytest
from kombu import Connection

from micro_framework.brokers.port import Confirmation, DoorEvents, Publication
from micro_framework.brokers.rabbitmq.broker import RabbitMQBroker
from micro_framework.exceptions import PublishError
from micro_framework.takeover.operations import Binding, bind, declare_exchange, declare_queue, unbind
from micro_framework.takeover.procedure import Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.messages import Properties
from micro_framework.wire.takeover import Names

pytestmark = [pytest.mark.kills_broker, pytest.mark.fault, pytest.mark.timeout(600)]

WINDOW = 200


class Publishers:
    """Two threads that publish calls of one method, confirmed and mandatory, until the block ends."""

    def __init__(self, vhost: VHost, names: Names) -> None:
        self.names = names
        self.publisher = RabbitMQBroker(vhost.uri).publisher("switch")
        self.ended = threading.Event()
        self.published: list[str] = []
        self.refused: list[PublishError] = []
        self.threads = [threading.Thread(target=self.work, args=(n,), name=f"mf-test-publisher-{n}") for n in range(2)]

    def __enter__(self) -> "Publishers":
        self.publisher.start(DoorEvents())
        assert self.publisher.wait_ready(monotonic() + 30)
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        self.publisher.stop(monotonic() + 10)

    def work(self, number: int) -> None:
        window: list[tuple[str, Confirmation]] = []
        for count in itertools.count():
            call = f"{number}-{count}"
            publication = Publication(
                self.names.main, self.names.key("alpha"), call.encode(), Properties(delivery_mode=1), mandatory=True
            )
            window.append((call, self.publisher.publish(publication)))
            if len(window) >= WINDOW or self.ended.is_set():
                self.settle(window)
            if self.ended.is_set():
                return

    def settle(self, window: list[tuple[str, Confirmation]]) -> None:
        for call, confirmation in window:
            try:
                confirmation.wait(monotonic() + 30)
                self.published.append(call)
            except PublishError as error:
                self.refused.append(error)
        window.clear()

    def wait_for_more(self, messages: int = 300) -> None:
        goal, pause = len(self.published) + len(self.refused) + messages, threading.Event()
        for _ in range(6000):
            if len(self.published) + len(self.refused) >= goal:
                return
            pause.wait(0.005)
        raise AssertionError("the publishers do not get on")


def all_in(vhost: VHost, *queues: str) -> dict[str, Counter[str]]:
    """What the queues hold; they are empty afterwards."""
    found: dict[str, Counter[str]] = {queue: Counter() for queue in queues}
    expected = sum(vhost.queue(queue).ready for queue in queues)

    def keep(queue: str, message: Any) -> None:
        body = message.body
        found[queue][body if isinstance(body, str) else bytes(body).decode()] += 1

    with Connection(vhost.uri) as connection:
        channel = connection.default_channel
        for queue in queues:
            channel.basic_consume(queue, no_ack=True, callback=partial(keep, queue))
        while sum(each.total() for each in found.values()) < expected:
            connection.drain_events(timeout=20)
    return found


@pytest.fixture
def bare_service(takeover: Takeover, names: Names) -> None:
    """What a Nameko service leaves in the broker."""
    direct = takeover.state().direct
    takeover.perform([declare_exchange(names.main), declare_queue(names.old), bind(direct)])


@pytest.mark.usefixtures("bare_service")
@pytest.mark.parametrize("entry", ["policy", "binding"])
def test_a_switch_doubles_refuses_and_loses_nothing(
    vhost: VHost, takeover: Takeover, names: Names, entry: str, soak_size: Callable[[int], int]
) -> None:
    with Publishers(vhost, names) as publishers:
        takeover.prepare(entry)
        for _ in range(soak_size(2)):
            publishers.wait_for_more()
            takeover.switch(takeover.state(), ["alpha"])
            for _ in range(4):
                publishers.wait_for_more()
                takeover.perform([unbind(takeover.method("alpha"))])
                publishers.wait_for_more()
                takeover.perform([bind(takeover.method("alpha"))])
            publishers.wait_for_more()
            takeover.switch_back(takeover.state())
    held = all_in(vhost, names.old, names.new)
    assert publishers.refused == []
    assert held[names.old]
    assert held[names.new]
    assert held[names.old] + held[names.new] == Counter(publishers.published)


@pytest.mark.usefixtures("bare_service")
def test_two_bindings_instead_of_one_are_found_out(vhost: VHost, takeover: Takeover, names: Names) -> None:
    """What this module measures can be seen: the switch that this project does not make doubles or refuses."""
    new = Binding(names.main, names.all_methods, names.new)
    old = takeover.state().direct
    takeover.perform([declare_queue(names.new)])
    with Publishers(vhost, names) as publishers:
        for _ in range(100):  # the window is a millisecond or two
            publishers.wait_for_more()
            takeover.perform([bind(new), unbind(old)])
            publishers.wait_for_more()
            takeover.perform([unbind(new), bind(old)])
            if publishers.refused:
                break
    held = all_in(vhost, names.old, names.new)
    doubled = held[names.old] & held[names.new]
    assert doubled or publishers.refused
