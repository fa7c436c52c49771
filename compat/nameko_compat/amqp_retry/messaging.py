"""``consume`` whose methods may raise `Backoff`."""

from nameko_compat import messaging
from nameko_compat.amqp_retry.backoff import Retried

__all__ = ["Consumer", "consume"]


class Consumer(Retried, messaging.Consumer):
    """As `nameko_compat.messaging.Consumer`."""


consume = Consumer.decorator
