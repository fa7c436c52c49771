"""`RPCListener` in running services, asked by a raw client: replies as Nameko gives them, and nothing that ends us."""

import datetime as dt
import functools
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from queue import SimpleQueue
from typing import Any

import pytest

from micro_framework.amqp import doors
from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.amqp.serving import RPCServer
from micro_framework.brokers.port import Verdict
from micro_framework.calls import Call
from micro_framework.dependencies import CallContext, Dependency, RunningCall
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import (
    CallsAbandoned,
    DeclarationError,
    MessageTooLarge,
    PublishError,
    PublishRejected,
    PublishTimeout,
)
from micro_framework.routes import Route, route
from micro_framework.runner import Runner, RunnerContext
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.translators import MessageTranslator
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Binding, Queue, rpc_exchange, rpc_queue
from tests.amqp.peers import RawCaller, break_connections
from tests.brokers.probes import mf_threads
from tests.outside import SECONDS, Outside
from tests.versions import as_declared, largest_body
from tests.wire.golden import VERSIONS, body_of, is_reply, scenarios


@pytest.fixture
def vhost(request: pytest.FixtureRequest, broker_uri: str) -> VHost | None:
    """The virtual host of the test, where the broker is RabbitMQ."""
    return None if broker_uri.startswith("memory://") else request.getfixturevalue("rabbit")


@pytest.fixture
def caller(outside: Outside) -> RawCaller:
    return RawCaller(outside)


class Boom(Exception):
    __module__ = "nameko_services"


class Known(Exception):
    __module__ = "nameko_services"


class BadStr(Exception):
    __module__ = "nameko_services"

    def __str__(self) -> str:
        raise ValueError("no str for you")


class WithRepr:
    def __repr__(self) -> str:
        return "<object object at <addr>>"


class Target:
    """The service whose replies were captured, as one of ours."""

    name = "target"
    context_of_call = CallContext()

    @EventListener("source", "evt.pool")
    def on_pool(self, payload): ...

    @RPCListener()
    def echo(self, *args, **kwargs):
        return {"args": args, "kwargs": kwargs}

    @RPCListener()
    def add(self, a, b=1):
        return a + b

    @RPCListener()
    def nothing(self): ...

    @RPCListener()
    def context(self):
        call = self.context_of_call
        return {
            "data": dict(call.data),
            "stack": list(call.call_id_stack),
            "call_id": call.call_id,
            "origin": call.origin_call_id,
            "parent": call.immediate_parent_call_id,
        }

    @RPCListener(expected_exceptions=Known)
    def fail(self, kind):
        errors = {
            "boom": Boom("a", 1, {"k": [1, Decimal("2.5")]}, None),
            "known": Known("x", 2),
            "keyerror": KeyError("missing"),
            "noargs": ValueError(),
            "badstr": BadStr("hidden"),
            "unicode": Boom("café"),
        }
        if kind == "typeerror":
            return 1 + "a"
        raise errors[kind]

    @RPCListener()
    def unserializable(self):
        return WithRepr()

    @RPCListener()
    def typed(self):
        return {
            "dt": dt.datetime(2020, 1, 2, 3, 4, 5),
            "dec": Decimal("1.10"),
            "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
            "tuple": (1, 2),
        }

    @RPCListener()
    def typed_bytes(self):
        return b"\x00\xffabc"


# -- replies


