"""A message as it came from RabbitMQ; built on the reading thread, decoded on the worker's."""

from collections.abc import Mapping
from typing import Any, Protocol

from micro_framework.brokers.port import Verdict
from micro_framework.brokers.rabbitmq.frames import short_string_at, short_string_behind, unpack_properties
from micro_framework.wire.messages import Properties

__all__ = ["RabbitMQDelivery", "Settling"]


class Settling(Protocol):
    """The generation of the channel that a delivery came by."""

    def settle(self, tag: int, verdict: Verdict) -> None:
        """Take a verdict; never waits, does nothing if the channel is gone."""


class RabbitMQDelivery:
    """One delivery (`micro_framework.brokers.port.Delivery`). Thread safe as far as the port asks.

    Args:
        channel: Who takes the verdict.
        tag: Its delivery tag.
        redelivered: Whether the broker delivered it before.
        queue: The queue's name.
        method: The payload of ``basic.deliver``.
        names_at: Where in it the exchange's name begins.
        header: The payload of the content header.
        body: The raw body.
    """

    __slots__ = ("_channel", "_header", "_method", "_names_at", "_properties", "_tag", "body", "queue", "redelivered")

    def __init__(
        self,
        channel: Settling,
        tag: int,
        redelivered: bool,
        queue: str,
        method: bytes,
        names_at: int,
        header: bytes,
        body: bytes,
    ) -> None:
        self._channel = channel
        self._tag = tag
        self.redelivered = redelivered
        self.queue = queue
        self._method = method
        self._names_at = names_at
        self._header = header
        self.body = body
        self._properties: Properties | None = None

    @property
    def properties(self) -> Properties:
        found = self._properties
        if found is None:
            found = self._properties = unpack_properties(self._header)
        return found

    @property
    def content_type(self) -> str | None:
        return (self._properties or self.properties).content_type

    @property
    def content_encoding(self) -> str | None:
        return (self._properties or self.properties).content_encoding

    @property
    def headers(self) -> Mapping[str, Any]:
        return (self._properties or self.properties).headers

    @property
    def exchange(self) -> str:
        return short_string_at(self._method, self._names_at)[0].decode("utf-8", "surrogateescape")

    @property
    def routing_key(self) -> str:
        return short_string_behind(self._method, self._names_at).decode("utf-8", "surrogateescape")

    def settle(self, verdict: Verdict) -> None:
        self._channel.settle(self._tag, verdict)

    def __repr__(self) -> str:
        return f"<delivery {self._tag} from queue {self.queue!r}, {len(self.body)} bytes>"
