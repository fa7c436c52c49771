"""``micro-framework routes --format asyncapi``: what services receive and send, as an AsyncAPI 3.0 document.

Channels are routing keys of exchanges, queues, and the WebSocket port; operations are the targets, and the dependencies
that send. Payloads are described by the type hints of the targets. What nothing is known of takes everything.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from micro_framework.amqp.dependencies import Producer, Publisher, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, MessageListener, RPCListener
from micro_framework.assembly import dependencies_of
from micro_framework.brokers.serializers import Serializers
from micro_framework.config.uris import split_hosts
from micro_framework.schemas import DEFINITIONS, Schema, Schemas, arguments_schema, parameters_of, result_hint
from micro_framework.websocket.entrypoints import WebSocketListener
from micro_framework.wire.naming import BROADCAST, Exchange, Queue, event_exchange, rpc_exchange, rpc_queue

if TYPE_CHECKING:
    from micro_framework.assembly import Assembly
    from micro_framework.config import Settings
    from micro_framework.routes import BoundRoute

__all__ = ["VERSION", "document"]

VERSION = "3.0.0"
BINDING = {"bindingVersion": "0.3.0"}
"""Of AsyncAPI's binding for AMQP."""

STANDARD_TYPES = ("topic", "direct", "fanout", "headers")

not_plain = re.compile(r"[^A-Za-z0-9_.-]")

ERROR: Schema = {
    "type": "object",
    "description": "What a target raised; no traceback.",
    "properties": {
        "exc_type": {"type": "string", "description": "the class of the error"},
        "exc_path": {"type": "string", "description": "its module and name"},
        "exc_args": {"type": "array", "description": "its arguments, as texts"},
        "value": {"description": "its text"},
    },
    "required": ["exc_type", "exc_path", "exc_args", "value"],
}

CONTEXT: Schema = {
    "type": "object",
    "description": "Context data: every header that starts with nameko. is passed on with what the call sends.",
    "properties": {
        "nameko.call_id_stack": {
            "type": "array",
            "items": {"type": "string"},
            "description": "ids of the calls that led here, oldest first",
        }
    },
}


def document(assembly: "Assembly", settings: "Settings", *, broker_is_named: bool = True) -> dict[str, Any]:
    """The document of everything in an assembly.

    Args:
        assembly: Of a runner that need not be started.
        settings: Its configuration.
        broker_is_named: Whether ``AMQP_URI`` is the user's own; else no server is named.
    """
    found = Document(settings)
    for route in assembly.routes:
        found.receive(route)
    for route in assembly.routes:
        found.send(route)
    return found.finished(assembly.routes, broker_is_named=broker_is_named)


