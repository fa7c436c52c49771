"""One queue of the embedded broker, the consumers on it and what is on its way to them.

Everything here runs under one lock, the server's, which each queue carries so that a delivery can settle itself.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from threading import RLock
from time import monotonic
from typing import Any

from micro_framework.brokers.port import Verdict
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue

__all__ = ["Consumption", "Entry", "MemoryDelivery", "Message", "StoredQueue"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was published, shared by all queues it went to.

    Args:
        expires_in: Seconds it may wait in a queue, None for ever.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties
    expires_in: float | None = None


@dataclass(slots=True)
class Entry:
    """A message's place in one queue: lower positions are delivered first, also when they come back."""

    message: Message
    position: int
    expires_at: float | None
    redelivered: bool = False


class MemoryDelivery:
    """One message on its way to a target (`micro_framework.brokers.port.Delivery`)."""

    __slots__ = ("_consumption", "entry", "redelivered")

    def __init__(self, entry: Entry, consumption: "Consumption") -> None:
        self.entry = entry
        self.redelivered = entry.redelivered
        self._consumption = consumption

    @property
    def body(self) -> bytes:
        return self.entry.message.body

    @property
    def content_type(self) -> str | None:
        return self.entry.message.properties.content_type

    @property
    def content_encoding(self) -> str | None:
        return self.entry.message.properties.content_encoding

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.entry.message.properties.headers

    @property
    def properties(self) -> Properties:
        return self.entry.message.properties

    @property
    def exchange(self) -> str:
        return self.entry.message.exchange

    @property
    def routing_key(self) -> str:
        return self.entry.message.routing_key

    @property
    def queue(self) -> str:
        return self._consumption.queue.name

    def settle(self, verdict: Verdict) -> None:
        """Tell the queue what became of the message; see the port."""
        with self._consumption.queue.lock:
            self._consumption.settle(self, verdict)

    def __repr__(self) -> str:
        return f"<delivery of {len(self.body)} bytes from {self.queue}, routing key {self.routing_key!r}>"


class Consumption:
    """One consumer on one queue: how much it takes at once, and what it has not settled.

    Args:
        queue: The queue.
        prefetch: How many deliveries may be unsettled at once, 0 for any number.
        hand_over: Takes a delivery under the lock; must return at once.
        on_cancelled: Told under the lock when the queue was deleted under its consumers; must return at once.
    """

    def __init__(
        self,
        queue: "StoredQueue",
        prefetch: int,
        hand_over: Callable[[MemoryDelivery], None],
        on_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self.queue = queue
        self.on_cancelled = on_cancelled
        self._prefetch = prefetch
        self._hand_over = hand_over
        self._unsettled: set[MemoryDelivery] = set()

    @property
    def has_room(self) -> bool:
        return not self._prefetch or len(self._unsettled) < self._prefetch

    def deliver(self, entry: Entry) -> None:
        delivery = MemoryDelivery(entry, self)
        self._unsettled.add(delivery)
        self._hand_over(delivery)

    def settle(self, delivery: MemoryDelivery, verdict: Verdict) -> None:
        """Take the first verdict on a delivery; one that was settled or taken back is not here any more."""
        if delivery not in self._unsettled:
            return
        self._unsettled.remove(delivery)
        if verdict is Verdict.REQUEUE:
            self.queue.take_back([delivery.entry])
        self.queue.deliver_what_fits()

    def give_back(self, deliveries: Collection[MemoryDelivery]) -> None:
        """Put what is not settled among these back into the queue."""
        self._take_back(self._unsettled.intersection(deliveries))

    def give_everything_back(self) -> None:
        """Put all that is not settled back into the queue: the connection is gone."""
        self._take_back(self._unsettled.copy())

    def _take_back(self, deliveries: set[MemoryDelivery]) -> None:
        self._unsettled -= deliveries
        self.queue.take_back(delivery.entry for delivery in deliveries)
        self.queue.deliver_what_fits()


class StoredQueue:
    """A declared queue with its messages.

    Args:
        declared: As it was declared.
        owner: The connection it is exclusive to, None when it is not.
        lock: Held by whoever calls anything here.
    """

    def __init__(self, declared: Queue, owner: object | None, lock: RLock) -> None:
        self.declared = declared
        self.name = declared.name
        self.owner = owner
        self.lock = lock
        self.consumptions: deque[Consumption] = deque()  # the next one to be served first
        self.bound_to: set[str] = set()  # names of exchanges
        self._ready: deque[Entry] = deque()
        self._next_position = 0
        time_to_live, lease = declared.arguments.get("x-message-ttl"), declared.arguments.get("x-expires")
        self._expires_in = None if time_to_live is None else time_to_live / 1000
        self.lease_seconds = None if lease is None else lease / 1000
        self.leases = 0  # counts uses, so that the end of an earlier lease is told from that of the last one

    @property
    def waiting(self) -> int:
        """How many messages nobody has."""
        return len(self._ready)

    def put(self, message: Message) -> None:
        """Append a message and deliver it if anybody has room."""
        self._ready.append(Entry(message, self._next_position, self._expiry_of(message)))
        self._next_position += 1
        self.deliver_what_fits()

    def take_back(self, entries: Iterable[Entry]) -> None:
        """Put delivered messages back where they came from, marked as redelivered."""
        # The last one first, so that each finds its place at the head.
        for entry in sorted(entries, key=lambda entry: entry.position, reverse=True):
            entry.redelivered = True
            self._insert(entry)

    def deliver_what_fits(self) -> None:
        """Deliver from the head as long as some consumer has room, to one after the other in turn."""
        while self._ready:
            consumption = self._next_with_room()
            if consumption is None:
                return
            if (entry := self.take_first()) is not None:
                consumption.deliver(entry)

    def take_first(self) -> Entry | None:
        """Take the first message; None where none waits. What has expired is dropped on the way."""
        while self._ready:
            entry = self._ready.popleft()
            if entry.expires_at is None or monotonic() < entry.expires_at:
                return entry
        return None

    def _next_with_room(self) -> Consumption | None:
        for _ in range(len(self.consumptions)):
            consumption = self.consumptions[0]
            self.consumptions.rotate(-1)
            if consumption.has_room:
                return consumption
        return None

    def _insert(self, entry: Entry) -> None:
        behind = 0  # what came back earlier stands at the head, so this walks over a handful at most
        while behind < len(self._ready) and self._ready[behind].position < entry.position:
            behind += 1
        self._ready.insert(behind, entry)

    def _expiry_of(self, message: Message) -> float | None:
        if self._expires_in is None and message.expires_in is None:
            return None
        return monotonic() + min(limit for limit in (self._expires_in, message.expires_in) if limit is not None)