def captured(version: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every raw request to the captured service that was answered by it alone, and the answer."""
    found = []
    for scenario in scenarios(version):
        messages = [message for message in scenario["messages"] if message["exchange"] == "nameko-rpc"]
        first = messages[0] if len(messages) == 2 and is_reply(messages[1]) else {"sender": "nobody"}
        if first["sender"] == "raw-client" and re.fullmatch(r"target\.(?!log$).*", first["routing_key"]):
            found.append((scenario["scenario"], *messages))
    return found


def without_ids(body: bytes) -> str:
    """A reply with its call ids made alike, and without the stack that 3.x keeps among the context data as well."""
    text = re.sub(r'(?<="data": \{)(.*?)(?:, )?"call_id_stack": \[.*?\]', r"\1", body.decode())
    for part in text.split('"'):
        service, dot, identifier = part.rpartition(".")
        if dot and service == "target.context":
            text = text.replace(identifier, "<id>")
    return text


@pytest.mark.parametrize("version", VERSIONS)
def test_every_captured_request_gets_the_captured_reply(broker_uri: str, caller: RawCaller, version: str) -> None:
    with running(Target, config={"AMQP_URI": broker_uri}):
        assert len(captured(version)) > 20
        for name, request, expected in captured(version):
            asked, answered = request["properties"], expected["properties"]
            caller.send(
                request["routing_key"],
                body_of(request),
                headers=request["headers"],
                content_type=asked["content_type"],
                correlation_id=asked.get("correlation_id"),
            )
            reply = caller.next()
            assert without_ids(reply.body) == without_ids(body_of(expected)), name
            assert (reply.exchange, reply.routing_key) == ("nameko-rpc", caller.key), name
            assert reply.properties == Properties(headers={}, **answered), name


def test_the_queue_is_namekos(rabbit: VHost) -> None:
    with running(Target, config={"AMQP_URI": rabbit.uri, "PREFETCH_COUNT": 3}):
        queue = rabbit.queue("rpc-target")
        assert (queue.durable, queue.exclusive, queue.auto_delete) == (True, False, False)
        assert as_declared(queue.arguments) == {}
        (binding,) = [each for each in rabbit.bindings() if each.destination == "rpc-target"]
        assert (binding.source, binding.routing_key) == ("nameko-rpc", "target.*")
        exchange = rabbit.exchanges()["nameko-rpc"]
        assert (exchange.type, exchange.durable, exchange.auto_delete) == ("topic", True, False)
    assert sorted(rabbit.queues()) == ["evt-source-evt.pool--target.on_pool", "rpc-target"]


def test_another_exchange_may_be_configured(broker_uri: str, outside: Outside) -> None:
    caller = RawCaller(outside, "our-rpc")
    with running(Target, config={"AMQP_URI": broker_uri, "rpc_exchange": "our-rpc"}):
        caller.call("target.add", 1)
        reply = caller.next()
    assert (reply.exchange, json.loads(reply.body)["result"]) == ("our-rpc", 2)


@pytest.mark.parametrize("serializer", ["json", "yaml"])
@pytest.mark.parametrize(("asked", "body"), [("application/json", b'{"args":[1],"kwargs":{}}'),
                                             ("application/x-yaml", b"args: [1]\nkwargs: {}\n")])  # fmt: skip
def test_a_reply_has_the_content_type_of_its_request_whatever_the_service_itself_uses(
    broker_uri: str, caller: RawCaller, serializer: str, asked: str, body: bytes
) -> None:
    config = {"AMQP_URI": broker_uri, "ACCEPT": ["json", "yaml"], "serializer": serializer}
    with running(Target, config=config):
        caller.send("target.add", body, content_type=asked)
        reply = caller.next()
    assert reply.content_type == asked
    assert reply.body.startswith(b'{"result": 2, "error": null}' if "json" in asked else b"error: null\nresult: 2")


def test_compressed_requests_are_read(broker_uri: str, caller: RawCaller) -> None:
    import zlib

    with running(Target, config={"AMQP_URI": broker_uri}):
        body = zlib.compress(b'{"args": [1], "kwargs": {}}')
        assert caller.ask("target.add", body, headers={"compression": "application/x-gzip"})["result"] == 2


# -- requests that end a Nameko service, or would be lost there


ODD: list[tuple[str, dict[str, Any]]] = [
    ("no reply_to", {"reply_to": None}),
    ("an empty reply_to", {"reply_to": ""}),
    ("a reply_to that leads nowhere", {"reply_to": str(uuid.uuid4())}),
    ("a reply_to as long as it can be", {"reply_to": "é" * 127}),
    ("no content type", {"content_type": None}),
    ("no call id stack", {"headers": {"nameko.call_id_stack": None}}),
    ("a call id stack that is none", {"headers": {"nameko.call_id_stack": 5}}),
    ("bad JSON", {"body": b"{nope"}),
    ("a body that is no text", {"body": b"\xff\xfe\x00"}),
    ("no body", {"body": b""}),
    ("a list", {"body": [1]}),
    ("null", {"body": None}),
    ("a number", {"body": 5}),
    ("arguments that are none", {"body": {"args": 5, "kwargs": {}}}),
    ("keyword arguments that are none", {"body": {"args": [], "kwargs": [1]}}),
    ("deeply nested", {"body": b"[" * 100_000}),
    ("a pickle", {"body": b"\x80\x02]q\x00.", "content_type": "application/x-python-serialize"}),
    ("a type nobody knows", {"content_type": "text/weird"}),
    ("compressed by nobody knows what", {"headers": {"compression": "application/x-none"}}),
    ("compressed, and is not", {"headers": {"compression": "application/x-gzip"}}),
    ("a deadline that is none", {"headers": {"mf-deadline": "soon"}}),
    ("a deadline out of this world", {"headers": {"mf-deadline": 2**62}}),
    ("an odd correlation id", {"correlation_id": "é\n" * 80}),
]


@pytest.mark.parametrize(("what", "given"), ODD, ids=[what for what, _ in ODD])
def test_no_request_ends_the_service_or_stays_in_its_queue(
    broker_uri: str, outside: Outside, caller: RawCaller, what: str, given: dict[str, Any]
) -> None:
    with running(Target, config={"AMQP_URI": broker_uri, "MAX_WORKERS": 1}) as runner:
        for target in ("target.nothing", "target.nope", "target.__list_targets__"):
            properties = dict(given)
            caller.send(target, properties.pop("body", {"args": [], "kwargs": {}}), **properties)
        caller.send("target.echo", {"args": ["the last"], "kwargs": {}}, correlation_id="last")
        while (reply := caller.next()).properties.correlation_id != "last":
            assert list(json.loads(reply.body)) == ["result", "error"]
        assert json.loads(reply.body)["result"]["args"] == ["the last"]
        assert runner.ready
    assert outside.take_all(rpc_queue("target", rpc_exchange())) == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"body": b"{nope"}, "not valid application/json: "),
        ({"content_type": None}, "a request has a content type, application/json for instance, and this one has none"),
        ({"content_type": "application/data"}, "and this one has application/data"),
        ({"content_type": "text/weird"}, "content type 'text/weird' is not accepted; ACCEPT allows application/json"),
        ({"body": {"kwargs": {}}}, "Message missing `args` or `kwargs`"),
    ],
)
def test_what_is_no_request_is_answered_with_malformed_request(
    broker_uri: str, caller: RawCaller, given: dict[str, Any], text: str
) -> None:
    properties = dict(given)
    body = properties.pop("body", {"args": [], "kwargs": {}})
    with running(Target, config={"AMQP_URI": broker_uri}):
        kind, value = caller.error("target.nothing", body, **properties)
    assert kind == "MalformedRequest"
    assert text in value


def test_ten_megabytes_of_arguments_and_back(broker_uri: str, caller: RawCaller) -> None:
    large = "x" * 10_000_000
    with running(Target, config={"AMQP_URI": broker_uri}):
        assert caller.result("target.echo", large)["args"] == [large]


def test_properties_that_cannot_be_read_do_not_come_back_for_ever(
    broker_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable:
        routing_key = "target.nothing"

        def __init__(self) -> None:
            self.verdicts: SimpleQueue[Verdict] = SimpleQueue()

        @property
        def headers(self) -> Mapping[str, Any]:
            raise OverflowError("no such year")

        properties = headers

        def settle(self, verdict: Verdict) -> None:
            self.verdicts.put(verdict)

    unreadable = Unreadable()
    with running(Target, config={"AMQP_URI": broker_uri}) as runner:
        next(each for each in runner.assembly.routes if each.method == "nothing").submit(unreadable)
        assert unreadable.verdicts.get(timeout=SECONDS) is Verdict.ACK
    assert "dropped a request for 'target.nothing', for its properties cannot be read: no such year" in caplog.text


# -- only what is declared


class Guarded:
    name = "guarded"
    dispatch = Producer()
    secret = "s3cret"

    @RPCListener()
    def open(self):
        return "open"

    @TimeEntrypoint(3600)
    def tick(self): ...

    @EventListener("source", "event")
    def listen(self, payload): ...

    def helper(self):
        return self.secret

    @staticmethod
    def fixed(): ...


@pytest.mark.parametrize(
    "method",
    ["helper", "secret", "dispatch", "tick", "listen", "fixed", "name", "OPEN", "open ", "__init__", "__class__",
     "__dict__", "__getattribute__", "__call__", "_helper", "mro", "", "*", "#", "é"],
)  # fmt: skip
def test_only_declared_targets_can_be_called(broker_uri: str, caller: RawCaller, method: str) -> None:
    with running(Guarded, config={"AMQP_URI": broker_uri}):
        assert caller.error(f"guarded.{method}") == ("MethodNotFound", method)
        assert caller.result("guarded.open") == "open"


def test_a_method_name_with_a_dot_reaches_no_queue(broker_uri: str, caller: RawCaller) -> None:
    with running(Guarded, config={"AMQP_URI": broker_uri}):
        with pytest.raises(PublishError, match="no queue is bound"):
            caller.send("guarded.helper.open")
        assert caller.result("guarded.open") == "open"


def test_a_service_name_may_have_dots(broker_uri: str, caller: RawCaller) -> None:
    service = type("Dotted", (Guarded,), {"name": "our.guarded"})
    with running(service, config={"AMQP_URI": broker_uri}):
        assert caller.result("our.guarded.open") == "open"
        assert caller.error("our.guarded.nope") == ("MethodNotFound", "nope")


# -- arguments


class Signatures:
    name = "signatures"
    asked: list[str] = []

    class Asked(Dependency[None]):
        def get_dependency(self, worker: RunningCall) -> None:
            Signatures.asked.append(worker.call.identity.method)

    asked_for_each_call = Asked()

    @RPCListener()
    def create(self, customer, items=()):
        return customer

    @RPCListener()
    async def waiting(self, a):
        return a + 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"args": [], "kwargs": {}}, "create() missing 1 required positional argument: 'customer'"),
        ({"args": [1, 2, 3], "kwargs": {}}, "create() takes from 2 to 3 positional arguments but 4 were given"),
        ({"args": [1], "kwargs": {"zz": 1}}, "create() got an unexpected keyword argument 'zz'"),
        ({"args": [1], "kwargs": {"self": 1}}, "create() got multiple values for argument 'self'"),
        ({"args": [1], "kwargs": [1]}, "inspect.getcallargs() argument after ** must be a mapping, not list"),
    ],
)
def test_arguments_that_do_not_fit_are_told_before_any_dependency_is_asked(
    broker_uri: str, caller: RawCaller, body: Any, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    Signatures.asked.clear()
    with running(Signatures, config={"AMQP_URI": broker_uri}):
        assert caller.error("signatures.create", body) == ("IncorrectSignature", text)
    assert Signatures.asked == []
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] in (["WARNING"], ["ERROR"])


def test_a_type_error_inside_the_method_is_the_methods_own(broker_uri: str, caller: RawCaller) -> None:
    with running(Target, config={"AMQP_URI": broker_uri}):
        kind, text = caller.error("target.add", {"args": [1, "a"], "kwargs": {}})
    assert (kind, text) == ("TypeError", "unsupported operand type(s) for +: 'int' and 'str'")


# -- targets of every kind


def double(a, b=0):
    """Twice as much."""
    return 2 * a + b


async def double_later(a):
    return 2 * a


class Doubling:
    def __call__(self, a):
        return 2 * a

    def by_name(self, a):
        return 2 * a


def with_producer(a, producer=None):
    producer("doubled", a)
    return 2 * a


def test_functions_paths_classes_and_objects_can_be_called(broker_uri: str, caller: RawCaller) -> None:
    routes = [
        Route(double, RPCListener()),
        Route(f"{__name__}.double_later", RPCListener()),
        Route(Doubling, RPCListener()),
        Route(Doubling, RPCListener(), method_name="by_name"),
        Route(functools.partial(double, b=1), RPCListener()),
        Route(with_producer, RPCListener(), dependencies={"producer": Producer()}),
    ]
    with running(*routes, config={"AMQP_URI": broker_uri, "SERVICE_NAME": "functions"}):
        for name in ("double", "double_later", "Doubling", "by_name", "with_producer"):
            assert caller.result(f"functions.{name}", 2) == 4
        assert caller.result("functions.partial", 2) == 5
        assert caller.error("functions.partial") == ("IncorrectSignature", "partial() missing a required argument: 'a'")
        kind, text = caller.error("functions.with_producer", {"args": [1], "kwargs": {"producer": 1}})
        assert (kind, text) == ("IncorrectSignature", "with_producer() got an unexpected keyword argument 'producer'")


# -- several services and contexts


class Other:
    name = "other"

    @RPCListener()
    def add(self, a):
        return f"other {a}"


class MoreOfTarget:
    name = "target"

    @RPCListener()
    def more(self):
        return "more"


def test_several_classes_in_one_runner(broker_uri: str, caller: RawCaller) -> None:
    with running(Target, Other, MoreOfTarget, config={"AMQP_URI": broker_uri}) as runner:
        assert caller.result("target.add", 1) == 2
        assert caller.result("other.add", 1) == "other 1"
        assert caller.result("target.more") == "more"
        assert caller.error("other.more") == ("MethodNotFound", "more")
        servers = [str(each) for each in runner.started if isinstance(each, RPCServer)]
    assert sorted(servers) == ["RPC connection of service 'other'", "RPC connection of service 'target'"]


def test_a_slow_context_holds_up_no_other(broker_uri: str, caller: RawCaller) -> None:
    release, began = threading.Event(), threading.Event()

    class Mixed:
        name = "mixed"

        @route(RPCListener(), context="slow")
        def slow(self):
            began.set()
            release.wait(SECONDS)
            return "slow"

        @RPCListener()
        def quick(self):
            return "quick"

    config = {"AMQP_URI": broker_uri, "MAX_WORKERS": 2, "CONTEXTS": {"slow": {"MAX_WORKERS": 1}}}
    with running(Mixed, config=config) as runner:
        assert server_of(runner).prefetch == {"default": 2, "slow": 1}
        caller.call("mixed.slow")
        assert began.wait(SECONDS)
        for _ in range(3):
            assert caller.result("mixed.quick") == "quick"
            assert caller.error("mixed.nope") == ("MethodNotFound", "nope")
            assert len(caller.result("mixed.__list_targets__")) == 2
        release.set()
        assert caller.answer()["result"] == "slow"


def test_a_runner_context_serves_rpc(broker_uri: str, caller: RawCaller) -> None:
    with running(RunnerContext([Target], name="own", max_workers=2), Other, config={"AMQP_URI": broker_uri}):
        assert caller.result("target.add", 1) == 2
        assert caller.result("other.add", 1) == "other 1"


def test_without_rpc_there_is_no_connection_for_it() -> None:
    class Silent:
        name = "silent"

        @TimeEntrypoint(3600)
        def tick(self): ...

    with running(Silent) as runner:
        assert [each for each in runner.started if isinstance(each, RPCServer)] == []


# -- logs


class Logged:
    name = "logged"

    @RPCListener(expected_exceptions=[KeyError, LookupError], sensitive_arguments=["card.number", "pin"])
    def pay(self, customer, card, pin=None, kind=None):
        raise {"key": KeyError("k"), "value": ValueError("v")}[customer]


@pytest.mark.parametrize(("customer", "level"), [("key", "WARNING"), ("value", "ERROR")])
def test_what_a_failed_call_leaves_in_the_log(
    broker_uri: str, caller: RawCaller, caplog: pytest.LogCaptureFixture, customer: str, level: str
) -> None:
    with running(Logged, config={"AMQP_URI": broker_uri}):
        caller.send("logged.pay", {"args": [customer, {"number": "4111", "type": "x"}], "kwargs": {"pin": "1234"}})
        caller.next()
    (record,) = [each for each in caplog.records if each.levelno > logging.INFO]
    assert record.levelname == level
    assert record.exc_info is not None
    text = record.getMessage()
    assert text.startswith("Logged.pay: call logged.pay.")
    expected = f"failed, called with ('{customer}', {{'number': '********', 'type': 'x'}}, pin='********')"
    assert text.endswith(expected)
    assert "4111" not in caplog.text
    assert "1234" not in caplog.text


def test_a_caller_who_mistypes_an_argument_does_not_bring_its_value_into_the_log(
    broker_uri: str, caller: RawCaller, caplog: pytest.LogCaptureFixture
) -> None:
    with running(Logged, config={"AMQP_URI": broker_uri}):
        kind, _ = caller.error("logged.pay", {"args": ["key", {}], "kwargs": {"pni": "1234"}})
    assert kind == "IncorrectSignature"
    assert "1234" not in caplog.text


def test_calls_that_go_well_leave_nothing_in_the_log(
    broker_uri: str, caller: RawCaller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "micro_framework")
    with running(Target, config={"AMQP_URI": broker_uri}):
        for _ in range(10):
            caller.result("target.add", 1)
    of_its_life = ("micro_framework.runner", "micro_framework.brokers.rabbitmq.link")
    assert [record for record in caplog.records if record.name not in of_its_life] == []


# -- results that cannot be sent


class Unsendable:
    name = "unsendable"

    class NoRepr:
        def __repr__(self) -> str:
            raise ValueError("no text")

    @RPCListener()
    def give(self, kind):
        circle: list[Any] = []
        circle.append(circle)
        return {"set": {1}, "circle": circle, "norepr": self.NoRepr()}[kind]


@pytest.mark.parametrize(
    ("kind", "text"), [("set", "`{1}`"), ("circle", "`[[...]]`"), ("norepr", "`<NoRepr without a repr>`")]
)
def test_a_result_that_cannot_be_sent_is_an_error(
    broker_uri: str, caller: RawCaller, caplog: pytest.LogCaptureFixture, kind: str, text: str
) -> None:
    with running(Unsendable, config={"AMQP_URI": broker_uri}):
        found = caller.error("unsendable.give", {"args": [kind], "kwargs": {}})
    assert found == ("UnserializableValueError", f"Unserializable value: {text}")
    assert "the result of request 'cid-1' for 'unsendable.give', a " in caplog.text


def encode_nothing(value: Any) -> str:
    raise ValueError("the encoder is broken")


def test_with_an_encoder_that_is_broken_the_caller_gets_json(
    broker_uri: str, caller: RawCaller, caplog: pytest.LogCaptureFixture
) -> None:
    codec = {"encoder": f"{__name__}.encode_nothing", "decoder": "json.loads", "content_type": "application/x-broken"}
    config = {"AMQP_URI": broker_uri, "SERIALIZERS": {"broken": codec}, "ACCEPT": ["broken"], "serializer": "broken"}
    with running(Target, config=config):
        for method in ("nothing", "nope"):
            caller.send(f"target.{method}", content_type="application/x-broken")
            reply = caller.next()
            assert reply.content_type == "application/json"
            assert json.loads(reply.body)["error"]["exc_type"] == "UnserializableValueError"
    assert "the encoder is broken" in caplog.text


def test_a_result_larger_than_the_broker_takes_is_an_error(own_node: RabbitMQNode) -> None:
    uri = own_node.vhost().uri
    outside = Outside(uri)
    try:
        caller = RawCaller(outside)
        with largest_body(own_node, 100_000), running(Large, config={"AMQP_URI": uri}):
            kind, text = caller.error("large.give", {"args": [200_000], "kwargs": {}})
            assert kind == "MessageTooLarge"
            assert "expected a body of at most 100000 bytes, the broker's max_message_size; got 200" in text
            assert caller.result("large.give", 10) == "x" * 10
    finally:
        outside.close()


class Large:
    name = "large"

    @RPCListener()
    def give(self, size):
        return "x" * size


# -- the reply first, then the acknowledgement


class Held:
    """A confirmation that the test gives."""

    written = True

    def __init__(self) -> None:
        self.callback: Callable[[BaseException | None], None] | None = None

    def add_done_callback(self, callback: Callable[[BaseException | None], None]) -> None:
        self.callback = callback


class Counting:
    """Counts its calls."""

    name = "counting"
    begun: SimpleQueue[int]

    @RPCListener()
    def count(self):
        self.begun.put(1)
        return "counted"


@pytest.fixture
def counting() -> type[Counting]:
    return type("Counting", (Counting,), {"begun": SimpleQueue()})


class Waiting(Counting):
    """Its calls end once they are let go."""

    released: threading.Event

    @RPCListener()
    def count(self):
        self.begun.put(1)
        self.released.wait(SECONDS)
        return "counted"


@pytest.fixture
def waiting() -> type[Waiting]:
    return type("Waiting", (Waiting,), {"begun": SimpleQueue(), "released": threading.Event()})


def server_of(runner: Runner) -> RPCServer:
    (found,) = [each for each in runner.started if isinstance(each, RPCServer)]
    return found


class HeldBack:
    """Keeps the replies of a running service from the broker, and hands out what waits for their confirms."""

    def __init__(self, runner: Runner) -> None:
        self.door = server_of(runner).door
        self.publish = self.door.publish
        self.held: SimpleQueue[Held] = SimpleQueue()
        self.door.publish = self.hold  # type: ignore[method-assign]

    def hold(self, publication: Any, *, confirm: bool = True) -> Any:
        self.held.put(confirmation := Held())
        return confirmation

    def next(self) -> Callable[[BaseException | None], None]:
        confirmation = self.held.get(timeout=SECONDS)
        while confirmation.callback is None:  # set by the worker right after it got the confirmation
            time.sleep(0)
        return confirmation.callback

    def let_go(self) -> None:
        self.door.publish = self.publish  # type: ignore[method-assign]


def test_a_request_is_acknowledged_only_when_the_broker_has_the_reply(
    broker_uri: str, caller: RawCaller, counting: type[Counting], outside: Outside, vhost: VHost | None
) -> None:
    with running(counting, config={"AMQP_URI": broker_uri, "MAX_WORKERS": 1}) as runner:
        replies = HeldBack(runner)
        caller.call("counting.count")
        replies.next()
        replies.let_go()
        # The reply was never confirmed, so the request is still the broker's, who delivers it again.
        break_connections(broker_uri, vhost)
        assert caller.answer()["result"] == "counted"
        assert counting.begun.qsize() == 2
    assert outside.take_all(REQUESTS) == []


REQUESTS = rpc_queue("counting", rpc_exchange())


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, 0),
        (PublishRejected("the queue is full"), 0),
        (PublishError("access refused"), 0),
        (MessageTooLarge("got 200 bytes"), 0),
        (PublishTimeout("the connection ended"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_becomes_of_a_request_whose_reply_could_not_be_sent(
    broker_uri: str, caller: RawCaller, counting: type[Counting], outside: Outside,
    error: BaseException | None, left: int, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """What the broker refuses it would refuse again, and the request would be served for ever."""
    with running(counting, config={"AMQP_URI": broker_uri}) as runner:
        replies = HeldBack(runner)
        caller.call("counting.count")
        replies.next()(error)
        if isinstance(error, MessageTooLarge):  # the caller is told so, which may be too large again
            replies.next()(error)
    assert len(outside.take_all(REQUESTS)) == left
    if isinstance(error, PublishTimeout):
        assert "was not sent, so the request is delivered again: the connection ended" in caplog.text
    elif error is not None:
        assert "the answer to request 'cid-1' for 'counting.count' is lost, for the broker refused it: " in caplog.text


def test_a_reply_to_a_queue_that_is_full_is_given_up(
    rabbit: VHost, counting: type[Counting], caplog: pytest.LogCaptureFixture
) -> None:
    outside = Outside(rabbit.uri)
    full = Queue(
        "full",
        arguments={"x-max-length": 0, "x-overflow": "reject-publish"},
        bindings=(Binding(rpc_exchange(), "full"),),
    )
    outside.doors.declare(full)
    with running(counting, config={"AMQP_URI": rabbit.uri}):
        RawCaller(outside).send("counting.count", reply_to="full")
        rabbit.wait_for(lambda _: counting.begun.qsize() == 1, what="the call")
        rabbit.wait_until_drained("rpc-counting")
    outside.close()
    assert "is lost, for the broker refused it: the broker refused the message" in caplog.text


@pytest.mark.parametrize("how", ["kill", "close"])
def test_a_reply_on_its_way_when_the_connection_breaks_is_sent_again(
    own_node: RabbitMQNode, waiting: type[Waiting], how: str
) -> None:
    """Under an alarm the broker reads no replies, so that the break comes between reply and confirm for sure."""
    vhost = own_node.vhost()
    outside = Outside(vhost.uri)
    try:
        caller = RawCaller(outside)
        with running(waiting, config={"AMQP_URI": vhost.uri, "MAX_WORKERS": 1}) as runner:
            caller.call("counting.count")
            waiting.begun.get(timeout=SECONDS)
            own_node.persist_declarations()
            own_node.set_memory_alarm(True)
            waiting.released.set()
            vhost.wait_for(lambda _: "rpc-counting" in vhost.queues(), what="the queue")
            assert vhost.queue("rpc-counting").unacknowledged == 1
            if how == "kill":
                own_node.kill()
                own_node.start()
            else:
                vhost.close_connections("mf-duplex-rpc-counting (" + str(os.getpid()) + ")")
                own_node.set_memory_alarm(False)
            assert caller.answer()["result"] == "counted"
            vhost.wait_until_drained("rpc-counting", timeout=30)
            assert runner.ready
    finally:
        own_node.start()
        own_node.set_memory_alarm(False)
        outside.close()


def test_a_stop_waits_for_the_confirms_of_answers_as_long_as_it_may(
    own_node: RabbitMQNode, waiting: type[Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose answer is not confirmed would run again; a broker that is slow for a while is no reason for that."""
    monkeypatch.setattr(doors, "CLOSE_BUDGET", 0.3)
    vhost = own_node.vhost()
    outside = Outside(vhost.uri)
    try:
        caller = RawCaller(outside)
        with running(waiting, config={"AMQP_URI": vhost.uri, "MAX_WORKERS": 1}) as runner:
            caller.call("counting.count")
            waiting.begun.get(timeout=SECONDS)
            stopping = threading.Thread(target=runner.stop)
            stopping.start()
            vhost.wait_for(lambda _: vhost.consumers("rpc-counting") == 0, what="the consumer to be cancelled")
            own_node.set_memory_alarm(True)  # the broker takes no answer
            waiting.released.set()
            stopping.join(3 * doors.CLOSE_BUDGET)
            assert stopping.is_alive()
            own_node.set_memory_alarm(False)
            stopping.join(SECONDS)
        assert caller.answer()["result"] == "counted"
        assert vhost.depth("rpc-counting") == 0
    finally:
        own_node.set_memory_alarm(False)
        outside.close()


@pytest.mark.parametrize("when", ["working", "replied"])
def test_a_service_that_stops_answers_first(
    broker_uri: str, caller: RawCaller, outside: Outside, waiting: type[Waiting], when: str
) -> None:
    with running(waiting, config={"AMQP_URI": broker_uri, "MAX_WORKERS": 1}) as runner:
        caller.call("counting.count")
        waiting.begun.get(timeout=SECONDS)
        caller.call("counting.count")  # waits for the worker, and goes back to the queue
        if when == "working":
            threading.Timer(0.2, waiting.released.set).start()
        else:
            waiting.released.set()
            assert caller.answer()["result"] == "counted"
            waiting.begun.get(timeout=SECONDS)
        assert runner.ready
    answered = caller.answer()["result"]
    assert answered == "counted"
    assert len(outside.take_all(REQUESTS)) == (1 if when == "working" else 0)


def test_an_answer_after_the_end_is_not_sent_and_the_request_comes_again(
    broker_uri: str, caller: RawCaller, outside: Outside, counting: type[Counting], caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    class Late(counting):  # type: ignore[misc, valid-type]
        @RPCListener()
        def count(self):
            self.begun.put(1)
            release.wait(SECONDS)
            return "too late"

    runner = Runner([Late], {"AMQP_URI": broker_uri, "SHUTDOWN_TIMEOUT": 0})
    runner.begin()
    runner.wait_ready()
    caller.call("counting.count")
    counting.begun.get(timeout=SECONDS)
    threads: Any = runner.assembly.spawners["default"]
    (worker,) = [each for each in threads.threads if each.running]
    with pytest.raises(CallsAbandoned, match=r"Late\.count"):
        runner.stop()
    release.set()
    worker.join(SECONDS)
    assert "was not sent, so the request is delivered again: " in caplog.text
    assert "cannot publish: it was stopped" in caplog.text
    assert len(outside.take_all(REQUESTS)) == 1


# -- deadlines


def deadline_in(seconds: float) -> dict[str, Any]:
    return {"headers": {"mf-deadline": int((time.time() + seconds) * 1000)}}


def test_a_request_whose_caller_has_given_up_is_dropped(
    broker_uri: str, caller: RawCaller, outside: Outside, counting: type[Counting], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "micro_framework.amqp.serving")
    with running(counting, config={"AMQP_URI": broker_uri, "MAX_WORKERS": 1}):
        caller.send("counting.count", **deadline_in(-60))
        caller.send("counting.nope", **deadline_in(-60))
        caller.send("counting.count", correlation_id="the next")
        assert caller.next().properties.correlation_id == "the next"
        assert counting.begun.qsize() == 1
    assert outside.take_all(REQUESTS) == []
    assert caplog.text.count("was dropped: its caller gave up 60 s ago") == 2


@pytest.mark.parametrize("late", [-60, 0, 3])
def test_clocks_that_differ_a_little_do_no_harm(
    broker_uri: str, caller: RawCaller, counting: type[Counting], late: float
) -> None:
    with running(counting, config={"AMQP_URI": broker_uri}):
        assert caller.ask("counting.count", **deadline_in(-late))["result"] == "counted"


class Deadlines:
    name = "deadlines"
    dispatch = Producer()

    class OfCall(Dependency[float | None]):
        def get_dependency(self, worker: RunningCall) -> float | None:
            return worker.call.deadline

    deadline = OfCall()
    heard: SimpleQueue[Any] = SimpleQueue()

    @RPCListener()
    def tell(self):
        self.dispatch("told")
        return self.deadline

    @EventListener("deadlines", "told")
    def hear(self, payload):
        self.heard.put(self.deadline)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"mf-deadline": 4_000_000_000_000}, 4e9),
        ({"mf-deadline": "4000000000000"}, None),
        ({"mf-deadline": True}, None),
        ({"nameko.mf-deadline": 4_000_000_000_000}, None),
        ({}, None),
    ],
)
def test_the_deadline_is_the_calls_and_no_events(
    broker_uri: str, caller: RawCaller, outside: Outside, headers: dict[str, Any], expected: float | None
) -> None:
    with running(Deadlines, config={"AMQP_URI": broker_uri}):
        heard = outside.listen("deadlines")
        assert caller.ask("deadlines.tell", headers=headers)["result"] == expected
        assert [name for name in heard.next().headers if "deadline" in name] == []
        assert Deadlines.heard.get(timeout=SECONDS) is None


