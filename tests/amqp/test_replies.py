"""The reply door: requests go out and answers come in, and every call ends, whatever happens to broker and queue."""

import concurrent.futures
import json
import logging
import math
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from micro_framework.amqp.calls import RPCProxy
from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.amqp.replies import ReplyDoor
from micro_framework.calls import Call, CallIdentity
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import (
    BrokerRefused,
    IncorrectSignature,
    MalformedRequest,
    MethodNotFound,
    PublishError,
    RemoteError,
    ReplyQueueLost,
    RPCTimeout,
    UndecodableMessage,
    UnknownService,
    Unroutable,
    WireError,
)
from micro_framework.rpc import register_exception
from micro_framework.rpc.proxies import ServiceProxy
from micro_framework.runner import Runner
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.errors import REGISTERED_EXCEPTIONS
from micro_framework.wire.messages import Properties
from tests.amqp.peers import RawService, break_connections, delete_queue
from tests.brokers.probes import mf_threads
from tests.outside import SECONDS, Outside
from tests.versions import as_declared


class Calling:
    """Calls by its proxy, which the tests use as its targets do."""

    name = "calling"
    payments = RPCProxy("payments")

    @TimeEntrypoint(3600)
    def tick(self): ...


def proxy_of(runner: Runner, *, deadline: float | None = None, **context: Any) -> ServiceProxy:
    """What a call of the service would get for its proxy."""
    (bound,) = [route for route in runner.assembly.routes if route.plan.host.service == "calling"]
    identity = CallIdentity("calling", "tick", ("origin.method.0", "calling.tick.1"))
    worker: Any = SimpleNamespace(call=Call(identity, context=context, deadline=deadline), host=bound.host)
    found: ServiceProxy = dict(bound.plan.target.attributes)["payments"].get_dependency(worker)
    return found


def door_of(runner: Runner) -> ReplyDoor:
    (found,) = [each for each in runner.started if isinstance(each, ReplyDoor)]
    return found


@pytest.fixture
def vhost(request: pytest.FixtureRequest, broker_uri: str) -> VHost | None:
    """The virtual host of the test, where the broker is RabbitMQ."""
    return None if broker_uri.startswith("memory://") else request.getfixturevalue("rabbit")


@pytest.fixture
def service(outside: Outside) -> RawService:
    """The service that is called."""
    return RawService(outside, "payments")


@pytest.fixture
def runner(broker_uri: str, service: RawService) -> Iterator[Runner]:
    """A service that calls it."""
    with running(Calling, config={"AMQP_URI": broker_uri}) as runner:
        yield runner


@pytest.fixture
def payments(runner: Runner) -> ServiceProxy:
    return proxy_of(runner)


# -- on the wire


def test_a_request_is_namekos(runner: Runner, service: RawService) -> None:
    before = time.time()
    payments = proxy_of(runner, user_id=7, nothing=None)
    call = payments.charge.call_async(1, items=["é"])
    request = service.next()
    assert (request.exchange, request.routing_key) == ("nameko-rpc", "payments.charge")
    assert request.body == b'{"args": [1], "kwargs": {"items": ["\\u00e9"]}}'
    headers = dict(request.headers)
    deadline = headers.pop("mf-deadline")
    assert headers == {"nameko.user_id": 7, "nameko.call_id_stack": ["origin.method.0", "calling.tick.1"]}
    assert before + 60 <= deadline / 1000 + 0.001 <= time.time() + 60.001
    properties = request.properties
    assert properties == Properties(
        "application/json",
        "utf-8",
        request.headers,
        2,
        0,
        correlation_id=call.correlation_id,
        reply_to=door_of(runner).identifier,
    )
    service.reply(request, {"result": 1, "error": None})
    assert call.result(SECONDS) == 1


