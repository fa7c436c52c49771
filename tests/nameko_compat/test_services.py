"""Nameko's RPC, events, queues, timers and context data by their Python names, among services hosted here."""

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Exchange, Queue

from micro_framework.exceptions import CallsAbandoned
from nameko_compat import config as process_config
from nameko_compat.amqp.publish import UndeliverableMessage
from nameko_compat.contextdata import ContextDataProvider, Language
from nameko_compat.dependency_providers import Config
from nameko_compat.events import (
    BROADCAST,
    SINGLETON,
    EventDispatcher,
    EventHandler,
    EventHandlerConfigurationError,
    event_handler,
)
from nameko_compat.exceptions import (
    IncorrectSignature,
    MethodNotFound,
    RemoteError,
    UnknownService,
    UnserializableValueError,
)
from nameko_compat.green.timeout import Timeout
from nameko_compat.messaging import Publisher, consume, decode_from_headers, encode_to_headers
from nameko_compat.rpc import Client, ClusterRpc, RpcProxy, ServiceRpc, get_rpc_exchange, rpc
from nameko_compat.runners import ServiceRunner, run_services
from nameko_compat.serialization import setup as serialization_setup
from nameko_compat.standalone.events import event_dispatcher, get_event_exchange
from nameko_compat.standalone.rpc import ClusterRpcClient, ClusterRpcProxy, ServiceRpcProxy
from nameko_compat.timer import timer
from nameko_compat.versions import api_of
from tests.nameko_compat.peers import Context, Notes
from tests.outside import SECONDS, Outside, memory_uri

THINGS = Exchange("things", type="direct", durable=True)
THING_QUEUE = Queue("things", exchange=THINGS, routing_key="thing")


class Stable(EventHandler):
    """A broadcast whose events wait."""

    broadcast_identifier = "stable"


stable = Stable.decorator


@pytest.fixture
def config() -> dict[str, Any]:
    return {"AMQP_URI": memory_uri(), "GREETING": "hello"}


@pytest.fixture
def outside(config: dict[str, Any]) -> Iterator[Outside]:
    other = Outside(config["AMQP_URI"])
    yield other
    other.close()


class Payments:
    name = "payments"
    dispatch = EventDispatcher()
    context = Context()
    orders = RpcProxy("orders")
    missing = ServiceRpc("nosuch")
    cluster = ClusterRpc()
    publish = Publisher(exchange=THINGS, declare=[THING_QUEUE])
    config = Config()
    language = Language()
    calls: Any

    @rpc
    def charge(self, amount: int, currency: str = "EUR") -> Any:
        self.dispatch("charged", {"amount": amount})  # type: ignore[operator]
        return [amount, currency]

    @rpc
    def fail(self) -> None:
        raise ValueError("no money")

    @rpc
    def unserializable(self) -> Any:
        return object()

    @rpc
    def about(self) -> Any:
        context: Any = self.context
        return {"data": dict(context.data), "stack": context.call_id_stack, "context_data": dict(context.context_data)}

    @rpc
    def mutate(self) -> Any:
        self.context.data["added"] = "later"  # type: ignore[attr-defined]
        return self.cluster["payments"].about()  # type: ignore[index]

    @rpc
    def greet(self) -> Any:
        return [self.config["GREETING"], self.language]  # type: ignore[index]

    @rpc
    def send(self, payload: Any) -> None:
        self.publish(payload, routing_key="thing")  # type: ignore[operator]

    @rpc
    def call_missing(self) -> str:
        try:
            return str(self.missing.anything())  # type: ignore[attr-defined]
        except UnknownService as error:
            return str(error)

    @rpc
    def fan_out(self, count: int) -> Any:
        proxy: Any = self.cluster
        calls = [proxy.payments.charge.call_async(number) for number in range(count)]
        assert len({call.correlation_id for call in calls}) == count
        return [call.result()[0] for call in calls]


