"""The broker port: everything the framework asks of a broker, and nothing else.

A `Broker` hands out doors. A `Consumer` is one consuming connection: it declares queues, delivers messages to callbacks
and takes their verdicts. A `Publisher` is one publishing connection: it declares exchanges, publishes with confirms,
and delays. A `Duplex` is both on one connection, for RPC. All connect on their own, keep what was declared, and bring
it back after every loss of the connection; the callers only see that nothing is confirmed meanwhile. A `Locks` is one
connection that holds names, or waits for them, and a `Browser` one for people who look into queues.

Rules that both implementations keep, and that the contract tests (``tests/brokers/test_contract_*.py``) hold them to:

* A callback runs on the door's own thread and must return at once: it hands the delivery on and never waits.
* A delivery may be settled from any thread, once. Settling after the connection it came by was lost does nothing: the
  broker has already taken the message back and delivers it again.
* A publish returns only when the broker has confirmed it. The first outcome wins: returned, rejected, confirmed, timed
  out. A publish that was not confirmed when the connection broke is sent again on the next one until its deadline.
* Every wait has a deadline.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from micro_framework.exceptions import BrokerError
from micro_framework.lookout import Lookout
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Exchange, Queue
from micro_framework.wire.records import record

__all__ = [
    "Broker",
    "Browser",
    "Confirmation",
    "Consumer",
    "Delivery",
    "Door",
    "DoorEvents",
    "Duplex",
    "Lock",
    "Locks",
    "Publication",
    "Publisher",
    "Subscription",
    "Verdict",
]


class Verdict(Enum):
    """What becomes of a delivered message."""

    ACK = "ack"
    """It is done; the broker may forget it."""
    REQUEUE = "requeue"
    """It goes back to its queue and is delivered again at once.

    On the wire this is ``basic.nack``, where Nameko sends ``basic.reject``: for RabbitMQ 4.3 a reject is a failed
    delivery, and a quorum queue drops a message after 20 of them.
    """
    REJECT = "reject"
    """It is dropped, or dead-lettered if its queue has such arguments."""


class Delivery(Protocol):
    """One message on its way to a target. Attributes are read-only."""

    @property
    def body(self) -> bytes:
        """The raw body."""

    @property
    def content_type(self) -> str | None:
        """The content type, None where the sender gave none."""

    @property
    def content_encoding(self) -> str | None:
        """The content encoding, None where the sender gave none."""

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers table, empty where there was none."""

    @property
    def properties(self) -> Properties:
        """All properties, as they would be published again."""

    @property
    def exchange(self) -> str:
        """The exchange the message was published to."""

    @property
    def routing_key(self) -> str:
        """The routing key the message was published with."""

    @property
    def queue(self) -> str:
        """The queue it was consumed from."""

    @property
    def redelivered(self) -> bool:
        """Whether the broker delivered it before."""

    def settle(self, verdict: Verdict) -> None:
        """Tell the broker what became of the message: thread safe, never waits, the first verdict wins."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A queue to declare and consume.

    Args:
        queue: The queue with its bindings; their exchanges are declared first, then the queue, then the bindings, as
            Nameko does. An exchange that exists with other flags is adopted with one log line; a queue that does is
            refused.
        prefetch: How many deliveries may be unsettled at once (per consumer, never global).
        on_message: Called on the consumer's thread (see ``lookout``) for each delivery; must return at once and must
            not raise.
        declare_exchanges: False leaves the exchanges to others (``DECLARE_EVENT_EXCHANGES: false``).
        on_lost: Called on the consumer's thread when the queue was deleted or has expired since it was declared: what
            it held, or would have got meanwhile, is lost. It has been declared again by then. Must return at once.
            None: nobody needs to know. Where several consume one queue, whoever finds it gone first is told.
        delete_at_stop: The queue is this consumer's alone and of no use without it: it is deleted at the stop, where
            the broker can still be told.
        lookout: Idle workers that may read in the place of the consumer's thread, and call ``on_message``; never at the
            same time as it. None: nobody else reads.
    """

    queue: Queue
    prefetch: int
    on_message: Callable[[Delivery], None]
    declare_exchanges: bool = True
    on_lost: Callable[[], None] | None = None
    delete_at_stop: bool = False
    lookout: Lookout | None = None