def test_the_reply_queue_is_namekos_and_goes_with_its_client(rabbit: VHost) -> None:
    with running(Calling, config={"AMQP_URI": rabbit.uri}) as runner:
        (queue,) = rabbit.queues().values()
        identifier = door_of(runner).identifier
        assert queue.name == f"rpc.reply-calling-{identifier}"
        assert (queue.durable, queue.exclusive, queue.auto_delete) == (True, False, False)
        assert as_declared(queue.arguments) == {"x-expires": 300_000}
        (binding,) = rabbit.bindings()
        assert (binding.source, binding.routing_key) == ("nameko-rpc", identifier)
        rabbit.wait_for_consumers(queue.name)
        assert rabbit.consumers(queue.name) == 1
    assert rabbit.queues() == {}
    assert mf_threads() == []
    rabbit.wait_for(lambda _: not rabbit.connections(), what="the connections to end")


def test_all_services_of_a_process_share_one_queue(rabbit: VHost) -> None:
    other = type("Other", (Calling,), {"name": "other", "stock": RPCProxy("stock")})
    with running(Calling, other, config={"AMQP_URI": rabbit.uri}) as runner:
        assert len(rabbit.queues()) == 1
        assert door_of(runner)


def test_replies_are_acknowledged(runner: Runner, payments: ServiceProxy, service: RawService) -> None:
    calls = [payments.charge.call_async(number) for number in range(50)]
    for number in range(50):
        service.answer(number)
    assert sorted(call.result(SECONDS) for call in calls) == list(range(50))


# -- answers


def error(path: str, *args: Any, value: str = "text") -> dict[str, Any]:
    return {"exc_type": path.rpartition(".")[2], "exc_path": path, "exc_args": list(args), "value": value}


@register_exception
class NoFunds(Exception):
    """Known to both sides."""


@register_exception
class TakesTwo(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one, two)


@pytest.mark.parametrize(
    ("answer", "kind", "args"),
    [
        (error("nameko.exceptions.MethodNotFound", "nope"), MethodNotFound, ("nope",)),
        (error("nameko.exceptions.IncorrectSignature", "f() got"), IncorrectSignature, ("f() got",)),
        (error("nameko.exceptions.MalformedRequest", "missing"), MalformedRequest, ("missing",)),
        (error(f"{__name__}.NoFunds", "7", "None"), NoFunds, ("7", "None")),
        (error(f"{__name__}.TakesTwo", "1"), RemoteError, ("TakesTwo text",)),
        (error("builtins.KeyError", "missing"), RemoteError, ("KeyError text",)),
        (error("os.system", "true"), RemoteError, ("system text",)),
        (error("nameko.exceptions.UnknownService", "x"), RemoteError, ("UnknownService text",)),
        ({"exc_type": "Odd"}, RemoteError, ("Odd None",)),
    ],
)
def test_errors_come_back_as_what_they_are_or_as_remote_errors(
    payments: ServiceProxy, service: RawService, answer: Any, kind: type[Exception], args: tuple[Any, ...]
) -> None:
    call = payments.charge.call_async()
    service.answer(error=answer)
    with pytest.raises(kind) as caught:
        call.result(SECONDS)
    assert type(caught.value) is kind
    assert caught.value.args == args
    assert f"{__name__}.NoFunds" in REGISTERED_EXCEPTIONS


@pytest.mark.parametrize(
    ("body", "content_type", "kind", "text"),
    [
        (b"{nope", "application/json", UndecodableMessage, "not valid application/json"),
        (b"...", "application/x-python-serialize", UndecodableMessage, "is not accepted"),
        ([1], "application/json", WireError, "expected a reply with a result or an error, got a list"),
        ({}, "application/json", WireError, "got an object with the keys \\(none\\)"),
        ({"error": [1]}, "application/json", WireError, "expected an error object"),
        (b"", None, WireError, "got a str"),
    ],
)
def test_an_answer_that_is_none_is_an_error(
    payments: ServiceProxy, service: RawService, body: Any, content_type: str | None, kind: type[Exception], text: str
) -> None:
    call = payments.charge.call_async()
    service.reply(service.next(), body, content_type=content_type)
    with pytest.raises(kind, match=text):
        call.result(SECONDS)


def test_answers_for_nobody_are_dropped(payments: ServiceProxy, service: RawService) -> None:
    late = payments.charge.with_timeout(0.01).call_async()
    with pytest.raises(RPCTimeout):
        late.result()
    request = service.next()
    for _ in range(2):
        service.reply(request, {"result": "late", "error": None})
    call = payments.charge.call_async()
    service.answer("in time")
    assert call.result(SECONDS) == "in time"


