"""The consuming door to the embedded broker."""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import current_thread

from micro_framework.brokers.memory.door import MemoryDoor, seconds_until
from micro_framework.brokers.memory.queues import Consumption, MemoryDelivery
from micro_framework.brokers.memory.server import MemoryServer
from micro_framework.brokers.port import Subscription
from micro_framework.exceptions import BrokerError

__all__ = ["MemoryConsumer"]

logger = logging.getLogger(__name__)


class MemoryConsumer(MemoryDoor):
    """A consuming connection (`micro_framework.brokers.port.Consumer`)."""

    kind = "consumer"

    def __init__(self, broker: object, server: MemoryServer, name: str) -> None:
        super().__init__(broker, server, name)
        self._subscriptions: list[Subscription] = []
        self._consumptions: list[Consumption] = []
        self._declared: set[str] = set()  # queues that were there once
        self._delivered: deque[tuple[Callable[[MemoryDelivery], None], MemoryDelivery]] = deque()
        self._calling = False  # whether the thread is in a callback
        self._cancelled = False

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue once started."""
        if self._thread is not None:
            raise BrokerError(f"{self} is started already; subscribe before start()")
        self._subscriptions.append(subscription)

    @property
    def ready(self) -> bool:
        return self._ready and not self._cancelled

    def counts(self, queue: str, deadline: float) -> bool:
        """No queue here does."""
        return False

    def cancel(self, deadline: float) -> None:
        """Stop receiving, once the callbacks have seen what was delivered before; what they have not goes back."""
        with self._changed:
            self._cancelled = True
            self._end_consumptions()
            if self._thread is not current_thread():
                self._changed.wait_for(lambda: not (self._calling or self._delivered), seconds_until(deadline))
            self._give_back_unseen()

    def _give_back_unseen(self) -> None:
        unseen = {delivery for _, delivery in self._delivered}
        self._delivered.clear()
        for consumption in self._consumptions:
            consumption.give_back(unseen)

    def regain_connection(self) -> None:
        """The broker is back; a cancelled consumer has nothing to come back for."""
        if not self._cancelled:
            self._connect()

    def _declare_everything(self) -> None:
        for subscription in self._subscriptions:
            self._declare(subscription)
        if not self._cancelled:
            self._consumptions = [self._consume(subscription) for subscription in self._subscriptions]

    def stop(self, deadline: float) -> None:
        """Give back what is not settled, delete what is of no use any more, and end the thread."""
        with self._changed:
            self._cancelled = True
            self._delete_own_queues()
        super().stop(deadline)

    def _delete_own_queues(self) -> None:
        if self._thread is None or self._stopped or self._refused:
            return  # whatever has these names is not ours
        for subscription in self._subscriptions:
            if subscription.delete_at_stop:
                self._server.delete_queue(subscription.queue.name)

    def _declare(self, subscription: Subscription) -> None:
        name = subscription.queue.name
        if subscription.on_lost is not None and name in self._declared and self._server.find_queue(name) is None:
            logger.warning("%s: queue %r was deleted or has expired; declaring it again", self, name)
            self._tell(subscription.on_lost)
        self._declared.add(name)
        if subscription.declare_exchanges:
            for binding in subscription.queue.bindings:
                self._server.declare_exchange(binding.exchange)
        self._server.declare_queue(subscription.queue, self)

    def _consume(self, subscription: Subscription) -> Consumption:
        def hand_over(delivery: MemoryDelivery) -> None:
            self._delivered.append((subscription.on_message, delivery))
            self._changed.notify_all()

        def consume_again() -> None:
            self._declare(subscription)
            self._consumptions.append(self._consume(subscription))

        def on_cancelled() -> None:
            if not (self._cancelled or self._stopped):
                self._attempt(consume_again)

        return self._server.consume(subscription.queue.name, subscription.prefetch, hand_over, on_cancelled)

    def _disconnect(self) -> None:
        self._delivered.clear()
        self._end_consumptions()
        for consumption in self._consumptions:
            consumption.give_everything_back()
        self._consumptions = []
        super()._disconnect()

    def _end_consumptions(self) -> None:
        # All of them before anything goes back, or one would get what the other gave.
        for consumption in self._consumptions:
            self._server.end_consumption(consumption)

    def _next_call(self) -> Callable[[], None] | None:
        with self._changed:
            self._calling = False
            self._changed.notify_all()
            while not (self._news or self._delivered):
                if self._stopped or self._refused:
                    return None
                self._changed.wait()
            self._calling = True
            if self._news:
                return self._news.popleft()
            on_message, delivery = self._delivered.popleft()
            return partial(on_message, delivery)
