"""`EventListener` and `QueueListener` in running services, on every broker."""

import contextlib
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Exchange as KombuExchange, Queue as KombuQueue

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener, QueueListener
from micro_framework.calls import Attempt
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.entrypoints import Entrypoint
from micro_framework.exceptions import BrokerRefused
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import Route, route
from micro_framework.runner import Runner
from micro_framework.testing import ManualClock, running, wait_for
from micro_framework.testing.broker_state import VHost
from micro_framework.translators import JSONTranslator, MessageTranslator
from micro_framework.wire.naming import Queue, event_exchange, event_queue
from tests.brokers.probes import soon
from tests.outside import SECONDS, Calls, Outside, given, let_end_at_stop, recording
from tests.versions import refused_while_going


def event(source: str = "payments", name: str = "refunded", **options: Any) -> EventListener:
    return EventListener(source, name, **options)


POOL_QUEUE = event_queue("payments", "refunded", service="orders", method="handle")


@contextlib.contextmanager
def started(uri: str, *services: Any, clock: ManualClock | None = None, **config: Any) -> Iterator[Runner]:
    with running(*services, config={"AMQP_URI": uri, **config}, clock=clock) as runner:
        yield runner


# -- names and flags


def declared_by(entrypoint: EventListener | QueueListener, **config: Any) -> Queue:
    service, _ = recording(entrypoint)
    (found,) = Runner([service], {"AMQP_URI": "memory://", **config}).assembly.routes
    assert isinstance(found.entrypoint, EventListener | QueueListener)
    return found.entrypoint.queue()


@pytest.mark.parametrize(
    ("entrypoint", "name", "durable", "exclusive", "auto_delete"),
    [
        (event(), "evt-payments-refunded--orders.handle", True, False, False),
        (event(reliable_delivery=False), "evt-payments-refunded--orders.handle", True, False, True),
        (event(name="order.*"), "evt-payments-order.*--orders.handle", True, False, False),
        (event(handler_type="singleton"), "evt-payments-refunded", True, False, False),
        (event(handler_type="singleton", reliable_delivery=False), "evt-payments-refunded", True, False, True),
        (
            event(handler_type="broadcast", broadcast_identifier="a"),
            "evt-payments-refunded--orders.handle-a",
            True,
            True,
            True,
        ),
        (
            event(handler_type="broadcast", reliable_delivery=True, broadcast_identifier="a"),
            "evt-payments-refunded--orders.handle-a",
            True,
            False,
            False,
        ),
        (QueueListener("legacy"), "legacy", True, False, False),
        (QueueListener(KombuQueue("tmp", durable=False, auto_delete=True)), "tmp", False, False, True),
    ],
)
def test_queues_have_namekos_names_and_flags(
    entrypoint: EventListener | QueueListener, name: str, durable: bool, exclusive: bool, auto_delete: bool
) -> None:
    found = declared_by(entrypoint)
    assert (found.name, found.durable, found.exclusive, found.auto_delete) == (name, durable, exclusive, auto_delete)


def test_a_queue_is_bound_to_the_sources_exchange_by_the_events_name() -> None:
    ((binding),) = declared_by(event(name="order.*")).bindings
    assert (binding.exchange, binding.routing_key) == (event_exchange("payments"), "order.*")
    ((binding),) = declared_by(event(), AUTO_DELETE_EVENT_EXCHANGES=True).bindings
    assert binding.exchange.auto_delete


def test_a_broadcast_without_identifier_gets_a_new_one_each_time() -> None:
    broadcast = event(handler_type="broadcast")
    names = {declared_by(broadcast).name for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("evt-payments-refunded--orders.handle-") for name in names)


def refund(payload: Any) -> None: ...


def test_a_function_route_has_the_functions_name_in_its_queue() -> None:
    config = {"AMQP_URI": "memory://", "SERVICE_NAME": "orders"}
    (found,) = Runner([Route(refund, event())], config).assembly.routes
    assert found.entrypoint.queue().name == "evt-payments-refunded--orders.refund"  # type: ignore[attr-defined]


