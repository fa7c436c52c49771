"""`Errand`: what a command does with a broker: take messages, publish copies, and take nothing for good before that.

One connection takes, one publishes. A message is acknowledged once its copy is confirmed; whatever was only looked at
goes back, and if this process is killed, the broker puts it back.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from micro_framework.brokers.factory import broker_for
from micro_framework.brokers.port import Confirmation, Delivery, Door, DoorEvents, Publication, Verdict
from micro_framework.config import Settings
from micro_framework.exceptions import BrokerError, PublishError

__all__ = ["CONNECT_SECONDS", "Errand"]

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
WINDOW = 100
"""Messages that may wait for their confirms at once."""


class LastWarning(logging.Handler):
    """Remembers the last warning, to be told if it all comes to nothing."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a record."""
        self.text = record.getMessage()


class Errand:
    """See the module's text. A context manager; used by one thread.

    Args:
        settings: How to reach the broker, and ``PUBLISH_TIMEOUT``.
        name: What the connections are called.
        patience: Seconds that each may take to connect.
    """

    def __init__(self, settings: Settings, name: str, patience: float = CONNECT_SECONDS) -> None:
        self.patience = patience
        self.broker = broker_for(settings)
        self.seconds = settings.publish_timeout
        self.browser = self.broker.browser(name)
        self.publisher = self.broker.publisher(name)
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
            BrokerError: It took too long.
        """
        refusals: list[BrokerError] = []
        door.start(DoorEvents(on_refused=refusals.append))
        if door.wait_ready(time.monotonic() + self.patience):
            return
        # A door that is refused says so a moment after its waiting has ended.
        door.stop(time.monotonic() + CLOSE_SECONDS)
        if refusals:
            raise refusals[0]
        reason = f": {self.warning.text}" if self.warning.text else ""
        raise BrokerError(f"no connection to {self.broker.description} within {self.patience:g} s{reason}")

    def deadline(self) -> float:
        """When an answer is given up."""
        return time.monotonic() + self.seconds

    def release(self) -> None:
        """Put back what was only looked at, and wait until the broker has every verdict.

        Raises:
            BrokerError: The connection was lost, and some verdicts with it.
        """
        self.settle_under_way(0)
        self.browser.release(self.deadline())

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