def test_a_request_within_the_tolerance_leaves_its_calls_what_is_left_of_that(
    broker_uri: str, caller: RawCaller
) -> None:
    before = time.time()
    with running(Deadlines, config={"AMQP_URI": broker_uri}):
        headers = deadline_in(-2)
        deadline = headers["headers"]["mf-deadline"] / 1000
        found = caller.ask("deadlines.tell", **headers)["result"]
    assert found == pytest.approx(deadline + 5)
    assert found > before


# -- translators, dependencies, callbacks


class Rename(MessageTranslator):
    """Lets old callers go on with the old name of an argument."""

    def translate_message(self, message: Any) -> Any:
        assert isinstance(message, Call)
        kwargs = dict(message.kwargs)
        kwargs["customer"] = kwargs.pop("client", None)
        return replace(message, kwargs=kwargs)


class Spoil(MessageTranslator):
    def translate_message(self, message: Any) -> Any:
        return "no call"


class Translated:
    name = "translated"

    @route(RPCListener(), translators=[Rename()])
    def create(self, customer):
        return customer

    @route(RPCListener(), translators=[Spoil()])
    def spoilt(self): ...


def test_translators_get_the_call_before_its_arguments_are_checked(broker_uri: str, caller: RawCaller) -> None:
    with running(Translated, config={"AMQP_URI": broker_uri}):
        assert caller.result("translated.create", client=7) == 7
        kind, text = caller.error("translated.create", {"args": [1], "kwargs": {"client": 7}})
        assert (kind, text) == ("IncorrectSignature", "create() got multiple values for argument 'customer'")
        kind, text = caller.error("translated.spoilt")
    assert kind == "TypeError"
    assert text == "the translators of a target that is called get the Call and return one, not str"