# -- who gets what


@pytest.mark.parametrize(
    ("options", "of_one_service", "of_two_services"),
    [
        ({"handler_type": "service_pool"}, 1, 2),
        ({"handler_type": "singleton"}, 1, 1),
        ({"handler_type": "broadcast"}, 2, 2),
        ({"handler_type": "service_pool", "reliable_delivery": False}, 1, 2),
        ({"handler_type": "singleton", "reliable_delivery": False}, 1, 1),
    ],
)
def test_how_many_instances_get_each_event(
    broker_uri: str, outside: Outside, options: dict[str, Any], of_one_service: int, of_two_services: int
) -> None:
    for names, copies in ((("orders", "orders"), of_one_service), (("stock", "mail"), of_two_services)):
        (first, first_calls), (second, second_calls) = (recording(event(**options), name=name) for name in names)
        with started(broker_uri, first), started(broker_uri, second):
            for number in range(10):
                outside.event("payments", "refunded", number)
            outside.doors.send()  # every event is confirmed, so every queue has it
            wait_until_calls(10 * copies, first_calls, second_calls)
        assert sorted([*first_calls.rest(), *second_calls.rest()]) == sorted([*range(10)] * copies)


def wait_until_calls(count: int, *calls: Calls) -> None:
    """Wait until that many calls have come, without taking them."""
    done = threading.Event()

    def look() -> None:
        if sum(each.queue.qsize() for each in calls) >= count:
            done.set()
        else:
            timer = threading.Timer(0.005, look)
            timer.daemon = True
            timer.start()

    look()
    assert done.wait(SECONDS)


def dispatch_past_its_end(outside: Outside, payload: str, broker_uri: str) -> None:
    """Dispatch an event when a queue may just be going."""
    deadline, refused = time.monotonic() + SECONDS, refused_while_going(broker_uri)
    while True:
        try:
            return outside.event("payments", "refunded", payload)
        except refused:
            assert time.monotonic() < deadline, "a queue is neither there nor gone"
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, True),
        ({"reliable_delivery": False}, False),
        ({"handler_type": "singleton"}, True),
        ({"handler_type": "singleton", "reliable_delivery": False}, False),
        ({"handler_type": "broadcast"}, False),
        ({"handler_type": "broadcast", "reliable_delivery": True, "broadcast_identifier": "here"}, True),
    ],
)
def test_whether_events_wait_while_no_instance_runs(
    broker_uri: str, outside: Outside, options: dict[str, Any], kept: bool
) -> None:
    service, calls = recording(event(**options))
    with started(broker_uri, service, MAX_WORKERS=1):
        heard_outside = outside.listen("payments")
    dispatch_past_its_end(outside, "while it was down", broker_uri)
    heard_outside.next()
    with started(broker_uri, service, MAX_WORKERS=1):
        outside.event("payments", "refunded", "while it runs")
        expected = ["while it was down", "while it runs"] if kept else ["while it runs"]
        assert calls.several(len(expected)) == expected
    assert calls.rest() == []


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("order.*", ["order.created"]),
        ("order.#", ["order.created", "order.item.added", "order"]),
        ("#", ["order.created", "order.item.added", "order", "refund"]),
        ("*", ["order", "refund"]),
        ("order", ["order"]),
    ],
)
def test_wildcards_listen_to_all_events_that_match(
    broker_uri: str, outside: Outside, pattern: str, heard: list[str]
) -> None:
    service, calls = recording(event("shop", pattern))
    with started(broker_uri, service, MAX_WORKERS=1):
        outside.listen("shop")  # takes what the pattern leaves
        for name in ("order.created", "order.item.added", "order", "refund"):
            outside.event("shop", name, name)
        assert calls.several(len(heard)) == heard
    assert calls.rest() == []


