"""What the broker tests look through: declarations spelt out, an inbox for deliveries, a diary of a door's events.

Nothing here sleeps; every wait ends at a deadline.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import (
    Broker,
    Browser,
    Confirmation,
    Consumer,
    Delivery,
    DoorEvents,
    Duplex,
    Lock,
    Locks,
    Publication,
    Publisher,
    Subscription,
    Verdict,
)
from micro_framework.exceptions import BrokerError, Unroutable
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.erlang import ErlangAdmin
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Binding, Exchange, Queue

SECONDS = 20.0


def nothing() -> None:
    """What happens meanwhile if nobody says."""


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


def abridged(names: Sequence[str], most: int = 20) -> str:
    """The first and the last of many names."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most // 2])} ... {', '.join(names[-most // 2 :])}"


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

    def each_of(self, bodies: Sequence[str], vhost: VHost) -> None:
        """Wait until each of these bodies, and no other, has come; in whatever order, once or several times."""
        deliveries, known, missing = 0, set(bodies), set(bodies)
        while missing:
            try:
                body = self.next().body.decode()
            except Empty:
                lost = [body for body in bodies if body in missing]
                raise AssertionError(
                    f"{len(bodies) - len(lost)} of {len(bodies)} bodies came, in {deliveries} deliveries, "
                    f"then none for {SECONDS:g} s; missing: {abridged(lost)}; {vhost.describe()}"
                ) from None
            assert body in known
            missing.discard(body)
            deliveries += 1

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


class Told:
    """Counts how often it was told something; `Subscription.on_lost` for example."""

    def __init__(self) -> None:
        self.times = 0
        self.changed = threading.Condition()

    def __call__(self) -> None:
        with self.changed:
            self.times += 1
            self.changed.notify_all()

    def wait_for(self, times: int) -> None:
        """Wait until it was told this often, and not more often by then."""
        with self.changed:
            self.changed.wait_for(lambda: self.times >= times, SECONDS)
            assert self.times == times


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
        self.opened: list[Consumer | Publisher | Browser | Locks] = []
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

    def duplex(self, *subscriptions: Subscription, events: DoorEvents | None = None) -> Duplex:
        """A door for both that has been started, ready or not."""
        duplex = self.broker.duplex(f"test-{len(self.opened)}")
        self.opened.append(duplex)
        for subscription in subscriptions:
            duplex.subscribe(subscription)
        duplex.start(events or DoorEvents())
        return duplex

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

    def browser(self, events: DoorEvents | None = None) -> Browser:
        """A browser that is ready."""
        browser = self.broker.browser(f"test-{len(self.opened)}")
        self.opened.append(browser)
        browser.start(events or DoorEvents())
        assert browser.wait_ready(soon())
        return browser

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

    def send_once_declared(self, publication: Publication) -> None:
        """Publish until a queue takes it: somebody is about to declare that."""
        assert publication.mandatory, "else nobody tells that no queue took it"
        deadline = soon()
        while True:
            try:
                return self.send(publication)
            except Unroutable:
                assert time.monotonic() < deadline, f"nobody declared a queue for {publication}"

    def has_queue(self, name: str) -> bool:
        """Whether there is such a queue; looked at by a message to it."""
        try:
            self.send(message(name, mandatory=True))
        except Unroutable:
            return False
        return True

    @property
    def common_publisher(self) -> Publisher:
        if self._publisher is None:
            self._publisher = self.publisher()
            assert self._publisher.wait_ready(soon())
        return self._publisher

    def close(self) -> None:
        for door in self.opened:
            door.stop(soon())


class DuplexOnly:
    """A broker whose every door is for both; the contracts of consumers and publishers hold for these too."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    @property
    def description(self) -> str:
        return self.broker.description

    @property
    def durable_after(self) -> float:
        return self.broker.durable_after

    def consumer(self, name: str) -> Duplex:
        return self.broker.duplex(name)

    def publisher(self, name: str) -> Duplex:
        return self.broker.duplex(name)

    def browser(self, name: str) -> Browser:
        return self.broker.browser(name)

    def locks(self, name: str) -> Locks:
        return self.broker.locks(name)

    def duplex(self, name: str) -> Duplex:
        return self.broker.duplex(name)


class Operator(Protocol):
    """What happens to a broker behind the backs of its doors."""

    @property
    def events(self) -> DoorEvents:
        """For the doors whose connections it is to cut."""

    def delete_queue(self, name: str) -> None:
        """Delete a queue, also under its consumers; no such queue: nothing happens."""

    def cut(self, meanwhile: Callable[[], None] = nothing) -> None:
        """Cut every connection, and call ``meanwhile()`` before the door with `events` is back; that is waited for."""


class MemoryOperator:
    """The embedded broker's."""

    events = DoorEvents()

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    def delete_queue(self, name: str) -> None:
        self.broker.delete_queue(name)

    def cut(self, meanwhile: Callable[[], None] = nothing) -> None:
        server = self.broker._server
        with server.lock:  # reentrant: as `MemoryBroker.drop_connections`, with something in between
            doors = list(server._doors)
            for door in doors:
                door.lose_connection(BrokerError("cut by a test"))
            meanwhile()
            for door in doors:
                door.regain_connection()


class RabbitMQOperator:
    """RabbitMQ's; acts meanwhile on the door's own thread, which connects again only after its events were told."""

    def __init__(self, vhost: VHost) -> None:
        self.vhost = vhost
        self.events = DoorEvents(on_lost=self.away)
        self.meanwhile = nothing
        self.done = threading.Event()

    def away(self, _error: BaseException) -> None:
        self.meanwhile()
        self.done.set()

    def delete_queue(self, name: str) -> None:
        self.vhost.delete_queue(name)

    def cut(self, meanwhile: Callable[[], None] = nothing) -> None:
        self.meanwhile = meanwhile
        self.done.clear()
        self.vhost.wait_for(lambda vhost: vhost.close_connections() > 0, what="connections to cut")
        assert self.done.wait(SECONDS)


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
