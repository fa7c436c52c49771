"""Where parked messages are looked at, replayed and dropped: one connection that takes them, one that publishes.

Nothing is taken for good before its copy is confirmed, or before somebody said so. Whatever was only looked at goes
back; if this process is killed, the broker puts it back.

A classic queue has its messages back in their places, whatever happens. A quorum queue may put what comes back behind
what was not taken, so all of it is always taken, and comes back in order. And it counts: RabbitMQ 4 drops a message
that came back 20 times, so before that it is parked anew, copy by copy.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from micro_framework.brokers.factory import broker_for
from micro_framework.brokers.port import Confirmation, Delivery, Door, DoorEvents, Publication, Verdict
from micro_framework.cli.dead_letters.choice import Choice
from micro_framework.cli.dead_letters.places import Place
from micro_framework.cli.errors import FailedError
from micro_framework.config import Settings
from micro_framework.exceptions import BrokerError, PublishError
from micro_framework.parking import Parked, read_parked, renewed_properties, replayed_properties, times_returned

__all__ = ["Desk", "Letter"]

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
WORN_OUT = 10
"""Times a message came back to a queue that counts, after which it is parked anew."""
LATE = 1000
"""Messages that a queue which counts may have beyond those that it knows of; it learns of them a moment later."""
WINDOW = 100
"""Messages that may wait for their confirms at once."""


class Letter:
    """A parked message on the desk.

    Args:
        delivery: The message.
        parked: What its headers say.
    """

    def __init__(self, delivery: Delivery, parked: Parked) -> None:
        self.delivery = delivery
        self.parked = parked
        self.handled = False  # whether it is replayed or dropped, and so not to be put back


def is_worn_out(delivery: Delivery) -> bool:
    """Whether a message came back so often that it must be parked anew."""
    return (times_returned(delivery.headers) or 0) >= WORN_OUT


class LastWarning(logging.Handler):
    """Remembers the last warning, to be told if it all comes to nothing."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a record."""
        self.text = record.getMessage()


