"""The other side of RPC, message by message: a caller that sends raw requests, a service that answers by hand."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import kombu

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import Delivery, Publication
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import RPC_EXCHANGE, Binding, Queue, rpc_exchange, rpc_queue
from tests.outside import JSON, Outside

NO_ARGUMENTS: Mapping[str, Any] = {"args": [], "kwargs": {}}


class RawCaller:
    """Sends requests as it likes, and gets the replies as they are.

    Args:
        outside: Its connections.
        exchange: The exchange for RPC.
    """

    def __init__(self, outside: Outside, exchange: str = RPC_EXCHANGE) -> None:
        self.outside = outside
        self.exchange = exchange
        self.key = str(uuid4())
        binding = Binding(rpc_exchange(exchange), self.key)
        self.inbox, _ = outside.doors.consuming(Queue(f"raw-{self.key}", bindings=(binding,)))

    def send(self, target: str, body: Any = NO_ARGUMENTS, **properties: Any) -> None:
        """Send a request.

        Args:
            target: Its routing key, ``service.method``.
            body: Bytes as they are, anything else as JSON.
            properties: ``headers``, ``content_type`` and all others; by default there is a way back.
        """
        given = {"correlation_id": "cid-1", "reply_to": self.key, **properties}
        self.outside.send(body, to=self.exchange, key=target, **given)

    def call(self, target: str, *args: Any, **kwargs: Any) -> None:
        """Send an ordinary request."""
        self.send(target, {"args": args, "kwargs": kwargs})

    def next(self) -> Delivery:
        """The next reply."""
        return self.inbox.next()

    def answer(self) -> dict[str, Any]:
        """The body of the next reply."""
        found: dict[str, Any] = json.loads(self.next().body)
        return found

    def ask(self, target: str, body: Any = NO_ARGUMENTS, **properties: Any) -> dict[str, Any]:
        """Send a request and get the body of the reply."""
        self.send(target, body, **properties)
        return self.answer()

    def result(self, target: str, *args: Any, **kwargs: Any) -> Any:
        """What an ordinary call returns."""
        self.call(target, *args, **kwargs)
        answer = self.answer()
        assert answer["error"] is None, answer
        return answer["result"]

    def error(self, target: str, body: Any = NO_ARGUMENTS, **properties: Any) -> tuple[str, str]:
        """Class and text of the error that a request is answered with."""
        answer = self.ask(target, body, **properties)
        assert list(answer) == ["result", "error"]
        assert answer["result"] is None
        return answer["error"]["exc_type"], answer["error"]["value"]


class RawService:
    """Takes the requests of a service and answers as it is told.

    Args:
        outside: Its connections.
        name: The service's name.
    """

    def __init__(self, outside: Outside, name: str) -> None:
        self.outside = outside
        self.inbox, self.consumer = outside.doors.consuming(rpc_queue(name, rpc_exchange()))

    def next(self) -> Delivery:
        """The next request."""
        return self.inbox.next()

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the next request."""
        body = json.loads(self.next().body)
        return body["args"], body["kwargs"]

    def reply(self, request: Delivery, body: Any, *, content_type: str | None = JSON) -> None:
        """Answer a request; what is not bytes is encoded as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = request.properties
        properties = Properties(content_type, "utf-8", {}, 2, correlation_id=asked.correlation_id)
        assert asked.reply_to is not None
        self.outside.doors.send(Publication(RPC_EXCHANGE, asked.reply_to, raw, properties))

    def answer(self, result: Any = None, error: Any = None) -> Delivery:
        """Answer the next request."""
        request = self.next()
        self.reply(request, {"result": result, "error": error})
        return request


def delete_queue(uri: str, name: str) -> None:
    """Delete a queue under its consumers, as an operator would."""
    if uri.startswith("memory://"):
        MemoryBroker.named(uri).delete_queue(name)
    else:
        with kombu.Connection(uri) as connection:
            connection.channel().queue_delete(name)


def break_connections(uri: str, vhost: VHost | None) -> None:
    """Break every connection to a broker, which stays; the clients come back by themselves."""
    if vhost is None:
        MemoryBroker.named(uri).drop_connections()
    else:
        vhost.wait_for(lambda _: vhost.connections(), what="the connections to be listed")
        vhost.close_connections()