def test_many_threads_share_the_queue(payments: ServiceProxy, service: RawService) -> None:
    def answer_all() -> None:
        for _ in range(400):
            request = service.next()
            (number,) = json.loads(request.body)["args"]
            service.reply(request, {"result": number * 2, "error": None})

    answering = threading.Thread(target=answer_all)
    answering.start()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(payments.charge, range(400))) == [number * 2 for number in range(400)]
    answering.join(SECONDS)


# -- nobody there, or nobody in time


def test_an_unknown_service_is_told_at_once(runner: Runner, payments: ServiceProxy) -> None:
    for call in (payments["a.b"], lambda: payments["a.b"].call_async().result()):
        started = time.monotonic()
        with pytest.raises(UnknownService, match="^Unknown service `payments`$") as caught:
            call()
        assert isinstance(caught.value.__cause__, Unroutable)
        assert time.monotonic() - started < 30  # not the deadline's 60 s
    assert len(door_of(runner).pending) == 0


@pytest.mark.parametrize("how", ["waiting", "async"])
def test_without_an_answer_the_call_ends_at_its_deadline_and_says_what_is_known(
    payments: ServiceProxy, service: RawService, how: str
) -> None:
    quick = payments.charge.with_timeout(0.05)
    with pytest.raises(RPCTimeout) as caught:
        quick() if how == "waiting" else quick.call_async().result()
    expected = "payments.charge did not answer within 0.05 s: its request is in the service's queue or being worked on"
    assert str(caught.value).startswith(expected)
    assert isinstance(caught.value, TimeoutError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), vars(copy)) == (str(caught.value), vars(caught.value))
    assert (copy.service_name, copy.method, copy.seconds) == ("payments", "charge", 0.05)


@pytest.mark.parametrize(("timeout", "expected"), [(0.05, "0.05 s"), (None, None)])
def test_the_configured_deadline(
    broker_uri: str, service: RawService, timeout: float | None, expected: str | None
) -> None:
    with running(Calling, config={"AMQP_URI": broker_uri, "RPC_TIMEOUT": timeout}) as runner:
        payments = proxy_of(runner)
        call = payments.charge.call_async()
        request = service.next()
        if expected is None:
            assert "mf-deadline" not in request.headers
            assert call.deadline == math.inf
            service.reply(request, {"result": 1, "error": None})
            assert payments.charge.with_timeout(0.05).call_async().seconds == 0.05
            assert call.result(SECONDS) == 1
        else:
            with pytest.raises(RPCTimeout, match=expected):
                call.result()


def test_a_call_made_inside_has_no_more_time_than_its_maker(runner: Runner, service: RawService) -> None:
    deadline = time.time() + 20
    inside = proxy_of(runner, deadline=deadline)
    call = inside.charge.call_async()
    assert service.next().headers["mf-deadline"] <= deadline * 1000
    assert call.seconds <= 20
    assert inside.charge.with_timeout(math.inf).call_async().seconds <= 20
    assert inside.charge.with_timeout(1).call_async().seconds == 1


def test_past_its_makers_deadline_a_call_is_not_made(runner: Runner, service: RawService) -> None:
    late = proxy_of(runner, deadline=time.time() - 1)
    with pytest.raises(RPCTimeout, match=r"payments\.charge did not answer within 0 s: it was not called, for"):
        late.charge()
    call = proxy_of(runner).charge.call_async("the next")
    assert service.arguments() == (["the next"], {})
    call.cancel()


def test_arguments_that_cannot_be_sent_are_the_callers_error(runner: Runner, payments: ServiceProxy) -> None:
    with pytest.raises(TypeError, match="object"):
        payments.charge(object())
    with pytest.raises(PublishError, match="cannot travel in an AMQP table"):
        proxy_of(runner, odd=object()).charge()
    assert len(door_of(runner).pending) == 0


def test_a_name_too_long_for_amqp_is_told_at_once(amqp_uri: str) -> None:
    with running(Calling, config={"AMQP_URI": amqp_uri}) as runner:
        with pytest.raises(PublishError, match="at most 255 bytes"):
            proxy_of(runner)["x" * 300]()