def test_a_call_whose_dependency_cannot_be_had_is_held_off_and_comes_back(
    broker_uri: str, caller: RawCaller, caplog: pytest.LogCaptureFixture
) -> None:
    class Database(Dependency[str]):
        tries: SimpleQueue[int] = SimpleQueue()

        def get_dependency(self, worker: RunningCall) -> str:
            self.tries.put(1)
            if self.tries.qsize() < 3:
                raise OSError("the database is away")
            return "row"

    class Reading:
        name = "reading"
        database = Database()

        @RPCListener()
        def read(self):
            return self.database

    with running(Reading, config={"AMQP_URI": broker_uri}):
        assert caller.result("reading.read") == "row"
    assert caplog.text.count("a dependency could not be had, so it did not run; it is delivered again in") == 2


def test_a_callback_is_called_once_and_the_caller_gets_the_error(broker_uri: str, caller: RawCaller) -> None:
    failures: SimpleQueue[Any] = SimpleQueue()

    class Calling:
        name = "calling"

        @route(RPCListener(), on_failure="failed")
        def fail(self, number):
            raise ValueError("no")

        def failed(self, number, exception):
            failures.put((number, str(exception)))
            raise KeyError("the callback fails too")

    with running(Calling, config={"AMQP_URI": broker_uri}):
        assert caller.error("calling.fail", {"args": [1], "kwargs": {}}) == ("ValueError", "no")
    assert failures.get(timeout=SECONDS) == (1, "no")
    assert failures.empty()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("stop")])
