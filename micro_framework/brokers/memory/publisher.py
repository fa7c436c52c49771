"""The publishing door to the embedded broker, and its answers."""

from collections.abc import Callable, Sequence
from functools import partial

from micro_framework.brokers.memory.door import MemoryDoor
from micro_framework.brokers.memory.messages import delayed_message, published_message
from micro_framework.brokers.memory.queues import Message
from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.brokers.port import Publication
from micro_framework.exceptions import BrokerRefused, PublishError, UnknownExchange
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["KnownOutcome", "MemoryPublisher"]


class KnownOutcome:
    """The answer to a publish, known from the start (`micro_framework.brokers.port.Confirmation`).

    Args:
        error: Why the message was not delivered, None when it was.
    """

    __slots__ = ("_error",)
    written = True

    def __init__(self, error: PublishError | None) -> None:
        self._error = error

    def wait(self, deadline: float) -> None:
        if self._error is not None:
            raise self._error

    def add_done_callback(self, callback: Callable[[BaseException | None], None]) -> None:
        callback(self._error)


class MemoryPublisher(MemoryDoor):
    """A publishing connection (`micro_framework.brokers.port.Publisher`)."""

    kind = "publisher"

    def __init__(self, broker: object, server: MemoryServer, name: str) -> None:
        super().__init__(broker, server, name)
        self._exchanges: list[Exchange] = []
        self._queues: list[Queue] = []
        self._ensured: list[Queue] = []

    def declare(self, exchanges: Sequence[Exchange] = (), queues: Sequence[Queue] = ()) -> None:
        """Declare now if started, and whenever the connection comes back."""
        with self._changed:
            self._exchanges += exchanges
            self._queues += queues
            if self._ready:
                self._attempt(partial(self._declare_all, exchanges, queues))

    def ensure(self, queue: Queue, deadline: float) -> None:
        """Have a queue exist, whatever its flags.

        Raises:
            PublishError: It asks for what the embedded broker does not have.
        """
        with self._changed:
            if self._thread is None:
                self._ensured.append(queue)
            elif self._ready:
                try:
                    self._server.ensure_queue(queue, self)
                except BrokerRefused as refusal:
                    raise PublishError(f"queue {queue.name!r} cannot be declared: {refusal}") from refusal

    def publish(self, publication: Publication, *, confirm: bool = True, more: bool = False) -> KnownOutcome:
        """Put a message into every queue that takes it; the answer is known at once.

        Raises:
            PublishError: The publisher is not started, or not any more.
        """
        put = partial(self._put, mandatory=publication.mandatory)
        outcome = self._hand_in(lambda: published_message(publication), put)
        return outcome if confirm else KnownOutcome(None)

    def delay(
        self, publication: Publication, *, queue: str, delay: int, exchange: str = "", routing_key: str | None = None
    ) -> KnownOutcome:
        """Have a message come back to a queue after ``delay`` milliseconds.

        Raises:
            PublishError: The publisher is not started, or not any more.
            ValueError: The delay is negative.
        """
        if delay < 0:
            raise ValueError(f"delay must be 0 or more milliseconds, not {delay}")
        key = queue if routing_key is None else routing_key
        schedule = partial(self._server.delay, queue=queue, milliseconds=delay)
        return self._hand_in(lambda: delayed_message(publication, exchange, key), schedule)

    def expect_delays(
        self, queue: Queue, delays: Sequence[int], *, exchange: str = "", routing_key: str | None = None
    ) -> None:
        """Nothing needs to be prepared here."""

    def _put(self, message: Message, *, mandatory: bool) -> PublishError | None:
        """Publish; an exchange of ours that is gone (auto-deleted with its last queue) is declared again first."""
        outcome = self._server.publish(message, mandatory=mandatory)
        if isinstance(outcome, UnknownExchange) and any(each.name == message.exchange for each in self._exchanges):
            self._declare_all(self._exchanges, self._queues)
            outcome = self._server.publish(message, mandatory=mandatory)
        return outcome

    def _hand_in(self, make: Callable[[], Message], put: Callable[[Message], PublishError | None]) -> KnownOutcome:
        try:
            message = make()
        except PublishError as error:
            return KnownOutcome(error)
        with self._changed:
            if not self._ready:
                raise PublishError(f"{self} cannot publish: {self._why_not_ready()}")
            return KnownOutcome(put(message))

    def _why_not_ready(self) -> str:
        if self._refused:
            return "the broker refused what it declares, see the log"
        return "it was stopped" if self._stopped else "call start() first"

    def _declare_everything(self) -> None:
        self._declare_all(self._exchanges, self._queues)
        for queue in self._ensured:
            self._server.ensure_queue(queue, self)

    def _declare_all(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        for exchange in exchanges:
            self._server.declare_exchange(exchange)
        for queue in queues:
            for binding in queue.bindings:
                self._server.declare_exchange(binding.exchange)
            self._server.declare_queue(queue, self)