class Document:
    """An AsyncAPI document in the making. Not shared between threads.

    Args:
        settings: The configuration.
    """

    def __init__(self, settings: "Settings") -> None:
        self.settings = settings
        self.schemas = Schemas("plain" if settings.json_types == "plain" else "tagged")
        # Browsers get text, whatever JSON_TYPES says.
        self.frames = Schemas("plain", self.schemas.definitions, suffix=".websocket")
        self.channels: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.places: dict[tuple[object, ...], str] = {}
        self.sent: set[tuple[str, str]] = set()
        self.serves_websocket = False

    # What is received

    def receive(self, route: "BoundRoute") -> None:
        """Add what drives a route; timers and what is not the framework's own are driven by no message."""
        entrypoint: Any = route.entrypoint
        if isinstance(entrypoint, RPCListener):
            self.receive_requests(route)
        elif isinstance(entrypoint, WebSocketListener):
            self.receive_commands(route)
        elif isinstance(entrypoint, EventListener):
            self.receive_events(route, entrypoint)
        elif isinstance(entrypoint, MessageListener):
            self.receive_messages(route, entrypoint)

    def receive_events(self, route: "BoundRoute", listener: EventListener) -> None:
        """Add a handler of events."""
        queue = stable_queue(listener)
        (binding,) = queue.bindings
        channel = self.channel_of(
            binding.exchange, binding.routing_key, f"{listener.source_service}.{binding.routing_key}"
        )
        message = self.message_in(channel, name_of(route), self.payload_of(route))
        self.operate(route, name_of(route), channel, [message], {"x-queue": described_queue(queue)})

    def receive_messages(self, route: "BoundRoute", listener: MessageListener) -> None:
        """Add a consumer of a queue."""
        queue = listener.queue()
        about = described_queue(queue)
        shown = {key: about[key] for key in ("name", "durable", "exclusive", "autoDelete")}
        channel = self.channel(
            ("queue", queue.name), queue.name, queue.name, {"amqp": {"is": "queue", "queue": shown, **BINDING}}
        )
        message = self.message_in(channel, name_of(route), self.payload_of(route))
        self.operate(route, name_of(route), channel, [message], {"x-queue": about})

    def payload_of(self, route: "BoundRoute") -> Schema:
        """The schema of what a target gets as payload; unknown where a translator makes it of something else."""
        if route.entrypoint.translators or route.plan.translators:  # type: ignore[attr-defined]  # of a MessageListener
            return {}
        parameters = route_parameters(route)
        return self.schemas.of(parameters[0].hint) if parameters else {}

    def receive_requests(self, route: "BoundRoute") -> None:
        """Add an RPC method, with its replies."""
        described = route.entrypoint.described()
        exchange = rpc_exchange(self.settings.rpc_exchange)
        key = described["routing_key"]
        channel = self.channel_of(exchange, key, key)
        args, kwargs, both = self.arguments_of(route, self.schemas)
        payload = of_call({"args": args, "kwargs": kwargs}, ["args", "kwargs"], both)
        request = self.message_in(channel, "request", payload, correlationId=correlated())
        replies = self.channel(("replies", key), f"{key}.reply", None, self.binding_of(exchange))
        result = self.message_in(
            replies, "result", self.reply_of("result", "error", route, self.schemas), headers=False
        )
        error = self.message_in(replies, "error", raised("result", "error"), headers=False)
        for each in ("result", "error"):
            self.channels[replies]["messages"][each]["correlationId"] = correlated()
        reply = {
            "address": {"location": "$message.header#/reply_to", "description": "the property reply_to, a routing key"},
            "channel": channel_reference(replies),
            "messages": [result, error],
        }
        queue = rpc_queue(route.service, exchange)
        about = {**described_queue(queue), "name": described["queue"], "bindings": bindings_of(described)}
        self.operate(route, name_of(route), channel, [request], {"reply": reply, "x-queue": about})

    def receive_commands(self, route: "BoundRoute") -> None:
        """Add a WebSocket method, with its replies."""
        self.serves_websocket = True
        channel = self.channel(("websocket",), "websocket", "/", {"ws": {"method": "GET", "bindingVersion": "0.1.0"}})
        self.channels[channel]["servers"] = [{"$ref": "#/servers/websocket"}]
        args, kwargs, _ = self.arguments_of(route, self.frames)
        name = route.method
        identifier: Schema = {"description": "of the caller's own choice; the reply has the same"}
        fields = {"command": {"const": name}, "command_args": args, "command_kwargs": kwargs, "id": identifier}
        command = self.message_in(channel, name, of_call(fields, ["command"], []), headers=False)
        answers = {
            "result": self.reply_of("data", "exception", route, self.frames),
            "error": raised("data", "exception"),
        }
        for payload in answers.values():
            payload["properties"]["id"] = identifier
        messages = [
            self.message_in(channel, f"{name}.{kind}", payload, headers=False) for kind, payload in answers.items()
        ]
        reply = {"channel": channel_reference(channel), "messages": messages}
        self.operate(route, f"{name_of(route)}.websocket", channel, [command], {"reply": reply})

    def arguments_of(self, route: "BoundRoute", schemas: Schemas) -> tuple[Schema, Schema, list[Schema]]:
        """The schemas of a target's arguments; translators of the route may change them, so then nothing is known."""
        if route.plan.translators:
            return {"type": "array"}, {"type": "object"}, []
        return arguments_schema(route_parameters(route), schemas)

    def reply_of(self, good: str, bad: str, route: "BoundRoute", schemas: Schemas) -> Schema:
        """The schema of a reply with what a target returned."""
        result = schemas.of(result_hint(route.plan.target.function))
        return of_call({good: result, bad: {"type": "null"}}, [good, bad], [])

    # What is sent

    def send(self, route: "BoundRoute") -> None:
        """Add what the dependencies of a route send to; each once in a service."""
        for dependency in dict.fromkeys(dependencies_of(route)):
            if isinstance(dependency, Producer):
                service = dependency.service_name or dependency.host.service
                exchange = event_exchange(service, auto_delete=self.settings.auto_delete_event_exchanges)
                channel = self.channel_of(exchange, None, exchange.name)
                self.operate_sending(route, channel, f"events of {service}, under names chosen by the call")
            elif isinstance(dependency, RPCProxy):
                service = dependency.described()["service"]
                exchange = rpc_exchange(self.settings.rpc_exchange)
                channel = self.channel(("calls", service), f"{service}.rpc", None, self.binding_of(exchange))
                self.operate_sending(route, channel, f"calls of methods of {service}, as routing keys {service}.METHOD")
            elif isinstance(dependency, Publisher):
                exchange = Exchange(dependency.exchange_name, type="")
                key = dependency.routing_key or None
                channel = self.channel_of(exchange, key, ".".join(filter(None, [exchange.name, key])) or "default")
                self.operate_sending(route, channel, "published messages")

    def operate_sending(self, route: "BoundRoute", channel: str, summary: str) -> None:
        """Add that a service sends to a channel."""
        if (route.service, channel) in self.sent:
            return
        self.sent.add((route.service, channel))
        message = self.message_in(channel, "any", {})
        self.operations[free(self.operations, f"{route.service}.send.{channel}")] = {
            "action": "send",
            "channel": channel_reference(channel),
            "summary": summary,
            "tags": [{"name": route.service}],
            "messages": [message],
        }

    # Parts

    def channel_of(self, exchange: Exchange, key: str | None, title: str) -> str:
        """The id of the channel for a routing key of an exchange; without a key for all that nothing is known of."""
        return self.channel(("key", exchange.name, key), title, key, self.binding_of(exchange))

    def binding_of(self, exchange: Exchange) -> dict[str, Any]:
        """AsyncAPI's binding for an exchange."""
        about: dict[str, Any] = {"name": exchange.name}
        if not exchange.name:
            about["type"] = "default"
        elif exchange.type in STANDARD_TYPES:
            about |= {"type": exchange.type, "durable": exchange.durable, "autoDelete": exchange.auto_delete}
        return {"amqp": {"is": "routingKey", "exchange": about, **BINDING}}

    def channel(self, place: tuple[object, ...], title: str, address: str | None, bindings: dict[str, Any]) -> str:
        """The id of a channel, which is made where it is not there yet."""
        if place not in self.places:
            self.places[place] = name = free(self.channels, title)
            self.channels[name] = {"address": address, "messages": {}, "bindings": bindings}
        return self.places[place]

    def message_in(
        self, channel: str, name: str, payload: Schema, *, headers: bool = True, **more: Any
    ) -> dict[str, str]:
        """A reference to a message of a channel, which is made where it is not there yet."""
        messages = self.channels[channel]["messages"]
        name = not_plain.sub("_", name)
        if name not in messages:
            about = {"headers": {"$ref": f"{DEFINITIONS}nameko_context"}} if headers else {}
            messages[name] = {"name": name, **about, "payload": payload, **more}
        return {"$ref": f"#/channels/{channel}/messages/{name}"}

    def operate(
        self, route: "BoundRoute", name: str, channel: str, messages: list[dict[str, str]], more: dict[str, Any]
    ) -> None:
        """Add a target and what drives it."""
        about: dict[str, Any] = {
            "action": "receive",
            "channel": channel_reference(channel),
            "tags": [{"name": route.service}],
        }
        if doc := inspect.getdoc(route.plan.target.function):
            about["description"] = doc
        self.operations[free(self.operations, name)] = {**about, "messages": messages, **more}

    def finished(self, routes: Iterable["BoundRoute"], *, broker_is_named: bool) -> dict[str, Any]:
        """The whole document."""
        services = dict.fromkeys(route.service for route in routes)
        servers = self.brokers() if broker_is_named else {}
        if self.serves_websocket:
            servers["websocket"] = self.websocket_server()
        schemas = {**self.schemas.definitions, "nameko_error": ERROR, "nameko_context": CONTEXT}
        return {
            "asyncapi": VERSION,
            "info": {"title": ", ".join(services) or "no services", "version": "0.0.0"},
            "defaultContentType": Serializers(self.settings).encode("").content_type,
            **({"servers": servers} if servers else {}),
            "channels": self.channels,
            "operations": self.operations,
            "components": {"schemas": schemas},
        }

    def brokers(self) -> dict[str, Any]:
        """The broker, each node of it, without a word of its login."""
        found: dict[str, Any] = {}
        for uri in split_hosts(self.settings.amqp_uri or ""):
            parts = urlsplit(uri)
            if parts.scheme == "memory" or not parts.hostname:
                continue
            port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
            about = {
                "host": f"{parts.hostname}:{port}",
                "protocol": "amqps" if parts.scheme == "amqps" or self.settings.amqp_ssl else "amqp",
                "protocolVersion": "0.9.1",
            }
            if len(parts.path) > 1:
                about["pathname"] = parts.path
            found[free(found, "rabbitmq")] = about
        return found

    def websocket_server(self) -> dict[str, Any]:
        """Where WebSocket methods are called."""
        where = f"{self.settings.websocket_ip}:{self.settings.websocket_port}"
        return {"host": where, "protocol": "wss" if self.settings.websocket.ssl else "ws"}


