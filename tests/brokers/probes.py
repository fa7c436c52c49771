"""What the broker tests look through: declarations spelt out, an inbox for deliveries, a diary of a door's events.

Nothing here sleeps; every wait ends at a deadline.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from micro_framework.brokers.port import (
    Broker,
    Confirmation,
    Consumer,
    Delivery,
    DoorEvents,
    Lock,
    Locks,
    Publication,
    Publisher,
    Subscription,
    Verdict,
)
from micro_framework.exceptions import BrokerError
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.erlang import ErlangAdmin
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Binding, Exchange, Queue

SECONDS = 10.0


def soon() -> float:
    """The deadline of everything that must happen."""
    return time.monotonic() + SECONDS


def exchange(name: str, kind: str = "topic", *, durable: bool = True, auto_delete: bool = False) -> Exchange:
    return Exchange(name=name, type=kind, durable=durable, auto_delete=auto_delete, arguments={})


def queue(
    name: str,
    *bindings: tuple[Exchange, str],
    durable: bool = True,
    exclusive: bool = False,
    auto_delete: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> Queue:
    return Queue(
        name=name,
        durable=durable,
        exclusive=exclusive,
        auto_delete=auto_delete,
        arguments=arguments or {},
        bindings=tuple(Binding(exchange=where, routing_key=key, arguments={}) for where, key in bindings),
    )


def message(
    routing_key: str,
    body: bytes | str = b"",
    *,
    to: str = "",
    mandatory: bool = False,
    properties: Properties | None = None,
) -> Publication:
    """A publication, by default straight into the queue that the routing key names."""
    raw = body.encode() if isinstance(body, str) else body
    return Publication(to, routing_key, raw, properties or Properties(), mandatory)


def mf_threads() -> list[str]:
    """The names of the framework's threads that run now."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("mf-"))