def test_a_cancelled_call_is_forgotten(runner: Runner, payments: ServiceProxy, service: RawService) -> None:
    call = payments.charge.call_async()
    request = service.next()
    assert call.cancel()
    assert len(door_of(runner).pending) == 0
    service.reply(request, {"result": 1, "error": None})
    with pytest.raises(concurrent.futures.CancelledError):
        call.result()


# -- callbacks and the connection's thread


def test_a_callback_that_waits_holds_up_neither_answers_nor_other_callbacks(
    payments: ServiceProxy, service: RawService
) -> None:
    release, told = threading.Event(), threading.Event()
    names: list[str] = []
    held = payments.charge.call_async()
    held.add_done_callback(lambda _: (names.append(threading.current_thread().name), release.wait(SECONDS)))
    service.answer(1)
    try:
        call = payments.charge.call_async()
        call.add_done_callback(lambda _: told.set())
        service.answer(2)
        assert call.result(SECONDS) == 2
        assert told.wait(SECONDS)
    finally:
        release.set()
    assert all(name.startswith("mf-rpc-callbacks") for name in names)


def test_a_callback_may_call(payments: ServiceProxy, service: RawService) -> None:
    results: list[Any] = []
    told = threading.Event()
    first = payments.charge.call_async()
    first.add_done_callback(lambda _: (results.append(payments.charge("inside")), told.set()))
    service.answer(1)
    service.answer(2)
    assert told.wait(SECONDS)
    assert results == [2]


def test_a_callback_that_raises_is_logged(
    runner: Runner, payments: ServiceProxy, service: RawService, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise ValueError("broken")

    call = payments.charge.call_async()
    told = threading.Event()
    call.add_done_callback(fail)
    call.add_done_callback(lambda _: told.set())
    service.answer(1)
    assert told.wait(SECONDS)
    runner.stop()  # which ends every callback
    assert "a callback of an RPC call raised" in caplog.text


# -- the queue is lost


def test_pending_calls_are_told_at_once_when_the_reply_queue_is_deleted(
    broker_uri: str, runner: Runner, payments: ServiceProxy, service: RawService
) -> None:
    door = door_of(runner)
    waiting: concurrent.futures.Future[BaseException | None]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: raised(payments.charge))
        calls = [payments.charge.with_timeout(math.inf).call_async() for _ in range(5)]
        requests = [service.next() for _ in range(6)]
        delete_queue(broker_uri, door.queue.name)
        errors = [call.exception(SECONDS) for call in calls] + [waiting.result(SECONDS)]
    for found in errors:
        assert isinstance(found, ReplyQueueLost)
        assert str(found) == (
            f"the answer of payments.charge may be lost: the reply queue {door.queue.name!r} was deleted or has "
            "expired; the call may have been carried out"
        )
    assert len(door.pending) == 0
    # It is there again, and serves: an answer that comes after all is for nobody.
    runner.lifecycle.wait_until(lambda: runner.ready, SECONDS)
    service.reply(requests[0], {"result": "late", "error": None})
    call = payments.charge.call_async()
    service.answer("again")
    assert call.result(SECONDS) == "again"