def route_parameters(route: "BoundRoute") -> list[Any]:
    """The parameters of a route's target that come with a message."""
    target = route.plan.target
    injected = [name for name, _ in target.keywords]
    return parameters_of(target.function, is_method=target.owner is not None, injected=injected)


def name_of(route: "BoundRoute") -> str:
    """The name of a route's operation."""
    return f"{route.service}.{route.method}"


def stable_queue(listener: EventListener) -> Queue:
    """The queue of an event handler; the part that is new at each start is said to be so."""
    queue = listener.queue()
    if listener.handler_type != BROADCAST or listener.broadcast_identifier is not None:
        return queue
    name = f"{queue.name[:-32]}<new at each start>"
    return Queue(name, queue.durable, queue.exclusive, queue.auto_delete, queue.arguments, queue.bindings)


def described_queue(queue: Queue) -> dict[str, Any]:
    """A queue with its flags, arguments and bindings as plain data."""
    return {
        "name": queue.name,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "autoDelete": queue.auto_delete,
        "arguments": dict(queue.arguments),
        "bindings": [{"exchange": each.exchange.name, "routingKey": each.routing_key} for each in queue.bindings],
    }


def bindings_of(described: Mapping[str, Any]) -> list[dict[str, str]]:
    """The bindings of a queue, as `described_queue` has them."""
    return [{"exchange": each["exchange"], "routingKey": each["routing_key"]} for each in described["bindings"]]


def of_call(properties: Mapping[str, Schema], required: list[str], both: list[Schema]) -> Schema:
    """The schema of an object with these properties."""
    schema: Schema = {"type": "object", "properties": dict(properties), "required": required}
    return {**schema, "allOf": both} if both else schema


def raised(good: str, bad: str) -> Schema:
    """The schema of a reply with what a target raised."""
    return of_call({good: {"type": "null"}, bad: {"$ref": f"{DEFINITIONS}nameko_error"}}, [good, bad], [])


def correlated() -> dict[str, str]:
    """Where the correlation id is."""
    return {"location": "$message.header#/correlation_id", "description": "the property correlation_id"}


def channel_reference(name: str) -> dict[str, str]:
    """A reference to a channel."""
    return {"$ref": f"#/channels/{name}"}


def free(taken: Mapping[str, Any], wanted: str) -> str:
    """A name that can stand in a reference and is not taken."""
    wanted = not_plain.sub("_", wanted)
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}.{number}"
    return name
