"""``event_handler`` whose methods may raise `Backoff`."""

from nameko_compat import events
from nameko_compat.amqp_retry.backoff import Retried

__all__ = ["EventHandler", "event_handler"]


class EventHandler(Retried, events.EventHandler):
    """As `nameko_compat.events.EventHandler`."""


event_handler = EventHandler.decorator