@pytest.fixture
def payments(config: dict[str, Any], outside: Outside) -> Iterator[Any]:
    """A client of the running service ``payments``."""
    with run_services(config, Payments), ServiceRpcProxy("payments", config, {"language": "de"}, SECONDS) as client:
        yield client


def test_a_call_is_answered(payments: Any) -> None:
    assert payments.charge(7) == [7, "EUR"]
    assert payments.charge(7, currency="USD") == [7, "USD"]
    assert payments.fan_out(3) == [0, 1, 2]


def test_errors_are_namekos(payments: Any) -> None:
    with pytest.raises(RemoteError) as caught:
        payments.fail()
    assert (caught.value.exc_type, caught.value.value) == ("ValueError", "no money")
    with pytest.raises(MethodNotFound):
        payments.nothing()
    with pytest.raises(IncorrectSignature):
        payments.charge(1, 2, 3)
    with pytest.raises(RemoteError) as caught:
        payments.unserializable()
    assert caught.value.exc_type == UnserializableValueError.__name__
    assert payments.call_missing() == "Unknown service `nosuch`"


def test_context_data_and_ids_travel(payments: Any) -> None:
    about = payments.about()
    assert about["data"] == {"language": "de"}
    assert len(about["stack"]) == 2
    assert about["context_data"] == {"language": "de", "call_id_stack": about["stack"]}
    inner = payments.mutate()
    assert inner["data"] == {"language": "de", "added": "later"}
    assert len(inner["stack"]) == 3


def test_config_and_context_data_are_dependencies(payments: Any) -> None:
    assert payments.greet() == ["hello", "de"]


def test_version_3_has_the_stack_in_the_context_data(config: dict[str, Any], outside: Outside) -> None:
    with (
        run_services({**config, "NAMEKO_API": 3}, Payments),
        ServiceRpcProxy("payments", config, timeout=SECONDS) as payments,
    ):
        about = payments.about()
    assert about["data"] == about["context_data"] == {"call_id_stack": about["stack"]}
    with pytest.raises(ValueError, match="NAMEKO_API is 2"):
        api_of({"NAMEKO_API": 4})


def test_events_are_handled_by_every_kind_of_handler(config: dict[str, Any], outside: Outside) -> None:
    notes = Notes()

    class Listener:
        name = "listener"

        @event_handler("payments", "charged")
        def pool(self, payload: Any) -> None:
            notes("pool", payload["amount"])

        @event_handler("payments", "charged", handler_type=SINGLETON)
        def single(self, payload: Any) -> None:
            notes("single", payload["amount"])

        @event_handler("payments", "charged", handler_type=BROADCAST, reliable_delivery=False, prefetch_count=1)
        def everywhere(self, payload: Any) -> None:
            notes("everywhere", payload["amount"])

        @stable("payments", "charged", handler_type=BROADCAST)
        def waiting(self, payload: Any) -> None:
            notes("waiting", payload["amount"])

    with (
        run_services(config, Payments, Listener),
        ClusterRpcProxy(config, timeout=SECONDS) as cluster,
    ):
        cluster.payments.charge(7)
        found = notes.several(4)
    assert sorted(found) == [("everywhere", 7), ("pool", 7), ("single", 7), ("waiting", 7)]


def test_a_reliable_broadcast_needs_an_identifier(config: dict[str, Any]) -> None:
    class Listener:
        name = "listener"

        @event_handler("payments", "charged", handler_type=BROADCAST)
        def everywhere(self, payload: Any) -> None: ...

    with pytest.raises(EventHandlerConfigurationError, match="broadcast_identifier"), run_services(config, Listener):
        pass


def test_queues_are_consumed_and_published_to(config: dict[str, Any], outside: Outside) -> None:
    notes = Notes()

    class Things:
        name = "things"

        @consume(THING_QUEUE)
        def thing(self, payload: Any) -> None:
            notes(payload)

    with run_services(config, Payments, Things), ServiceRpcProxy("payments", config, timeout=SECONDS) as payments:
        payments.send({"n": 1})
        assert notes.next() == {"n": 1}


