"""``event_handler`` and `EventDispatcher`."""

import uuid
from collections.abc import Callable
from typing import Any

from micro_framework.wire.naming import event_exchange
from nameko_compat.adapters import EventAdapter
from nameko_compat.messaging import Consumer, MessagePublisher, Publisher
from nameko_compat.workers import RunningContext

__all__ = [
    "BROADCAST",
    "SERVICE_POOL",
    "SINGLETON",
    "EventDispatcher",
    "EventHandler",
    "EventHandlerConfigurationError",
    "event_handler",
]

SERVICE_POOL = "service_pool"
"""One instance of each service gets the event."""
SINGLETON = "singleton"
"""One instance of any service gets it."""
BROADCAST = "broadcast"
"""Every instance gets it."""


class EventHandlerConfigurationError(Exception):
    """An event handler is declared with options that do not go together."""


class EventDispatcher(Publisher):
    """Gives a function that dispatches events of this service: ``dispatch(event_type, event_data)``.

    Args:
        options: As `Publisher`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def target_exchange(self) -> Any:
        """The service's event exchange; its name alone where its declaration is left to others."""
        config = self.container.config
        auto_delete = bool(config.get("AUTO_DELETE_EVENT_EXCHANGES"))
        exchange = event_exchange(self.container.service_name, auto_delete=auto_delete)
        return exchange.name if config.get("DECLARE_EVENT_EXCHANGES") is False else exchange

    def get_dependency(self, worker_ctx: Any) -> Callable[..., None]:
        """The function that dispatches."""
        publish = MessagePublisher(self.part.get_dependency(RunningContext(worker_ctx)), self.defaults)

        def dispatch(event_type: str, event_data: Any) -> None:
            publish(event_data, routing_key=event_type)

        return dispatch


class EventHandler(Consumer):
    """Calls the method for events.

    Args:
        source_service: The service that dispatches the event.
        event_type: The event.
        handler_type: `SERVICE_POOL`, `SINGLETON` or `BROADCAST`.
        reliable_delivery: Whether events wait while no instance runs. A broadcast needs an identifier of its own for
            that: subclass, with ``broadcast_identifier``.
        requeue_on_error: Put an event whose call failed back at once, for ever.
        options: As `Consumer`.
    """

    def __init__(
        self,
        source_service: str,
        event_type: str,
        handler_type: str = SERVICE_POOL,
        reliable_delivery: bool = True,
        requeue_on_error: bool = False,
        **options: Any,
    ) -> None:
        self.source_service = source_service
        self.event_type = event_type
        self.handler_type = handler_type
        self.reliable_delivery = reliable_delivery
        super().__init__(queue=None, requeue_on_error=requeue_on_error, **options)

    @property
    def broadcast_identifier(self) -> Any:
        """What tells the queues of a broadcast's instances apart; a new one at each start, unless overridden.

        Raises:
            EventHandlerConfigurationError: Events could not wait for an instance that is called another name next time.
        """
        if self.handler_type == BROADCAST and self.reliable_delivery:
            raise EventHandlerConfigurationError(
                "a broadcast with reliable delivery needs a broadcast_identifier that stays the same: override it in a "
                "subclass of EventHandler, or say reliable_delivery=False"
            )
        return uuid.uuid4().hex

    def route_entrypoint(self) -> Any:
        """What consumes."""
        adapter = EventAdapter(
            self.source_service,
            self.event_type,
            handler_type=self.handler_type,
            reliable_delivery=bool(self.reliable_delivery),
            broadcast_identifier=self.broadcast_identifier if self.handler_type == BROADCAST else None,
            requeue_on_error=self.requeue_on_error,
        )
        adapter.prefetch = self.prefetch_count
        return adapter


event_handler = EventHandler.decorator