def raised(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - handed to the test
        return error
    return None


def test_answers_wait_in_the_queue_while_the_connection_is_lost(
    broker_uri: str, runner: Runner, payments: ServiceProxy, service: RawService, vhost: VHost | None
) -> None:
    calls = [payments.charge.call_async(number) for number in range(10)]
    requests = [service.next() for _ in range(10)]
    break_connections(broker_uri, vhost)
    for request in requests:
        service.reply(request, {"result": json.loads(request.body)["args"][0], "error": None})
    assert [call.result(30) for call in calls] == list(range(10))


# -- the broker is away


@pytest.fixture
def hurt(own_node: RabbitMQNode) -> Iterator[tuple[RabbitMQNode, Runner, Outside]]:
    """A service that calls by a node that the test may stop, and somebody else there."""
    uri = own_node.vhost().uri
    outside = Outside(uri)
    try:
        with running(Calling, config={"AMQP_URI": uri, "HEARTBEAT": 1}) as runner:
            yield own_node, runner, outside
    finally:
        own_node.start()
        outside.close()


def test_calls_made_while_the_broker_is_away_are_sent_when_it_is_back_or_never(
    hurt: tuple[RabbitMQNode, Runner, Outside],
) -> None:
    node, runner, outside = hurt
    service = RawService(outside, "payments")
    payments = proxy_of(runner)
    node.stop()
    assert runner.lifecycle.wait_until(lambda: not runner.ready, SECONDS)
    given_up = payments.charge.with_timeout(0.05).call_async("given up")
    with pytest.raises(RPCTimeout) as caught:
        given_up.result()
    text = str(caught.value)
    assert text.startswith("payments.charge did not answer within 0.05 s: the message for exchange 'nameko-rpc'")
    assert "was not sent in time (not connected: " in text
    assert text.endswith("and will not be")
    cancelled = payments.charge.call_async("cancelled")
    assert cancelled.cancel()
    kept = payments.charge.call_async("kept")
    node.start()
    assert service.arguments() == (["kept"], {})
    kept.cancel()
    again = payments.charge.call_async("again")
    service.answer()  # of all that was called only these two have come
    assert again.result(30) is None


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_calls_that_were_sent_before_the_broker_went_are_answered_after_it(
    hurt: tuple[RabbitMQNode, Runner, Outside], how: str
) -> None:
    node, runner, outside = hurt
    service = RawService(outside, "payments")
    payments = proxy_of(runner)
    sent = payments.charge.call_async("sent")
    request = service.next()
    node.persist_declarations()  # a client that is back before its service asks for the queue
    getattr(node, how)()
    assert runner.lifecycle.wait_until(lambda: not runner.ready, SECONDS)
    waiting = payments.charge.call_async("waiting")
    node.start()
    service.reply(request, {"result": "sent", "error": None})
    while (request := service.next()).properties.correlation_id != waiting.correlation_id:
        pass  # what was not confirmed is sent again
    service.reply(request, {"result": "waiting", "error": None})
    assert (sent.result(30), waiting.result(30)) == ("sent", "waiting")


def test_an_unsent_call_survives_the_loss_of_the_queue(runner: Runner, payments: ServiceProxy) -> None:
    """Its answer will find the queue that is declared again."""
    door = door_of(runner)
    call = payments.charge.call_async()
    call.confirmation = SimpleNamespace(written=False, wait=lambda deadline: None)
    door.on_lost()
    assert not call.done()
    call.confirmation.written = True
    door.on_lost()
    assert isinstance(call.exception(), ReplyQueueLost)


def test_a_call_that_ends_before_it_is_sent_is_not_sent(runner: Runner, payments: ServiceProxy) -> None:
    """The deadline may pass between making a call and handing it to the connection."""
    door = door_of(runner)
    waits: list[float] = []

    def publish(publication: Any) -> Any:
        (call,) = door.pending.calls.values()
        door.pending.expire(call)
        return SimpleNamespace(written=False, add_done_callback=lambda callback: None, wait=waits.append)

    door.door.publish = publish  # type: ignore[method-assign]
    call = payments.charge.call_async()
    assert isinstance(call.exception(), RPCTimeout)
    assert waits == [0.0], "whoever gives a publish up before it is written keeps it from being written"


# -- the end


def test_calls_that_wait_are_told_of_the_stop(broker_uri: str, service: RawService) -> None:
    runner = Runner([Calling], {"AMQP_URI": broker_uri})
    told = threading.Event()
    with runner:
        payments = proxy_of(runner)
        call = payments.charge.with_timeout(math.inf).call_async()
        call.add_done_callback(lambda _: told.set())
        service.next()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: raised(payments.charge))
            service.next()
            runner.stop()
            errors = [call.exception(0), waiting.result(SECONDS)]
    assert told.wait(SECONDS)
    for found in errors:
        assert isinstance(found, ReplyQueueLost)
        assert "was given up when its client was stopped; the call may have been carried out" in str(found)
    with pytest.raises(PublishError, match="it was stopped"):
        payments.charge()


