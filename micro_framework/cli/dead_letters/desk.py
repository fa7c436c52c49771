"""Where parked messages are looked at, replayed and dropped.

Nothing is taken for good before its copy is confirmed (`micro_framework.brokers.errand`), or before somebody said so.

A classic queue has its messages back in their places, whatever happens. A quorum queue may put what comes back behind
what was not taken, so all of it is always taken, and comes back in order. And it counts: RabbitMQ 4 drops a message
that came back 20 times, so before that it is parked anew, copy by copy.
"""

from collections.abc import Callable, Iterator

from micro_framework.brokers.errand import Errand
from micro_framework.brokers.port import Delivery, Publication, Verdict
from micro_framework.cli.dead_letters.choice import Choice
from micro_framework.cli.dead_letters.places import Place
from micro_framework.cli.errors import FailedError
from micro_framework.config import Settings
from micro_framework.exceptions import PublishError
from micro_framework.parking import Parked, read_parked, renewed_properties, replayed_properties, times_returned

__all__ = ["Desk", "Letter"]

WORN_OUT = 10
"""Times a message came back to a queue that counts, after which it is parked anew."""
LATE = 1000
"""Messages that a queue which counts may have beyond those that it knows of; it learns of them a moment later."""


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


class Desk(Errand):
    """See the module's text. A context manager; used by one thread.

    Args:
        settings: How to reach the broker, and ``PUBLISH_TIMEOUT``.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, "dead-letters")

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