@record(frozen=True, slots=True)
class Publication:
    """One message to publish.

    Args:
        exchange: The exchange's name; ``""`` is the default exchange.
        routing_key: The routing key; with the default exchange a queue's name.
        body: The encoded body.
        properties: Its properties, headers included.
        mandatory: Whether to fail with `Unroutable` when no queue is bound for it.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties
    mandatory: bool = False


class Confirmation(Protocol):
    """The broker's answer to one publish, as it becomes known. Thread safe."""

    @property
    def written(self) -> bool:
        """Whether the message may be on its way; one that is not waits for a connection."""

    def wait(self, deadline: float) -> None:
        """Wait for the confirm.

        Args:
            deadline: ``time.monotonic()`` seconds at which to give up.

        Raises:
            PublishTimeout: No answer by then: the message may have been delivered.
            PublishError: The broker's other answers, see `micro_framework.exceptions`.
        """

    def add_done_callback(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call ``callback(error)`` once when the outcome is known, error None for a confirm.

        It runs on the thread that learnt the outcome, or at once on this one when it is known already; it must return
        at once and must not raise.
        """


def ignore_ready() -> None:
    """The default of `DoorEvents.on_ready`."""


def ignore_lost(error: BaseException) -> None:
    """The default of `DoorEvents.on_lost`."""


def ignore_refused(error: BrokerError) -> None:
    """The default of `DoorEvents.on_refused`."""


def ignore_overdue(seconds: float | None) -> None:
    """The default of `DoorEvents.on_overdue`."""


def ignore_standstill(began: float, ended: float) -> None:
    """The default of `DoorEvents.on_standstill`."""


@dataclass(frozen=True, slots=True)
class DoorEvents:
    """What a door tells its owner; called on the door's thread, must return at once.

    Args:
        on_ready: Connected, everything declared, consumers registered; again after every reconnect.
        on_lost: The connection broke; the door reconnects by itself.
        on_refused: An answer that will not change (`BrokerRefused`); the door has given up.
        on_overdue: A message was not settled within the seconds that the broker allows for that (RabbitMQ's
            ``consumer_timeout``; None where it does not say how many): it took the message back, or everything that
            this door has not settled. The door consumes again.
        on_standstill: The connection was lost, for this process stood still between two ``time.monotonic()`` and could
            not answer heartbeats; told after `on_lost`.
    """

    on_ready: Callable[[], None] = field(default=ignore_ready)
    on_lost: Callable[[BaseException], None] = field(default=ignore_lost)
    on_refused: Callable[[BrokerError], None] = field(default=ignore_refused)
    on_overdue: Callable[[float | None], None] = field(default=ignore_overdue)
    on_standstill: Callable[[float, float], None] = field(default=ignore_standstill)


class Door(Protocol):
    """What consumers and publishers share: a connection of their own that looks after itself."""

    def start(self, events: DoorEvents) -> None:
        """Begin connecting on a thread of its own; returns at once."""

    @property
    def ready(self) -> bool:
        """Whether it is connected with everything declared (and its consumers registered) right now."""

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages on it for now (a memory or disk alarm)."""

    @property
    def turns(self) -> bool:
        """Whether its thread does its work; True also while it connects again, before it starts and after it ends."""

    def wait_ready(self, deadline: float) -> bool:
        """Wait until `ready`, until refused, or until ``deadline`` (``time.monotonic()`` seconds).

        Returns:
            Whether it is ready.
        """

    def stop(self, deadline: float) -> None:
        """Write what was settled or is still to be confirmed, close the connection and end the thread.

        Args:
            deadline: ``time.monotonic()`` seconds after which it closes without waiting further. Idempotent.
        """


class Consumer(Door, Protocol):
    """One consuming connection with any number of queues."""

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue from the next start on. Call before `start`."""

    def cancel(self, deadline: float) -> None:
        """Stop receiving: cancel every consumer and wait until the broker has agreed.

        What has come by then and no callback has seen goes back to its queue; where the queue would count that
        (`counts`), the callback still gets it. After it returned no callback runs any more; what was delivered can
        still be settled. Idempotent, and safe while disconnected.
        """

    def counts(self, queue: str, deadline: float) -> bool:
        """Whether a queue counts how often each of its messages comes back (RabbitMQ's quorum queues do).

        Asked of the broker once; False where it does not answer.

        Args:
            queue: The name of a queue that this door consumes.
            deadline: ``time.monotonic()`` seconds at which to give up.
        """


class Publisher(Door, Protocol):
    """One publishing connection. Every method may be called from any thread."""

    def declare(self, exchanges: Sequence[Exchange] = (), queues: Sequence[Queue] = ()) -> None:
        """Declare now (if connected), after every reconnect, and when a publish finds that its exchange is gone.

        Exchanges that exist with other flags are adopted with one log line; a queue that does is refused. Call
        before `start`: an answer that will not change is reported through `DoorEvents.on_refused`.
        """

    def ensure(self, queue: Queue, deadline: float) -> None:
        """Have a queue exist: one of that name is used as it is, whatever its flags, with one log line.

        Before `start` it is noted, and declared after every connect. Later it is declared now, once; without a
        connection nothing happens.

        Args:
            queue: The queue; it has no bindings.
            deadline: ``time.monotonic()`` seconds at which to give up.

        Raises:
            PublishError: It cannot be declared, or no answer came in time.
        """

    def publish(self, publication: Publication, *, confirm: bool = True, more: bool = False) -> Confirmation:
        """Publish without waiting for the answer; `Confirmation.wait` waits.

        Args:
            publication: What to publish.
            confirm: False: the confirmation is good as soon as the message is written (at most once).
            more: Others follow at once: some brokers write them together, while answers to earlier ones are still to
                come.
        """

    def delay(
        self, publication: Publication, *, queue: str, delay: int, exchange: str = "", routing_key: str | None = None
    ) -> Confirmation:
        """Have a message come back to a queue after a delay, without blocking anything meanwhile.

        Args:
            publication: What to deliver; its exchange and routing key are not used. Any ``expiration`` and the
                broker's own ``x-death`` family of headers are removed.
            queue: The name of the (existing) queue it comes back to.
            delay: Milliseconds, at least 0.
            exchange: The name of the (existing) exchange that it comes back through, ending in whatever queue that
                leads to then; ``""`` is the default exchange, which leads straight to ``queue``.
            routing_key: The routing key it comes back with; None: the queue's name.
        """

    def expect_delays(
        self, queue: Queue, delays: Sequence[int], *, exchange: str = "", routing_key: str | None = None
    ) -> None:
        """Be ready to `delay` messages for a queue: some brokers do it more safely when they know beforehand.

        Call before `start`. What was not expected can be delayed too.

        Args:
            queue: The queue, as its consumer declares it.
            delays: The milliseconds to be expected, as far as they are known.
            exchange: As for `delay`.
            routing_key: As for `delay`.
        """


class Duplex(Consumer, Publisher, Protocol):
    """A consumer and a publisher on one connection: what is consumed is ready before anything is published.

    `cancel` ends the consuming alone. `stop` waits for outstanding confirms first, and what their callbacks settle is
    written before the connection closes.
    """


class Browser(Door, Protocol):
    """One connection that looks into queues, a message at a time; it declares nothing. For one thread at a time."""

    def count(self, queue: str, deadline: float) -> int | None:
        """How many messages wait in a queue, without those that are out with somebody; None: there is no such queue.

        What others gave back just now may not be among them yet; it is once `get` has been answered.

        Args:
            queue: The queue's name.
            deadline: ``time.monotonic()`` seconds at which to give up.

        Raises:
            BrokerError: No connection, no answer in time, or no permission.
        """

    def get(self, queue: str, deadline: float, ahead: int = 0) -> Delivery | None:
        """Take the first message that waits in a queue, None where none does.

        Nobody else sees it until it is settled, by itself or by `release`, or until this door is stopped or loses its
        connection.

        Args:
            queue: The queue's name.
            deadline: ``time.monotonic()`` seconds at which to give up.
            ahead: How many of the next ones may be taken along, for the calls that follow; `count` counts them as
                waiting.

        Raises:
            BrokerError: As in `count`; also where there is no such queue, and where the connection was lost after
                messages were taken (until `release` has been called, so that none is taken twice unnoticed).
        """

    def release(self, deadline: float) -> None:
        """Give back what was taken and not settled, and wait until the broker has every verdict.

        What goes back stands where it stood; in a quorum queue it may stand behind what was not taken.

        Args:
            deadline: ``time.monotonic()`` seconds at which to give up.

        Raises:
            BrokerError: The connection was lost since the first message was taken: the broker took back what it had no
                verdict about. Or no answer in time.
        """


@dataclass(frozen=True, slots=True)
class Lock:
    """A name that one connection in the whole cluster holds at a time; when that ends, another one gets it.

    The functions are called on the door's thread, must return at once and must not raise.

    Args:
        name: The name; on RabbitMQ that of a queue.
        on_joined: Called with whether this door holds it, once that is known; again after every reconnect, for a lost
            connection holds nothing.
        on_held: This door has waited for it and holds it now.
        on_word: Called with every word that is announced while this door takes part, its own ones included.
    """

    name: str
    on_joined: Callable[[bool], None]
    on_held: Callable[[], None]
    on_word: Callable[[str], None]


class Locks(Door, Protocol):
    """One connection that holds names, or waits for them."""

    def want(self, lock: Lock) -> None:
        """Take part from the next start on. Call before `start`."""

    def announce(self, name: str, word: str, done: Callable[[bool], None]) -> None:
        """Tell everybody who takes part a word, if this door holds the name; returns at once. Thread safe.

        Args:
            name: The name of a lock that this door wants.
            word: What to tell.
            done: Called once: with True, after this door's own ``on_word``, when the broker has handed the word out and
                this door held the name then; with False when it does not hold it. In the latter case `Lock.on_joined`
                or `Lock.on_held` has been called since, or will be when it does.
        """


class Broker(Protocol):
    """A broker as reached by one URI."""

    @property
    def description(self) -> str:
        """Where it is, for people and logs; never with a password."""

    @property
    def durable_after(self) -> float:
        """Seconds after which a durable queue that was declared survives that the broker is killed."""

    def consumer(self, name: str) -> Consumer:
        """A new consuming connection; ``name`` shows in thread names, logs and the broker's list of connections."""

    def publisher(self, name: str) -> Publisher:
        """A new publishing connection; ``name`` as in `consumer`."""

    def duplex(self, name: str) -> Duplex:
        """A new connection for both; ``name`` as in `consumer`."""

    def browser(self, name: str) -> Browser:
        """A new connection that looks into queues; ``name`` as in `consumer`."""

    def locks(self, name: str) -> Locks:
        """A new connection for locks; ``name`` as in `consumer`."""