def test_nothing_that_a_method_raises_ends_the_service(
    broker_uri: str, caller: RawCaller, error: BaseException
) -> None:
    class Exiting:
        name = "exiting"

        @RPCListener()
        def leave(self):
            raise error

    with running(Exiting, config={"AMQP_URI": broker_uri, "MAX_WORKERS": 1}):
        for _ in range(2):
            assert caller.error("exiting.leave") == (type(error).__name__, str(error))


# -- discovery, as it is on the wire


def test_the_reserved_names_describe_the_targets(broker_uri: str, caller: RawCaller) -> None:
    with running(Route(double, RPCListener()), config={"AMQP_URI": broker_uri, "SERVICE_NAME": "functions"}):
        described = {
            "name": "double",
            "parameters": [
                {"name": "a", "kind": "positional_or_keyword", "required": True},
                {"name": "b", "kind": "positional_or_keyword", "required": False, "default": "0"},
            ],
            "doc": "Twice as much.",
        }
        assert caller.result("functions.__list_targets__") == [described]
        assert caller.result("functions.__get_target__", "double") == described
        get_nope = {"args": ["nope"], "kwargs": {}}
        assert caller.error("functions.__get_target__", get_nope) == ("MethodNotFound", "nope")
        kind, _ = caller.error("functions.__list_targets__", get_nope)
        assert kind == "IncorrectSignature"


