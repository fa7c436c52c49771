"""``consume`` and `Publisher`: any queue, any exchange."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kombu.entity import Exchange, Queue

from micro_framework import extensions as own
from micro_framework.amqp.dependencies import Publish, Publisher as OwnPublisher
from micro_framework.exceptions import Unroutable
from micro_framework.wire.headers import decode_context, encode_context
from nameko_compat.absent import refusing
from nameko_compat.adapters import QueueAdapter
from nameko_compat.amqp.publish import UndeliverableMessage
from nameko_compat.constants import CALL_ID_STACK_CONTEXT_KEY, HEADER_PREFIX
from nameko_compat.extensions import DependencyProvider, Entrypoint
from nameko_compat.refusals import refuse_options
from nameko_compat.workers import RunningContext

__all__ = [
    "Consumer",
    "HeaderDecoder",
    "HeaderEncoder",
    "MessagePublisher",
    "Publisher",
    "consume",
    "decode_from_headers",
    "encode_to_headers",
]

PUBLISH_OPTIONS = ("mandatory", "expiration", "priority", "delivery_mode", "serializer", "headers")
"""What can be given for all messages or for one."""


class MessagePublisher:
    """Publishes with the context data of one call: ``publish(payload, routing_key=...)``.

    Args:
        publish: micro_framework's.
        defaults: Options for all messages.
    """

    def __init__(self, publish: Publish, defaults: Mapping[str, Any]) -> None:
        self.publish = publish
        self.defaults = defaults

    def __call__(self, payload: Any, **options: Any) -> None:
        """Publish one message.

        Args:
            payload: What to send.
            options: ``exchange`` (a name or kombu's), ``routing_key``, and those of `PUBLISH_OPTIONS`.

        Raises:
            PublishError: It was not, or perhaps not, delivered; `UndeliverableMessage` where no queue is bound.
            NotImplementedError: An option is not there.
        """
        exchange = options.pop("exchange", None)
        routing_key = options.pop("routing_key", None)
        headers = {**(self.defaults.get("headers") or {}), **(options.pop("headers", None) or {})}
        own_options = {name: options.pop(name) for name in PUBLISH_OPTIONS if name in options}
        refuse_options("publish()", options)
        merged = {**self.defaults, **own_options, "headers": headers or None}
        name = getattr(exchange, "name", exchange)
        try:
            self.publish(payload, routing_key, exchange=name, **merged)
        except Unroutable as error:
            raise UndeliverableMessage(*error.args) from error


class Publisher(DependencyProvider):
    """Gives a function that publishes.

    Args:
        exchange: kombu's ``Exchange``, declared at the start; None: the default exchange.
        declare: Further exchanges and queues to declare.
        options: ``routing_key``, ``use_confirms``, and those of `PUBLISH_OPTIONS`, for all messages.
    """

    part: Any

    def __init__(
        self,
        exchange: Exchange | None = None,
        declare: Sequence[Exchange | Queue] | None = None,
        queue: Queue | None = None,
        **options: Any,
    ) -> None:
        self.declare: list[Any] = list(declare or ())
        if queue is not None:  # deprecated in 2.x: the queue stands for its exchange and for a declaration
            self.declare.append(queue)
            exchange = exchange or queue.exchange
        self.exchange = exchange
        self.options = dict(options)
        rest = dict(options)
        self.routing_key = rest.pop("routing_key", "")
        self.confirms = bool(rest.pop("use_confirms", True))
        self.defaults = {name: rest.pop(name) for name in PUBLISH_OPTIONS if name in rest}
        refuse_options(type(self).__name__, rest)

    def parts(self) -> Mapping[str, own.Extension]:
        """What publishes."""
        exchange = self.target_exchange()
        part = OwnPublisher(exchange, self.routing_key, declare=self.declare, confirm_publish=self.confirms)
        return {"part": part}

    def described(self) -> dict[str, Any]:
        """Where messages go."""
        return {**self.part.described(), **super().described()}

    def target_exchange(self) -> Any:
        """Where messages go."""
        return self.exchange

    def get_dependency(self, worker_ctx: Any) -> Callable[..., None]:
        """The function that publishes."""
        return MessagePublisher(self.part.get_dependency(RunningContext(worker_ctx)), self.defaults)


class Consumer(Entrypoint):
    """Calls the method for every message of a queue.

    Args:
        queue: kombu's ``Queue``, declared as it is.
        requeue_on_error: Put a message whose call failed back at once, for ever.
        options: ``expected_exceptions``, ``sensitive_arguments``; of 3.x's consumer options ``prefetch_count``.
    """

    not_called = ("handle_message", "handle_message_processed", "handle_result")

    def __init__(self, queue: Any, requeue_on_error: bool = False, **options: Any) -> None:
        self.queue = queue
        self.requeue_on_error = requeue_on_error
        self.prefetch_count: int | None = options.pop("prefetch_count", None)
        of_entrypoint = ("expected_exceptions", "sensitive_arguments", "sensitive_variables")
        refuse_options(type(self).__name__, {key: options[key] for key in options if key not in of_entrypoint})
        super().__init__(**options)

    def route_entrypoint(self) -> Any:
        """What consumes."""
        adapter = QueueAdapter(self.queue, requeue_on_error=self.requeue_on_error)
        adapter.prefetch = self.prefetch_count
        return adapter


consume = Consumer.decorator


def encode_to_headers(context_data: Mapping[str, Any], prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """Context data as headers (3.x)."""
    if prefix != HEADER_PREFIX:
        return {f"{prefix}.{key}": value for key, value in context_data.items() if value is not None}
    return encode_context(context_data)


def decode_from_headers(headers: Mapping[str, Any], prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """Context data from headers, with the call id stack (3.x)."""
    if prefix != HEADER_PREFIX:
        return {key.removeprefix(f"{prefix}."): value for key, value in headers.items()}
    context, stack = decode_context(headers)
    return {**context, CALL_ID_STACK_CONTEXT_KEY: list(stack)} if stack else context


class HeaderEncoder:
    """Context data as headers (2.x)."""

    header_prefix = HEADER_PREFIX

    def get_message_headers(self, worker_ctx: Any) -> dict[str, Any]:
        """The headers of what a call sends."""
        return encode_to_headers(worker_ctx.context_data, self.header_prefix)


class HeaderDecoder:
    """Context data from headers (2.x)."""

    header_prefix = HEADER_PREFIX

    def unpack_message_headers(self, message: Any) -> dict[str, Any]:
        """The context data of a message."""
        return decode_from_headers(message.headers, self.header_prefix)


__getattr__ = refusing(__name__)