class Desk:
    """See the module's text. A context manager; used by one thread.

    Args:
        settings: How to reach the broker, and ``PUBLISH_TIMEOUT``.
    """

    def __init__(self, settings: Settings) -> None:
        self.broker = broker_for(settings)
        self.seconds = settings.publish_timeout
        self.browser = self.broker.browser("dead-letters")
        self.publisher = self.broker.publisher("dead-letters")
        self.publishing = False
        self.under_way: deque[tuple[Confirmation, Callable[[PublishError | None], None]]] = deque()
        self.warning = LastWarning()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self.warning)
        try:
            self.open(self.browser)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; what was only looked at goes back."""
        self.publisher.stop(time.monotonic() + CLOSE_SECONDS)
        self.browser.stop(time.monotonic() + CLOSE_SECONDS)
        logging.getLogger().removeHandler(self.warning)

    def open(self, door: Door) -> None:
        """Connect.

        Raises:
            BrokerRefused: The broker gave an answer that will not change.
            FailedError: Not within ten seconds.
        """
        refusals: list[BrokerError] = []
        door.start(DoorEvents(on_refused=refusals.append))
        if door.wait_ready(time.monotonic() + CONNECT_SECONDS):
            return
        # A door that is refused says so a moment after its waiting has ended.
        door.stop(time.monotonic() + CLOSE_SECONDS)
        if refusals:
            raise refusals[0]
        reason = f": {self.warning.text}" if self.warning.text else ""
        raise FailedError(f"no connection to {self.broker.description} within {CONNECT_SECONDS:g} s{reason}")

    def deadline(self) -> float:
        """When an answer is given up."""
        return time.monotonic() + self.seconds

    # Looking

    def letters(self, place: Place, choice: Choice, limit: int | None = None) -> Iterator[Letter]:
        """The messages that are meant, the one that was parked first first; at most so many of them.

        What waits there now is looked at once. What is not handled when the next one is asked for goes back at the end.

        Raises:
            FailedError: The queue was named, and neither it nor the one beside it exists.
            BrokerError: No answer.
        """
        left = limit
        worn_out: dict[Delivery, None] = {}
        for delivery in self.deliveries(place, all_of_them=limit is None):
            if is_worn_out(delivery) or worn_out:
                worn_out[delivery] = None
            letter = self.letter_for(delivery, choice) if left != 0 else None
            if letter is not None:
                left = None if left is None else left - 1
                yield letter
                if letter.handled:
                    worn_out.pop(delivery, None)
            if left == 0 and times_returned(delivery.headers) is None:
                return
        for delivery in worn_out:
            self.renew(delivery)

    def deliveries(self, place: Place, *, all_of_them: bool) -> Iterator[Delivery]:
        """What waits in a queue now, in order; all of it is taken first where the queue counts what comes back.

        Args:
            place: The queue.
            all_of_them: Whether all will be asked for, so that none is taken in vain.
        """
        if not self.exists(place) or (first := self.take(place)) is None:
            return
        # In this order: what others gave back just now is known to the queue once it has given the first one.
        others = self.browser.count(place.queue, self.deadline()) or 0
        if times_returned(first.headers) is None:
            yield first
            yield from self.taken(place, others, ahead=all_of_them)
        else:
            yield from [first, *self.taken(place, others + LATE, ahead=True)]

    def taken(self, place: Place, most: int, *, ahead: bool) -> Iterator[Delivery]:
        """Messages of a queue, until it is empty, at most so many; several at once if they may be taken beforehand."""
        for left in reversed(range(most)):
            if (delivery := self.take(place, left if ahead else 0)) is None:
                return
            yield delivery

    def take(self, place: Place, ahead: int = 0) -> Delivery | None:
        """The first message of a queue; None where none waits."""
        return self.browser.get(place.queue, self.deadline(), ahead)

    def letter_for(self, delivery: Delivery, choice: Choice) -> Letter | None:
        """A message that is meant; None for others, and for what was not parked by us."""
        parked = read_parked(delivery.headers)
        return Letter(delivery, parked) if parked is not None and choice.takes(parked) else None

    def exists(self, place: Place) -> bool:
        """Whether a queue is there; it is not where nothing has been parked yet.

        Raises:
            FailedError: It was named, and the one beside it is not there either.
        """
        if self.browser.count(place.queue, self.deadline()) is not None:
            return True
        if place.named and self.browser.count(place.named, self.deadline()) is None:
            what = f"{place.queue!r}" if place.named == place.queue else f"{place.named!r}, and no {place.queue!r}"
            raise FailedError(f"there is no queue {what} in {self.broker.description}; is the name right?")
        return False

    def release(self) -> None:
        """Put back what was only looked at, and wait until the broker has every verdict.

        Raises:
            BrokerError: The connection was lost, and some verdicts with it.
        """
        self.settle_under_way(0)
        self.browser.release(self.deadline())

    # Handling

    def replay(self, letter: Letter, done: Callable[[PublishError | None], None]) -> None:
        """Publish a message to the queue it failed in, with its attempts beginning anew; drop it here once confirmed.

        Args:
            letter: The message.
            done: Told what became of it, at the latest by `release`; None: it is there.
        """
        letter.handled = True
        body, parked = letter.delivery.body, letter.parked
        properties = replayed_properties(letter.delivery.properties, parked)
        publication = Publication("", parked.queue, body, properties, mandatory=True)
        self.publish(publication, letter.delivery, done)

    def renew(self, delivery: Delivery) -> None:
        """Park a message anew: publish it to the queue it is in, and drop this one once confirmed."""
        properties = renewed_properties(delivery.properties)
        publication = Publication("", delivery.queue, delivery.body, properties, mandatory=True)
        self.publish(publication, delivery, lambda error: None)

    def drop(self, letter: Letter) -> None:
        """Drop a message for good."""
        letter.handled = True
        letter.delivery.settle(Verdict.ACK)

    def publish(
        self, publication: Publication, original: Delivery, done: Callable[[PublishError | None], None]
    ) -> None:
        """Publish, and acknowledge the original once confirmed; else it is put back by `release`."""
        if not self.publishing:
            self.publishing = True
            self.open(self.publisher)

        def confirmed(error: PublishError | None) -> None:
            if error is None:
                original.settle(Verdict.ACK)
            done(error)

        self.under_way.append((self.publisher.publish(publication), confirmed))
        self.settle_under_way(WINDOW)

    def settle_under_way(self, most: int) -> None:
        """Wait for confirms, the oldest first, until at most so many are left."""
        deadline = self.deadline()
        while len(self.under_way) > most:
            confirmation, confirmed = self.under_way.popleft()
            try:
                confirmation.wait(deadline)
            except PublishError as error:
                confirmed(error)
            else:
                confirmed(None)