# -- declarations


def refused(*services: Any, **config: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        Runner(services, {"AMQP_URI": "memory://", **config})
    return str(caught.value)


def with_method(name: str, entrypoint: Any = None, service: str = "orders", **options: Any) -> type:
    def method(self, *args): ...

    method.__name__ = name
    declared = route(entrypoint or RPCListener(), **options)(method)
    return type("Orders", (), {"name": service, name: declared})


def listening(**options: Any) -> type:
    return with_method("a", RPCListener(**options))


@pytest.mark.parametrize(
    ("service", "text"),
    [
        (with_method("__secret__"), "__secret__ cannot be called by RPC, names between double underscores are"),
        (with_method("a" * 250), "the routing key of its requests has 257 bytes and AMQP takes 255; shorten the name"),
        (listening(expected_exceptions=[5]), "expected_exceptions must hold exception classes, not 5"),
        (listening(expected_exceptions=5), "expected_exceptions must hold exception classes, not 5"),
        (listening(expected_exceptions="ValueError"), "must hold exception classes, not 'ValueError'"),
        (listening(sensitive_arguments=[5]), "sensitive_arguments must be names of arguments, not 5"),
        (listening(sensitive_arguments=5), "sensitive_arguments must be names of arguments, not 5"),
    ],
)  # fmt: skip
def test_declarations_that_cannot_work_are_refused(service: type, text: str) -> None:
    assert text in refused(service)


def test_two_targets_of_one_name_are_refused() -> None:
    text = refused(with_method("create"), with_method("create"))
    assert "would share the RPC method orders.create" in text
    Runner([with_method("create"), with_method("create", service="other")], {"AMQP_URI": "memory://"})


def test_one_alone_is_taken_for_a_list_of_one() -> None:
    listener = RPCListener(expected_exceptions=KeyError, sensitive_arguments="card")
    assert (listener.expected_exceptions, listener.sensitive_arguments) == ((KeyError,), ("card",))


def test_without_arguments_the_parentheses_stay() -> None:
    with pytest.raises(TypeError, match=r"write @RPCListener\(\.\.\.\)"):

        class Forgotten:
            @RPCListener
            def create(self): ...


def test_a_missing_uri_names_both_ways_out() -> None:
    assert "AMQP_URI is missing" in refused(Target, AMQP_URI=None)


# -- the end


def test_nothing_is_left_after_a_stop(rabbit: VHost) -> None:
    with running(Target, Other, config={"AMQP_URI": rabbit.uri}):
        assert "mf-duplex-rpc-target" in mf_threads()
    assert mf_threads() == []
    rabbit.wait_for(lambda _: not rabbit.connections(), what="the connections to end")


def test_two_replicas_share_the_load(broker_uri: str, caller: RawCaller) -> None:
    names: SimpleQueue[str] = SimpleQueue()
    together = threading.Barrier(2)

    def replica(name: str) -> type:
        class Replica:
            @RPCListener()
            def work(self):
                together.wait(SECONDS)
                names.put(name)

        Replica.name = "replica"  # type: ignore[attr-defined]
        return Replica

    config = {"AMQP_URI": broker_uri, "MAX_WORKERS": 1}
    with running(replica("a"), config=config), running(replica("b"), config=config):
        for _ in range(2):
            caller.call("replica.work")
        for _ in range(2):
            caller.answer()
    assert {names.get(timeout=SECONDS) for _ in range(2)} == {"a", "b"}
