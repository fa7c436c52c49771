"""`routes --format asyncapi`: valid against AsyncAPI's own schema, and true to what goes over the wire."""

import json
import textwrap
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator

from micro_framework.cli import main
from micro_framework.exceptions import RemoteError
from micro_framework.wire.json_types import dumps
from micro_framework.wire.messages import reply_body, request_body
from tests.asyncapi_schema import asyncapi_schema

SERVICE = """
    from dataclasses import dataclass, field
    from datetime import datetime
    from decimal import Decimal
    from typing import Literal, TypedDict

    from kombu import Exchange, Queue

    from micro_framework.amqp.dependencies import ClusterRPCProxy, Producer, Publisher, RPCProxy
    from micro_framework.amqp.entrypoints import EventListener, QueueListener, RPCListener
    from micro_framework.entrypoints import TimeEntrypoint
    from micro_framework.routes import route
    from micro_framework.translators import JSONTranslator
    from micro_framework.websocket.entrypoints import WebSocketListener


    class Refund(TypedDict):
        \"\"\"Money that goes back.\"\"\"

        order: int
        amount: Decimal


    @dataclass
    class Line:
        sku: str
        parts: "list[Line]" = field(default_factory=list)
        made: datetime | None = None


    class Orders:
        name = "orders"
        dispatch = Producer()
        payments = RPCProxy("payments")
        anybody = ClusterRPCProxy()
        publish = Publisher(Exchange("raw.exchange"), routing_key="raw.key")
        to_queue = Publisher(routing_key="archive")

        @RPCListener()
        @WebSocketListener()
        def create(self, customer: int, lines: list[Line], *, urgent: bool = False) -> Line:
            \"\"\"Create an order.\"\"\"

        @EventListener("payments", "refunded")
        @EventListener("payments", "refund.#", handler_type="broadcast")
        def refund(self, payload: Refund) -> None: ...

        @EventListener("payments", "refunded", handler_type="singleton")
        def audit(self, payload): ...

        @QueueListener(Queue("raw queue", Exchange("ex", "direct"), routing_key="r"))
        def consume(self, payload: Literal["a", "b"]): ...

        @route(QueueListener("texts"), translators=[JSONTranslator()])
        def translated(self, payload: Refund): ...

        @TimeEntrypoint(interval=60)
        def tick(self): ...
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return asyncapi_schema()


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    name = f"exported_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SERVICE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def exported(module: str, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["routes", module, "--format", "asyncapi", *options])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def within(document: dict[str, Any], reference: str) -> Any:
    """What a reference leads to."""
    found: Any = document
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        found = found[part]
    return found


def handling(document: dict[str, Any], key: str, method: str) -> dict[str, Any]:
    """The operation of a method that gets what is published with a routing key."""
    (found,) = [
        each
        for name, each in document["operations"].items()
        if name.startswith(method) and within(document, each["channel"]["$ref"])["address"] == key
    ]
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from references(each)


def fits(document: dict[str, Any], reference: dict[str, str], body: bytes) -> bool:
    """Whether a body is what a message's payload is said to be."""
    payload = within(document, reference["$ref"])["payload"]
    Draft7Validator.check_schema(payload)
    return Draft7Validator({**payload, "components": document["components"]}).is_valid(json.loads(body))


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-d", "JSON_TYPES=plain", "-d", "serializer=pickle", "-d", "AUTO_DELETE_EVENT_EXCHANGES"],
        ["--broker", "amqps://shop:s3cret@one:5671/vhost;amqp://shop:s3cret@two"],
        ["--broker", "memory://"],
    ],
)
def test_it_is_valid_and_refers_to_nothing_that_is_not_there(
    module: str, schema: dict[str, Any], options: list[str]
) -> None:
    document = exported(module, *options)
    assert [error.message for error in Draft7Validator(schema).iter_errors(document)] == []
    for reference in references(document):
        assert within(document, reference) is not None
    assert "s3cret" not in json.dumps(document)


def test_the_schema_finds_what_is_wrong(module: str, schema: dict[str, Any]) -> None:
    document = exported(module)
    document["operations"]["orders.create"]["action"] = "watch"
    assert not Draft7Validator(schema).is_valid(document)


def test_every_target_but_the_timers_is_an_operation(module: str) -> None:
    operations = exported(module)["operations"]
    received = [name for name, each in operations.items() if each["action"] == "receive"]
    assert sorted(received) == [
        "orders.audit",
        "orders.consume",
        "orders.create",
        "orders.create.websocket",
        "orders.refund",
        "orders.refund.2",
        "orders.translated",
    ]
    assert operations["orders.create"]["description"] == "Create an order."


def test_what_is_sent_is_there_once(module: str) -> None:
    document = exported(module)
    sent = {each["channel"]["$ref"] for each in document["operations"].values() if each["action"] == "send"}
    channels = {name: within(document, name) for name in sent}
    assert {name.rpartition("/")[2]: each["address"] for name, each in channels.items()} == {
        "orders.events": None,
        "payments.rpc": None,
        "raw.exchange.raw.key": "raw.key",
        "archive": "archive",
    }
    assert within(document, "#/channels/archive")["bindings"]["amqp"]["exchange"] == {"name": "", "type": "default"}


