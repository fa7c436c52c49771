"""Dispatching events from outside a service."""

from collections.abc import Callable, Mapping
from typing import Any

from kombu.entity import PERSISTENT_DELIVERY_MODE, Exchange

from micro_framework.exceptions import Unroutable
from micro_framework.standalone import EventProducer
from nameko_compat.amqp.publish import UndeliverableMessage
from nameko_compat.refusals import refuse_options
from nameko_compat.standalone.rpc import CONNECTION_OPTIONS
from nameko_compat.versions import chosen_config, split_config

__all__ = ["event_dispatcher", "get_event_exchange"]


def get_event_exchange(service_name: str, config: Mapping[str, Any] | None = None) -> Exchange:
    """The exchange that a service's events go to, as kombu's object.

    Args:
        service_name: The service.
        config: The configuration (2.x); None: ``nameko_compat.config`` (3.x).
    """
    chosen = chosen_config(config)
    return Exchange(  # type: ignore[no-untyped-call]
        f"{service_name}.events",
        type="topic",
        durable=True,
        delivery_mode=PERSISTENT_DELIVERY_MODE,
        auto_delete=bool(chosen.get("AUTO_DELETE_EVENT_EXCHANGES")),
        no_declare=chosen.get("DECLARE_EVENT_EXCHANGES") is False,
    )


def event_dispatcher(*args: Any, **options: Any) -> Callable[[str, str, Any], None]:
    """A function that dispatches events in the name of any service: ``dispatch(service_name, event_type, event_data)``.

    It holds a connection for each service that it speaks for. Thread safe.

    Args:
        args: In 2.x the configuration.
        options: ``use_confirms``, ``mandatory``; in 3.x also ``uri``, ``ssl``, ``login_method``, ``serializer``.
    """
    config, rest = split_config((options.pop("nameko_config"), *args) if "nameko_config" in options else args)
    if rest:
        raise TypeError(f"event_dispatcher() takes the configuration and keyword arguments, not {rest!r}")
    given = dict(config)
    given.update({key: options.pop(name) for name, key in CONNECTION_OPTIONS.items() if name in options})
    confirm, mandatory = bool(options.pop("use_confirms", True)), bool(options.pop("mandatory", False))
    refuse_options("event_dispatcher", options)
    producers: dict[str, EventProducer] = {}

    def dispatch(service_name: str, event_type: str, event_data: Any) -> None:
        producer = producers.get(service_name)
        if producer is None:
            fresh = EventProducer(service_name, given, confirm_publish=confirm, mandatory=mandatory)
            producer = producers.setdefault(service_name, fresh)
        try:
            producer(event_type, event_data)
        except Unroutable as error:
            raise UndeliverableMessage(*error.args) from error

    return dispatch