def test_several_entrypoints_on_one_method(broker_uri: str, outside: Outside) -> None:
    service, calls = recording(event(), event(name="paid"), QueueListener("legacy"))
    with started(broker_uri, service):
        outside.event("payments", "refunded", 1)
        outside.event("payments", "paid", 2)
        outside.send(3, key="legacy")
        assert sorted(calls.several(3)) == [1, 2, 3]


def test_an_event_exchange_with_other_flags_is_adopted(
    broker_uri: str, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    outside.doors.publisher([event_exchange("payments", auto_delete=True)]).wait_ready(soon())
    service, calls = recording(event())
    with started(broker_uri, service):
        outside.event("payments", "refunded", 1)
        assert calls.next() == 1
    adopted = [record.getMessage() for record in caplog.records if "payments.events" in record.getMessage()]
    assert len(adopted) == 1


# -- queues of any kind


def test_a_kombu_queue_is_declared_with_its_exchange(broker_uri: str, outside: Outside) -> None:
    exchange = KombuExchange("jobs", type="direct", durable=True)
    service, calls = recording(QueueListener(KombuQueue("jobs.mail", exchange, routing_key="mail", durable=True)))
    with started(broker_uri, service):
        outside.send({"to": "a"}, to="jobs", key="mail")
        assert calls.next() == {"to": "a"}


def test_a_queue_that_exists_with_other_flags_ends_the_start(broker_uri: str, outside: Outside) -> None:
    outside.doors.declare(Queue("legacy", durable=True))
    service, _ = recording(QueueListener(KombuQueue("legacy", durable=True, message_ttl=5)))
    with pytest.raises(BrokerRefused, match="legacy"), started(broker_uri, service):
        pass


# -- verdicts


def left_in(outside: Outside, where: Queue = POOL_QUEUE) -> list[bytes]:
    return [delivery.body for delivery in outside.take_all(where)]


def test_requeue_on_error_delivers_again_until_it_succeeds(broker_uri: str, outside: Outside) -> None:
    errors: list[BaseException] = [ValueError("first"), ValueError("second")]

    def fail(payload: Any) -> None:
        if errors:
            raise errors.pop()

    service, calls = recording(event(requeue_on_error=True), then=fail)
    with started(broker_uri, service):
        outside.event("payments", "refunded", 1)
        assert calls.several(3) == [1, 1, 1]
    assert (left_in(outside), errors) == ([], [])


def test_the_filter_sees_the_translated_payload_and_what_it_drops_is_acknowledged(
    broker_uri: str, outside: Outside
) -> None:
    entrypoint = event(translators=[JSONTranslator()], payload_filter=lambda payload: payload["amount"] > 10)
    service, calls = recording(entrypoint)
    with started(broker_uri, service):
        for amount in (5, 50, 7, 70):
            outside.event("payments", "refunded", json.dumps({"amount": amount}))
        assert sorted(call["amount"] for call in calls.several(2)) == [50, 70]
    assert (calls.rest(), left_in(outside)) == ([], [])


def test_translators_of_the_route_come_after_those_of_the_entrypoint(broker_uri: str, outside: Outside) -> None:
    class Add(MessageTranslator):
        def __init__(self, letter: str) -> None:
            self.letter = letter

        def translate_message(self, message: Any) -> Any:
            return message + self.letter

    service, calls = recording(event(translators=[Add("b"), Add("c")]), translators=[Add("d"), Add("e")])
    with started(broker_uri, service):
        outside.event("payments", "refunded", "a")
        assert calls.next() == "abcde"


# -- bad input


class Fail(MessageTranslator):
    def translate_message(self, message: Any) -> Any:
        if message == "bad":
            raise LookupError("untranslatable")
        return message


def fail_on(error: BaseException) -> Any:
    def then(payload: Any) -> Any:
        if payload == "bad":
            raise error
        return True

    return then


async def async_exit(payload: Any) -> None:
    if payload == "bad":
        sys.exit("coroutine exits")


class FailingAfterCall(Dependency[int]):
    def get_dependency(self, worker: RunningCall) -> int:
        return 1

    def after_call(self, worker: RunningCall, result: Any, exc: BaseException | None) -> None:
        if worker.call.args == ("bad",):
            raise OSError("no commit")


BAD = b'"bad"'
DROPPED = "dropped a message from queue 'evt-payments-refunded--orders.handle' (exchange 'payments.events'"


@pytest.mark.parametrize(
    ("body", "content_type", "entrypoint", "options", "logged"),
    [
        (b"{not json", "application/json", event(), {}, [DROPPED, "not valid application/json", "{not json"]),
        (b"\xff\xfe\xfd", "application/json", event(), {}, [DROPPED]),
        (b"\x80\x04.", "application/x-python-serialize", event(), {}, [DROPPED, "is not accepted; ACCEPT allows"]),
        (b"<a/>", "text/xml", event(), {}, [DROPPED, "content type 'text/xml' is not accepted"]),
        (BAD, "application/json", event(), {"then": fail_on(ValueError("raises"))}, ["raises"]),
        (BAD, "application/json", event(), {"then": fail_on(SystemExit("exits"))}, ["exits"]),
        (BAD, "application/json", event(), {"then": fail_on(KeyboardInterrupt("interrupts"))}, ["interrupts"]),
        (BAD, "application/json", event(payload_filter=fail_on(LookupError("unfilterable"))), {}, ["unfilterable"]),
        (BAD, "application/json", event(translators=[Fail()]), {}, ["untranslatable"]),
        (BAD, "application/json", event(), {"translators": [Fail()]}, ["untranslatable"]),
        (BAD, "application/json", event(), {"attributes": {"after": FailingAfterCall()}}, ["no commit"]),
        (
            BAD,
            "application/json",
            event(),
            {"then": fail_on(ValueError("raises")), "on_failure": fail_on(OSError("callback broken"))},
            ["raises", "its callback", "callback broken"],
        ),
    ],
    ids=[
        "undecodable",
        "no text",
        "pickle",
        "unknown content type",
        "target raises",
        "sys.exit",
        "KeyboardInterrupt",
        "filter raises",
        "translator of the entrypoint raises",
        "translator of the route raises",
        "after_call raises",
        "callback raises",
    ],
)
def test_bad_input_is_logged_and_acknowledged_and_the_service_goes_on(
    broker_uri: str,
    outside: Outside,
    body: bytes,
    content_type: str,
    entrypoint: Entrypoint,
    options: dict[str, Any],
    logged: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, calls = recording(entrypoint, **options)
    with started(broker_uri, service, MAX_WORKERS=1):
        outside.send(body, to="payments.events", key="refunded", content_type=content_type)
        outside.event("payments", "refunded", "good")
        heard = [calls.next()]
        while heard[-1] != "good":
            heard.append(calls.next())
    assert (heard.count("bad") <= 1, calls.rest()) == (True, [])
    assert left_in(outside) == []
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors
    for record in errors:
        assert record.getMessage().startswith("Orders.handle: ")
        assert (record.service, record.method) == ("orders", "handle")  # type: ignore[attr-defined]
    for text in logged:
        assert text in caplog.text
    assert "guest:guest" not in caplog.text


def test_a_coroutine_that_exits_leaves_its_worker_alive(broker_uri: str, outside: Outside) -> None:
    config = {"SERVICE_NAME": "orders", "MAX_WORKERS": 1}
    with started(broker_uri, Route(async_exit, event()), **config) as runner:
        label = f"{__name__}.async_exit"
        for payload, error in (("bad", SystemExit), ("good", type(None))):
            with wait_for(runner, label) as waited:
                outside.event("payments", "refunded", payload)
            assert waited.outcome is not None
            assert isinstance(waited.outcome.error, error)


class Database(Dependency[str]):
    """Is down as long as it has errors."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    def get_dependency(self, worker: RunningCall) -> str:
        self.asked.put(None)
        if self.errors:
            raise self.errors.pop()
        return "connected"


def test_a_message_whose_dependency_cannot_be_had_is_held_off_and_comes_again(
    broker_uri: str, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    database, clock, errors = Database(), ManualClock(), 3
    service, calls = recording(event(), attributes={"database": database})
    database.errors += [ConnectionError("no route to database")] * errors
    with started(broker_uri, service, clock=clock) as runner:
        for pause in (0.1, 0.2, 0.4):
            with wait_for(runner, "Orders.handle"):
                if pause == 0.1:
                    outside.event("payments", "refunded", "precious")
                else:
                    clock.advance(pause / 2)
            clock.advance(pause * 0.99)
            assert calls.rest() == []
            assert len(clock.alarms) == 1, "not hot: it waits for the clock"
        clock.advance(0.4)
        assert calls.next() == "precious"
    assert left_in(outside) == []
    assert "a dependency could not be had, so it did not run" in caplog.text


def test_a_message_that_is_held_off_at_the_stop_goes_back(broker_uri: str, outside: Outside) -> None:
    database = Database()
    service, calls = recording(event(), attributes={"database": database})
    database.errors += [ConnectionError("no route to database")]
    with started(broker_uri, service, clock=ManualClock()) as runner, wait_for(runner, "Orders.handle"):
        outside.event("payments", "refunded", "precious")
    assert calls.rest() == []
    assert left_in(outside) == [b'"precious"']


# -- context data


class Hops:
    """Two services: the first passes on what it hears, the second hears that."""

    def __init__(self) -> None:
        self.second, self.second_calls = recording(event("first", "passed_on"), name="second")

        class First:
            name = "first"
            dispatch = Producer()

            @EventListener("web", "clicked")
            def handle(self, payload: Any) -> None:
                self.dispatch("passed_on", payload)

        self.first = First


@pytest.fixture
def hops() -> Hops:
    return Hops()


def test_context_data_and_call_ids_travel_through_two_services(broker_uri: str, outside: Outside, hops: Hops) -> None:
    headers = {
        "nameko.call_id_stack": ["web.index.1"],
        "nameko.user_id": 7,
        "nameko.nested": {"a": [None]},
        "foreign": "f",
    }
    with started(broker_uri, hops.first), started(broker_uri, hops.second):
        outside.event("web", "clicked", {"x": 1}, headers)
        payload, info = hops.second_calls.next_call()
    assert payload == {"x": 1}
    assert info.data == {"user_id": 7, "nested": {"a": [None]}, "foreign": "f"}
    assert info.call_id_stack[0] == "web.index.1"
    assert [call_id.rsplit(".", 1)[0] for call_id in info.call_id_stack[1:]] == ["first.handle", "second.handle"]
    assert info.immediate_parent_call_id == info.call_id_stack[1]


def test_headers_of_our_own_never_travel_on(broker_uri: str, outside: Outside, hops: Hops) -> None:
    heard = outside.listen("first")
    headers = {"mf-retry-count": 2, "nameko.mf-retry-count": 2, "mf-exchange": "x", "nameko.lang": "de"}
    with started(broker_uri, hops.first):
        outside.event("web", "clicked", 1, headers)
        sent = heard.next().headers
    assert set(sent) == {"nameko.lang", "nameko.call_id_stack"}


@pytest.mark.parametrize(("tracked", "kept"), [(None, 10), (3, 3), (0, 0)])
def test_the_stack_is_trimmed_as_configured(broker_uri: str, outside: Outside, tracked: int | None, kept: int) -> None:
    stack = [f"a.b.{number}" for number in range(15)]
    service, calls = recording(event())
    config = {} if tracked is None else {"parent_calls_tracked": tracked}
    with started(broker_uri, service, **config):
        outside.event("payments", "refunded", 1, {"nameko.call_id_stack": stack})
        _, info = calls.next_call()
    assert list(info.call_id_stack[:-1]) == stack[15 - kept :]


def test_what_a_call_puts_into_its_context_goes_out_with_its_events(broker_uri: str, outside: Outside) -> None:
    service, _ = recording(event(), attributes={"dispatch": Producer()})
    heard = outside.listen("orders")
    with started(broker_uri, service) as runner:
        given(runner, "dispatch", user_id=7)("created", None)
        assert heard.next().headers == {"nameko.user_id": 7, "nameko.call_id_stack": ["orders.handle.1"]}


# -- retries


class Failing:
    """Fails as often as it is told, and then succeeds."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.left = times
        self.error = error or TimeoutError("no answer")

    def __call__(self, payload: Any) -> None:
        if self.left:
            self.left -= 1
            raise self.error


class Retrying:
    """A service that retries after a millisecond, or another interval, and writes down each attempt and the callback's.

    Args:
        failures: How many attempts fail.
        max_retries: How many retries there are.
        held: The attempt that waits before it fails, until the service stops: so this service never sees the next one.
        interval: Milliseconds between the attempts.
    """

    def __init__(self, failures: int, max_retries: int | None = 3, held: int | None = None, interval: int = 1) -> None:
        self.may_fail = may_fail = threading.Event()
        attempts: queue.SimpleQueue[Attempt] = queue.SimpleQueue()
        failed: queue.SimpleQueue[tuple[Any, Attempt, BaseException]] = queue.SimpleQueue()
        failing = Failing(failures)

        class Orders:
            name = "orders"
            retry = BackOffData()

            @route(event(), backoff=AsyncBackOff(max_retries, interval), on_failure="handle_failed")
            def handle(self, payload: Any) -> None:
                attempts.put(self.retry)
                assert self.retry.retry_count != held or may_fail.wait(SECONDS)
                failing(payload)

            def handle_failed(self, payload: Any, exception: BaseException) -> None:
                failed.put((payload, self.retry, exception))

        self.service, self.attempts, self.failed = Orders, attempts, failed

    def next_attempt(self) -> Attempt:
        return self.attempts.get(timeout=SECONDS)


def test_a_failed_call_is_tried_again_and_knows_it(broker_uri: str, outside: Outside) -> None:
    retrying = Retrying(failures=2)
    with started(broker_uri, retrying.service):
        outside.event("payments", "refunded", {"id": 1})
        attempts = [retrying.next_attempt() for _ in range(3)]
    assert [attempt.retry_count for attempt in attempts] == [0, 1, 2]
    assert [attempt.max_retries for attempt in attempts] == [3, 3, 3]
    assert (attempts[0].last_retry, attempts[0].history) == (None, ())
    for attempt in attempts[1:]:
        assert attempt.last_retry is not None
        assert attempt.last_retry.tzinfo is not None
    history = [(failed.attempt, failed.exc_type, failed.text) for failed in attempts[2].history]
    assert history == [(0, "TimeoutError", "no answer"), (1, "TimeoutError", "no answer")]
    assert retrying.failed.empty()
    assert left_in(outside) == []


def test_the_callback_runs_once_after_the_last_retry(broker_uri: str, outside: Outside) -> None:
    retrying = Retrying(failures=99, max_retries=2)
    with started(broker_uri, retrying.service):
        outside.event("payments", "refunded", {"id": 1})
        payload, attempt, exception = retrying.failed.get(timeout=SECONDS)
    assert (payload, attempt.retry_count, attempt.max_retries) == ({"id": 1}, 2, 2)
    assert isinstance(exception, TimeoutError)
    assert retrying.attempts.qsize() == 3
    assert retrying.failed.empty()
    assert left_in(outside) == []


def test_a_retry_keeps_the_message_as_it_was(broker_uri: str, outside: Outside) -> None:
    body = b'{"b": 1,   "a": "\\u00e4"}'
    headers: Mapping[str, Any] = {"nameko.user_id": 7, "nameko.call_id_stack": ["web.index.1"], "foreign": "f"}
    retrying = Retrying(failures=99, held=0)
    with started(broker_uri, retrying.service) as runner:
        let_end_at_stop(runner, retrying.may_fail)
        outside.send(body, to="payments.events", key="refunded", headers=headers, correlation_id="c-1", priority=3)
        retrying.next_attempt()
    inbox, _ = outside.doors.consuming(POOL_QUEUE)
    copy = inbox.next()
    assert copy.body == body
    assert {name: copy.headers[name] for name in headers} == headers
    assert (copy.headers["mf-exchange"], copy.headers["mf-routing-key"]) == ("payments.events", "refunded")
    assert copy.headers["mf-retry-count"] == 1
    ours = {"mf-exchange", "mf-routing-key", "mf-first-failed", "mf-retry-count", "mf-retry-last", "mf-retry-history"}
    added_by_the_broker = {name for name in copy.headers if name.startswith("x-")}
    assert set(copy.headers) == set(headers) | ours | added_by_the_broker
    properties = copy.properties
    assert (copy.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.correlation_id, properties.delivery_mode, properties.expiration) == ("c-1", 2, None)


def test_a_retry_goes_to_its_own_queue_alone_and_in_nobodys_name(broker_uri: str, outside: Outside) -> None:
    """RabbitMQ sends a copy that keeps ``CC`` to those queues as well, and refuses one with another's ``user_id``."""
    retrying = Retrying(failures=99, held=0)
    with started(broker_uri, retrying.service) as runner:
        let_end_at_stop(runner, retrying.may_fail)
        user = urlsplit(broker_uri).username
        outside.send(1, to="payments.events", key="refunded", headers={"CC": ["elsewhere"]}, user_id=user)
        retrying.next_attempt()
    inbox, _ = outside.doors.consuming(POOL_QUEUE)
    copy = inbox.next()
    assert copy.headers["mf-retry-count"] == 1
    assert "CC" not in copy.headers
    assert copy.properties.user_id is None


def test_the_origin_survives_a_second_retry(broker_uri: str, outside: Outside) -> None:
    retrying = Retrying(failures=99, held=1)
    with started(broker_uri, retrying.service) as runner:
        let_end_at_stop(runner, retrying.may_fail)
        outside.event("payments", "refunded", 1)
        assert [retrying.next_attempt().retry_count for _ in range(2)] == [0, 1]
    inbox, _ = outside.doors.consuming(POOL_QUEUE)
    headers = inbox.next().headers
    assert headers["mf-retry-count"] == 2
    assert (headers["mf-exchange"], headers["mf-routing-key"]) == ("payments.events", "refunded")


def test_the_context_of_a_retry_is_that_of_the_first_attempt(broker_uri: str, outside: Outside) -> None:
    service, calls = recording(event(), then=Failing(2), backoff=AsyncBackOff(3, 1))
    with started(broker_uri, service):
        outside.event("payments", "refunded", 1, {"nameko.call_id_stack": ["web.index.1"], "nameko.user_id": 7})
        infos = [calls.next_call()[1] for _ in range(3)]
    assert [(len(info.call_id_stack), info.call_id_stack[0]) for info in infos] == [(2, "web.index.1")] * 3
    assert [info.data for info in infos] == [{"user_id": 7}] * 3, "no trace of the delay in the context data"


def test_the_original_is_not_acknowledged_before_the_broker_has_the_copy(amqp_uri: str) -> None:
    outside = Outside(amqp_uri)
    retrying = Retrying(failures=1, interval=40)
    delay_queue = f"{POOL_QUEUE.name}.mf-delay.40"
    try:
        outside.doors.declare(Queue(delay_queue, arguments={"x-max-length": 7}))  # so the copy is refused
        with started(amqp_uri, retrying.service) as runner:
            with wait_for(runner, "Orders.handle"):
                outside.event("payments", "refunded", {"id": 1})
            assert retrying.next_attempt().retry_count == 0
            assert retrying.next_attempt().retry_count == 0, "the original came back after a pause"
        assert retrying.failed.empty()
        assert left_in(outside) == []
    finally:
        outside.close()


def test_a_quorum_queue_of_a_service_has_its_delay_queues_before_anything_fails(amqp_uri: str, rabbit: VHost) -> None:
    jobs = Queue("jobs", arguments={"x-queue-type": "quorum"})
    service, _ = recording(QueueListener(jobs), backoff=AsyncBackOff(3, 10_000, factor=2))
    with started(amqp_uri, service):
        names = {"jobs", *(f"jobs.mf-delay.{delay}.quorum" for delay in (10_000, 20_000, 40_000))}
        rabbit.wait_for(lambda _: names <= set(rabbit.queues()), what="the delay queues")
        assert set(rabbit.queues()) == names


def test_jitter_makes_no_queue_for_each_millisecond(amqp_uri: str, rabbit: VHost) -> None:
    outside = Outside(amqp_uri)
    service, calls = recording(event(), then=Failing(50), backoff=AsyncBackOff(1, 10_000, jitter=0.5))
    try:
        with started(amqp_uri, service):
            for number in range(50):
                outside.event("payments", "refunded", number)
            calls.several(50)
            rabbit.wait_until_drained(POOL_QUEUE.name)
        assert 1 < len([name for name in rabbit.queues() if ".mf-delay." in name]) <= 9
    finally:
        outside.close()


def test_a_delayed_retry_lets_other_messages_pass(broker_uri: str, outside: Outside) -> None:
    both_sent, fail = threading.Event(), fail_on(ValueError("bad"))

    def handle(payload: Any) -> None:
        assert both_sent.wait(SECONDS)
        fail(payload)

    service, calls = recording(event(), then=handle, backoff=AsyncBackOff(1, 100))
    with started(broker_uri, service, MAX_WORKERS=1):
        outside.event("payments", "refunded", "bad")
        outside.event("payments", "refunded", "good")
        both_sent.set()
        assert calls.several(3) == ["bad", "good", "bad"]


# -- stop


@pytest.mark.parametrize(
    ("mode", "handled", "left"), [("thread", ["0"], [b'"1"', b'"2"']), ("greedy_thread", ["0", "1", "2"], [])]
)
def test_what_waits_at_the_stop_is_finished_or_handed_back(
    broker_uri: str, outside: Outside, mode: str, handled: list[str], left: list[bytes]
) -> None:
    running_call, may_end = threading.Event(), threading.Event()

    def wait(payload: Any) -> None:
        running_call.set()
        assert may_end.wait(SECONDS)

    service, calls = recording(event(), then=wait)
    with started(broker_uri, service, MAX_WORKERS=1, PREFETCH_COUNT=3, WORKER_MODE=mode) as runner:
        for number in range(3):
            outside.event("payments", "refunded", str(number))
        assert running_call.wait(SECONDS)
        wait_until_received(runner, 2)
        let_end_at_stop(runner, may_end)
    assert calls.rest() == handled
    deliveries = outside.take_all(POOL_QUEUE)
    assert [delivery.body for delivery in deliveries] == left, "the running call's message is acknowledged"


def wait_until_received(runner: Runner, count: int) -> None:
    """Wait until that many items wait for a worker."""
    jobs = runner.assembly.spawners["default"].jobs  # type: ignore[attr-defined]
    enough = threading.Event()

    def look() -> None:
        if jobs.qsize() >= count:
            enough.set()
        else:
            timer = threading.Timer(0.005, look)
            timer.daemon = True
            timer.start()

    look()
    assert enough.wait(SECONDS)