def test_a_timer_ticks(config: dict[str, Any]) -> None:
    notes = Notes()

    class Ticking:
        name = "ticking"

        @timer(interval=3600, eager=True)
        def tick(self) -> None:
            notes("tick")

    with run_services(config, Ticking):
        assert notes.next() == "tick"


def test_a_timer_without_an_interval_ticks_again_and_again(config: dict[str, Any]) -> None:
    notes = Notes()

    class Ticking:
        name = "ticking"

        @timer(interval=0)
        def tick(self) -> None:
            notes("tick")

    with run_services(config, Ticking):
        assert notes.several(3) == ["tick"] * 3


def test_events_are_dispatched_from_outside(config: dict[str, Any], outside: Outside) -> None:
    notes = Notes()

    class Listener:
        name = "listener"
        user = ContextDataProvider()

        @event_handler("anybody", "called")
        def called(self, payload: Any) -> None:
            notes(payload)

    with run_services(config, Listener):
        event_dispatcher(config)("anybody", "called", 1)
        assert notes.next() == 1
        event_dispatcher(uri=config["AMQP_URI"])("anybody", "called", 2)
        assert notes.next() == 2


def test_a_mandatory_event_that_nobody_handles_is_undeliverable(config: dict[str, Any], outside: Outside) -> None:
    with pytest.raises(UndeliverableMessage, match=r"anybody\.events"):
        event_dispatcher(config, mandatory=True)("anybody", "called", 1)
    gc.collect()  # the error holds frames, and these the dispatcher, whose connection closes with its end


def test_version_3_takes_the_configuration_from_the_process(config: dict[str, Any], outside: Outside) -> None:
    with process_config.patch(config, clear=True), run_services(Payments) as runner:
        assert list(runner.service_names) == ["payments"]
        with ClusterRpcClient(timeout=SECONDS) as cluster:
            assert cluster["payments"]["charge"](1) == [1, "EUR"]
    assert "AMQP_URI" not in process_config
    with ClusterRpcClient(timeout=SECONDS, uri=config["AMQP_URI"]) as cluster, pytest.raises(UnknownService):
        cluster.nosuch.anything()


def test_a_client_may_be_started_again(config: dict[str, Any]) -> None:
    with run_services(config, Payments):
        client = ServiceRpcProxy("payments", config, timeout=SECONDS)
        for number in (1, 2):
            assert client.start().charge(number) == [number, "EUR"]
            client.stop()
        client.stop()


def test_version_3_takes_context_data_first_where_the_broker_is_known(config: dict[str, Any]) -> None:
    notes = Notes()

    class Listener:
        name = "listener"
        language = Language()

        @rpc
        def called(self) -> None:
            notes(self.language)

    with run_services(config, Listener):
        with ServiceRpcProxy("listener", {"language": "de"}, uri=config["AMQP_URI"], timeout=SECONDS) as listener:
            listener.called()
        with process_config.patch(config), ClusterRpcClient({"language": "fr"}, SECONDS) as cluster:
            cluster.listener.called()
        with process_config.patch(config), ClusterRpcProxy(config, {"language": "nl"}, SECONDS) as cluster:
            cluster.listener.called()
    assert notes.several(3) == ["de", "fr", "nl"]


def test_a_runner_that_cannot_start_a_service_leaves_none_running(config: dict[str, Any]) -> None:
    class Broken:
        name = "broken"
        publish = Publisher(exchange="no exchange")  # type: ignore[arg-type]

        @timer(interval=-1)
        def tick(self) -> None: ...

    runner = ServiceRunner(config)
    runner.add_service(Payments)
    runner.add_service(Broken)
    with pytest.raises(Exception, match="interval"):
        runner.start()
    assert [container.died.is_set() for container in runner.containers] == [True, True]