def test_an_event_has_its_exchange_key_queue_and_payload(module: str) -> None:
    document = exported(module)
    operation = handling(document, "refunded", "orders.refund")
    channel = within(document, operation["channel"]["$ref"])
    assert channel["address"] == "refunded"
    assert channel["bindings"]["amqp"] == {
        "is": "routingKey",
        "exchange": {"name": "payments.events", "type": "topic", "durable": True, "autoDelete": False},
        "bindingVersion": "0.3.0",
    }
    assert operation["x-queue"] == {
        "name": "evt-payments-refunded--orders.refund",
        "durable": True,
        "exclusive": False,
        "autoDelete": False,
        "arguments": {},
        "bindings": [{"exchange": "payments.events", "routingKey": "refunded"}],
    }
    (message,) = operation["messages"]
    assert fits(document, message, dumps({"order": 7, "amount": Decimal("1.10")}))
    assert not fits(document, message, dumps({"order": 7, "amount": "1.10"}))
    # The other handler of the same event says nothing of the payload.
    audit = document["operations"]["orders.audit"]
    assert audit["channel"] == operation["channel"]
    assert fits(document, audit["messages"][0], b'"anything"')


def test_a_broadcasts_queue_is_the_same_each_time(module: str) -> None:
    queue = handling(exported(module), "refund.#", "orders.refund")["x-queue"]
    assert queue["name"] == "evt-payments-refund.#--orders.refund-<new at each start>"
    assert exported(module) == exported(module)


def test_a_queue_is_a_channel(module: str) -> None:
    document = exported(module)
    operation = document["operations"]["orders.consume"]
    channel = within(document, operation["channel"]["$ref"])
    assert (channel["address"], channel["bindings"]["amqp"]["is"]) == ("raw queue", "queue")
    assert operation["x-queue"]["bindings"] == [{"exchange": "ex", "routingKey": "r"}]
    assert fits(document, operation["messages"][0], b'"a"')
    assert not fits(document, operation["messages"][0], b'"c"')


def test_what_a_translator_makes_of_a_payload_says_nothing_of_what_is_sent(module: str) -> None:
    document = exported(module)
    assert fits(document, document["operations"]["orders.translated"]["messages"][0], b'"text"')


def test_a_request_and_its_replies_are_those_of_the_wire(module: str) -> None:
    document = exported(module)
    operation = document["operations"]["orders.create"]
    channel = within(document, operation["channel"]["$ref"])
    assert channel["address"] == "orders.create"
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "nameko-rpc"
    assert operation["x-queue"]["name"] == "rpc-orders"
    (request,) = operation["messages"]
    line = {"sku": "x", "parts": [{"sku": "y"}]}
    assert fits(document, request, dumps(request_body([7, [line]], {})))
    assert fits(document, request, dumps(request_body([], {"customer": 7, "lines": [], "urgent": True})))
    assert not fits(document, request, dumps(request_body([7], {})))
    assert not fits(document, request, dumps(request_body(["7", []], {})))
    assert not fits(document, request, dumps({"args": [7, []]}))
    result, error = operation["reply"]["messages"]
    failed = dumps(reply_body(error=RemoteError("Boom", "text")))
    assert [fits(document, each, dumps(reply_body(line))) for each in (result, error)] == [True, False]
    assert [fits(document, each, failed) for each in (result, error)] == [False, True]


def test_a_websocket_method_has_its_command_and_replies(module: str) -> None:
    document = exported(module)
    operation = document["operations"]["orders.create.websocket"]
    assert within(document, operation["channel"]["$ref"])["servers"] == [{"$ref": "#/servers/websocket"}]
    (command,) = operation["messages"]
    assert fits(document, command, b'{"command": "create", "command_args": [7, []], "id": 1}')
    assert not fits(document, command, b'{"command": "other"}')
    made = b'{"data": {"sku": "x", "made": "2026-03-01T12:00:00"}, "exception": null, "id": 1}'
    result, error = operation["reply"]["messages"]
    assert fits(document, result, made)
    assert not fits(document, error, made)


def test_the_broker_is_named_without_its_login(module: str) -> None:
    document = exported(module, "--broker", "amqps://shop:s3cret@one/vhost;amqp://shop:s3cret@two:5673")
    assert document["servers"] == {
        "rabbitmq": {"host": "one:5671", "protocol": "amqps", "protocolVersion": "0.9.1", "pathname": "/vhost"},
        "rabbitmq.2": {"host": "two:5673", "protocol": "amqp", "protocolVersion": "0.9.1"},
        "websocket": {"host": "0.0.0.0:8765", "protocol": "ws"},
    }
    assert "rabbitmq" not in exported(module)["servers"]


def test_plain_types_are_texts(module: str) -> None:
    document = exported(module, "-d", "JSON_TYPES=plain")
    (message,) = handling(document, "refunded", "orders.refund")["messages"]
    assert fits(document, message, dumps({"order": 7, "amount": Decimal("1.10")}, "plain"))