def test_a_stop_while_the_broker_is_away_does_not_wait_for_it(hurt: tuple[RabbitMQNode, Runner, Outside]) -> None:
    node, runner, _ = hurt
    payments = proxy_of(runner)
    node.stop()
    assert runner.lifecycle.wait_until(lambda: not runner.ready, SECONDS)
    call = payments.charge.call_async()
    runner.stop()
    found = call.exception(0)
    assert type(found) is PublishError
    assert str(found).startswith("payments.charge was not called: the reply queue 'rpc.reply-calling-")
    assert mf_threads_of_calls() == []


def mf_threads_of_calls() -> list[str]:
    return [name for name in mf_threads() if "rpc" in name]


def test_a_broker_that_refuses_ends_the_start_and_the_calls(amqp_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = amqp_uri.replace("guest:guest@", "guest:s3cret-pass@")
    assert wrong != amqp_uri
    runner = Runner([Calling], {"AMQP_URI": wrong})
    with pytest.raises(BrokerRefused, match="login as 'guest' was refused"):
        runner.start()
    with pytest.raises(PublishError, match="cannot publish: "):
        proxy_of(runner).charge()
    assert "s3cret-pass" not in caplog.text


def test_calls_that_wait_are_told_when_the_broker_refuses_for_good(runner: Runner, payments: ServiceProxy) -> None:
    call = payments.charge.with_timeout(math.inf).call_async()
    door_of(runner).refused(BrokerRefused("the user is gone"))
    found = call.exception(SECONDS)
    assert isinstance(found, ReplyQueueLost)
    assert "cannot be reached any more (the user is gone)" in str(found)


def test_nothing_is_left_of_many_calls(broker_uri: str) -> None:
    with running(Calling, Echo, config={"AMQP_URI": broker_uri}) as runner:
        echo = ServiceProxy(proxy_of(runner)._caller, "echo")
        for _ in range(10):
            calls = [echo.echo.call_async(number) for number in range(200)]
            assert [call.result(60) for call in calls] == list(range(200))
        door = door_of(runner)
        assert len(door.pending) == 0
        assert len(door.pending.clock.alarms) < 1500, "alarms that were taken back are dropped"
    assert mf_threads_of_calls() == []


class Echo:
    name = "echo"

    @RPCListener()
    def echo(self, value):
        return value


@pytest.mark.fault
@pytest.mark.timeout(300)
def test_a_broker_killed_twice_under_load_leaves_no_call_without_an_outcome(
    own_node: RabbitMQNode, soak_size: Callable[[int], int]
) -> None:
    vhost = own_node.vhost()
    config = {"AMQP_URI": vhost.uri, "HEARTBEAT": 2, "MAX_WORKERS": 20}
    callers, each = 20, soak_size(25)
    answered, late = threading.Semaphore(0), 60.0
    outcomes: list[Any] = []

    def call_in_turn(echo: ServiceProxy, number: int) -> None:
        for count in range(each):
            value, began = [number, count], time.monotonic()
            try:
                outcomes.append(echo.echo.with_timeout(late)(value) == value)
            except (RPCTimeout, ReplyQueueLost, PublishError) as error:
                outcomes.append(error)
            assert time.monotonic() - began < late + 30
            answered.release()

    with running(Echo, config=config), running(Calling, config=config) as runner:
        echo = ServiceProxy(proxy_of(runner)._caller, "echo")
        own_node.persist_declarations()
        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            working = [pool.submit(call_in_turn, echo, number) for number in range(callers)]
            for _ in range(2):
                for _ in range(callers * each // 3):
                    assert answered.acquire(timeout=120)
                own_node.kill()
                own_node.start()
            for done in working:
                done.result(240)
        assert len(outcomes) == callers * each
        assert [outcome for outcome in outcomes if outcome is not True and not isinstance(outcome, Exception)] == []
        # A broker that is killed keeps what is durable and persistent: nobody need have had an error.
        assert outcomes.count(True) >= len(outcomes) - 2 * callers
        assert len(door_of(runner).pending) == 0
        vhost.wait_until_drained("rpc-echo", timeout=60)
    assert mf_threads_of_calls() == []
    assert sorted(vhost.queues()) == ["rpc-echo"]
    vhost.wait_for(lambda _: not vhost.connections(), what="the connections to end")