class Inbox:
    """Takes deliveries, and settles them if told how."""

    def __init__(self, verdict: Verdict | None = None) -> None:
        self.verdict = verdict
        self.deliveries: SimpleQueue[Delivery] = SimpleQueue()

    def take(self, delivery: Delivery) -> None:
        if self.verdict is not None:
            delivery.settle(self.verdict)
        self.deliveries.put(delivery)

    def next(self) -> Delivery:
        return self.deliveries.get(timeout=SECONDS)

    def several(self, count: int) -> list[Delivery]:
        return [self.next() for _ in range(count)]

    def bodies(self, count: int) -> list[str]:
        return [delivery.body.decode() for delivery in self.several(count)]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has arrived that was not looked at; means something only after a later message came."""
        return self.deliveries.empty()


class Diary:
    """Writes down a door's events in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.errors: list[BaseException] = []
        self.changed = threading.Condition()
        self.events = DoorEvents(on_ready=self.ready, on_lost=self.lost, on_refused=self.refused)

    def ready(self) -> None:
        self.write("ready", None)

    def lost(self, error: BaseException) -> None:
        self.write("lost", error)

    def refused(self, error: BrokerError) -> None:
        self.write("refused", error)

    def write(self, name: str, error: BaseException | None) -> None:
        with self.changed:
            self.names.append(name)
            if error is not None:
                self.errors.append(error)
            self.changed.notify_all()

    def wait_for(self, *names: str) -> None:
        """Wait until exactly these events have come."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.names == list(names), SECONDS):
                raise AssertionError(f"expected the events {list(names)}, got {self.names}")


class Contender:
    """Takes part in one lock and writes down what it is told."""

    def __init__(self, door: Locks, name: str) -> None:
        self.door = door
        self.name = name
        self.news: SimpleQueue[str] = SimpleQueue()
        self.words: SimpleQueue[str] = SimpleQueue()
        door.want(
            Lock(
                name,
                on_joined=lambda held: self.news.put("joined, holds" if held else "joined, waits"),
                on_held=lambda: self.news.put("holds"),
                on_word=self.words.put,
            )
        )

    def next_news(self, seconds: float = 3 * SECONDS) -> str:
        return self.news.get(timeout=seconds)

    def next_word(self) -> str:
        return self.words.get(timeout=SECONDS)

    def announce(self, word: str) -> bool:
        """Whether it was handed out while this one held the lock."""
        answers: SimpleQueue[bool] = SimpleQueue()
        self.door.announce(self.name, word, answers.put)
        return answers.get(timeout=SECONDS)


class Doors:
    """Opens doors to one broker and closes them after the test."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.opened: list[Consumer | Publisher | Locks] = []
        self._publisher: Publisher | None = None
        self._delaying: dict[str, Publisher] = {}

    def consumer(self, *subscriptions: Subscription, events: DoorEvents | None = None) -> Consumer:
        """A consumer that has been started, ready or not."""
        consumer = self.broker.consumer(f"test-{len(self.opened)}")
        self.opened.append(consumer)
        for subscription in subscriptions:
            consumer.subscribe(subscription)
        consumer.start(events or DoorEvents())
        return consumer

    def consuming(
        self, declared: Queue, verdict: Verdict | None = Verdict.ACK, *, prefetch: int = 100
    ) -> tuple[Inbox, Consumer]:
        """An inbox for one queue, and the ready consumer that fills it."""
        inbox = Inbox(verdict)
        consumer = self.consumer(Subscription(declared, prefetch, inbox.take))
        assert consumer.wait_ready(soon())
        return inbox, consumer

    def publisher(
        self,
        exchanges: Sequence[Exchange] = (),
        queues: Sequence[Queue] = (),
        events: DoorEvents | None = None,
    ) -> Publisher:
        """A publisher that has been started, ready or not."""
        publisher = self.broker.publisher(f"test-{len(self.opened)}")
        self.opened.append(publisher)
        publisher.declare(exchanges, queues)
        publisher.start(events or DoorEvents())
        return publisher

    def contender(self, name: str, events: DoorEvents | None = None) -> "Contender":
        """Somebody who takes part in a lock, on a connection of their own."""
        contender = Contender(self.broker.locks(f"test-{len(self.opened)}"), name)
        self.opened.append(contender.door)
        contender.door.start(events or DoorEvents())
        return contender

    def declare(self, *queues: Queue) -> None:
        """Declare queues that stay when the door closes."""
        publisher = self.publisher(queues=queues)
        assert publisher.wait_ready(soon())
        publisher.stop(soon())

    def send(self, *publications: Publication) -> None:
        """Publish in order and wait for every confirm."""
        for confirmation in [self.common_publisher.publish(publication) for publication in publications]:
            confirmation.wait(soon())

    def delay(self, publication: Publication, to: str, milliseconds: int, **back: str) -> Confirmation:
        """Delay for a classic queue, as a publisher does that expects to."""
        if to not in self._delaying:
            self._delaying[to] = self.delaying(queue(to, arguments={"x-queue-type": "classic"}), **back)
        return self._delaying[to].delay(publication, queue=to, delay=milliseconds, **back)

    def delaying(
        self, *targets: Queue, delays: Sequence[int] = (), events: DoorEvents | None = None, **back: str
    ) -> Publisher:
        """A ready publisher that expects to delay messages for these queues."""
        publisher = self.broker.publisher(f"test-{len(self.opened)}")
        self.opened.append(publisher)
        for target in targets:
            publisher.expect_delays(target, delays, **back)
        publisher.start(events or DoorEvents())
        assert publisher.wait_ready(soon())
        return publisher

    @property
    def common_publisher(self) -> Publisher:
        if self._publisher is None:
            self._publisher = self.publisher()
            assert self._publisher.wait_ready(soon())
        return self._publisher

    def close(self) -> None:
        for door in self.opened:
            door.stop(soon())


ADD_USER = """
ok = rabbit_auth_backend_internal:add_user(%(user)s, <<"secret">>, <<"t">>),
ok = rabbit_auth_backend_internal:set_permissions(%(user)s, %(vhost)s, %(configure)s, %(write)s, %(read)s, <<"t">>),
[]
"""


def uri_of_user(node: ErlangAdmin, vhost: VHost, configure: str, write: str, read: str) -> str:
    """The URI of a virtual host for a new user with these permissions, three regular expressions."""
    user = f"limited-{vhost.name}"
    node.evaluate(ADD_USER, user=user, vhost=vhost.name, configure=configure, write=write, read=read)
    return vhost.uri.replace("guest:guest", f"{user}:secret")