def test_a_call_that_does_not_end_keeps_no_other_service_from_stopping(
    config: dict[str, Any], outside: Outside
) -> None:
    notes, may_end = Notes(), threading.Event()

    class Slow:
        name = "slow"

        @event_handler("anybody", "called")
        def called(self, payload: Any) -> None:
            notes("running")
            may_end.wait(SECONDS)

    runner = ServiceRunner({**config, "SHUTDOWN_TIMEOUT": 0})
    runner.add_service(Slow)
    runner.add_service(Payments)
    runner.start()
    outside.event("anybody", "called", None)
    assert notes.next() == "running"
    with pytest.raises(CallsAbandoned, match=r"Slow\.called"):
        runner.stop()
    may_end.set()
    assert [container.died.is_set() for container in runner.containers] == [True, True]
    runner.kill()  # of no effect any more


def test_an_eventlet_timeout_ends_the_waiting_for_an_answer(config: dict[str, Any], outside: Outside) -> None:
    may_end = threading.Event()

    class Slow:
        name = "slow"

        @rpc
        def call(self) -> str:
            may_end.wait(SECONDS)
            return "late"

    with run_services(config, Slow), ServiceRpcProxy("slow", config, timeout=3 * SECONDS) as slow:
        with pytest.raises(Timeout), Timeout(0.01):
            slow.call()
        may_end.set()
        with Timeout(SECONDS):
            assert slow.call() == "late"


def test_a_killed_service_gives_its_running_call_back(config: dict[str, Any], outside: Outside) -> None:
    notes, may_end = Notes(), threading.Event()

    class Slow:
        name = "slow"

        @event_handler("anybody", "called")
        def called(self, payload: Any) -> None:
            notes(payload)
            may_end.wait(SECONDS)

    with run_services(config, Slow, kill_on_exit=True):
        outside.event("anybody", "called", 7)
        assert notes.next() == 7
    with run_services(config, Slow):
        assert notes.next() == 7
        may_end.set()


def test_options_that_are_not_there_are_refused_by_name() -> None:
    with pytest.raises(NotImplementedError, match="RpcProxy|ServiceRpc: priority"):
        RpcProxy("payments", priority=3)
    with pytest.raises(NotImplementedError, match="compression"):
        EventDispatcher(compression="gzip")
    with pytest.raises(NotImplementedError, match="heartbeat"):
        consume(THING_QUEUE, heartbeat=3)(lambda self, payload: None)
    EventDispatcher(retry=True, retry_policy={"max_retries": 5})  # mean nothing here
    RpcProxy("payments", mandatory=False)  # as in 3.x


def test_a_client_names_service_and_method_step_by_step() -> None:
    client = Client(None)  # type: ignore[arg-type]
    assert (client.identifier, client.payments.identifier) == ("*.*", "payments.*")
    assert client["payments"].charge.fully_specified
    with pytest.raises(ValueError, match=r"payments\.\* does not name"):
        client.payments()
    with pytest.raises(AttributeError, match="is a method"):
        client.payments.charge.deeper  # noqa: B018
    with pytest.raises(TypeError):
        iter(client)


def test_headers_and_exchanges_are_namekos() -> None:
    assert encode_to_headers({"a": 1, "b": None}) == {"nameko.a": 1}
    assert decode_from_headers({"nameko.a": 1, "nameko.call_id_stack": ["x"]}) == {"a": 1, "call_id_stack": ["x"]}
    assert encode_to_headers({"a": 1}, prefix="mine") == {"mine.a": 1}
    assert decode_from_headers({"mine.a": 1}, prefix="mine") == {"a": 1}
    assert get_rpc_exchange({"rpc_exchange": "other"}).name == "other"
    exchange = get_event_exchange("payments", {"AUTO_DELETE_EVENT_EXCHANGES": True})
    assert (exchange.name, exchange.type, exchange.auto_delete) == ("payments.events", "topic", True)


def test_serializers_are_checked() -> None:
    assert serialization_setup({}) == ("json", ["json"])
    with pytest.raises(Exception, match='register a serializer for "nothing"'):
        serialization_setup({"serializer": "nothing"})
