"""Calling and dispatching from outside a service: threads, forks, lost connections, and every way to end."""

import concurrent.futures
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.exceptions import (
    ConfigError,
    MicroFrameworkError,
    PublishError,
    RemoteError,
    ReplyQueueLost,
    RPCTimeout,
    SetupFailed,
    UnknownService,
    Unroutable,
)
from micro_framework.standalone import EventProducer, RPCClient
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.amqp.peers import RawService, break_connections
from tests.brokers.probes import mf_threads
from tests.outside import SECONDS, Outside, memory_uri

PROCESS_SECONDS = 50.0


@pytest.fixture(params=["memory", "rabbitmq"])
def broker_uri(request: pytest.FixtureRequest) -> str:
    """The URI of a broker with nothing in it."""
    return memory_uri() if request.param == "memory" else request.getfixturevalue("amqp_uri")


@pytest.fixture
def vhost(request: pytest.FixtureRequest, broker_uri: str) -> VHost | None:
    """The virtual host of the test, where the broker is RabbitMQ."""
    return None if broker_uri.startswith("memory://") else request.getfixturevalue("rabbit")


@pytest.fixture
def outside(broker_uri: str) -> Iterator[Outside]:
    """Somebody else at that broker."""
    outside = Outside(broker_uri)
    yield outside
    outside.close()


class Echo:
    name = "echo"

    @RPCListener()
    def echo(self, *args, **kwargs):
        return [list(args), kwargs]

    @RPCListener()
    def fail(self):
        raise ValueError("no")


# -- calls


def test_services_are_attributes_and_items(broker_uri: str) -> None:
    with running(Echo, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri, timeout=30) as rpc:
        assert rpc.echo.echo(7, items=[1]) == [[7], {"items": [1]}]
        assert rpc["echo"]["echo"]() == [[], {}]
        assert rpc["echo"].echo.call_async(1).result(timeout=30) == [[1], {}]
        assert rpc.echo.echo.with_timeout(30)(2) == [[2], {}]
        with pytest.raises(RemoteError, match="ValueError no"):
            rpc.echo.fail()
        with pytest.raises(UnknownService):
            rpc.nobody.method()


def test_a_client_may_be_kept_for_long_and_takes_a_whole_configuration(broker_uri: str) -> None:
    rpc = RPCClient({"AMQP_URI": broker_uri, "RPC_TIMEOUT": 30, "MAX_WORKERS": 3})
    assert mf_threads() == [], "it connects when it is first used"
    with running(Echo, config={"AMQP_URI": broker_uri}):
        for number in range(3):
            assert rpc.echo.echo(number) == [[number], {}]
        rpc.stop()
        rpc.stop()
    with pytest.raises(MicroFrameworkError, match="this RPCClient was stopped; make a new one"):
        rpc.echo.echo()
    with pytest.raises(MicroFrameworkError, match="stopped"), rpc:
        pass


def test_names_of_the_clients_own_are_reached_as_items(broker_uri: str) -> None:
    service = type("Stop", (Echo,), {"name": "stop"})
    with running(service, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri) as rpc:
        assert rpc["stop"].echo(1) == [[1], {}]
        with pytest.raises(AttributeError, match=r"if it is a service, write rpc\['_private'\]"):
            rpc._private  # noqa: B018
        with pytest.raises(TypeError, match="not iterable"):
            list(rpc)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="is text, not 5"):
            rpc[5]  # type: ignore[index]


def test_what_a_request_carries(broker_uri: str, outside: Outside) -> None:
    service = RawService(outside, "payments")
    given = {"user_id": 7}
    with RPCClient(broker_uri, timeout=30, context_data=given) as rpc:
        given["user_id"] = 8
        calls = [rpc.payments.charge.call_async() for _ in range(2)]
        headers = [service.answer().headers for _ in calls]
        assert [call.result() for call in calls] == [None, None]
    assert [each["nameko.user_id"] for each in headers] == [7, 7]
    (first,), (second,) = (each["nameko.call_id_stack"] for each in headers)
    # As nameko 3.0.0rc11: one name for the client, one id for each call.
    assert first.startswith("standalone_rpc_client.")
    assert first.rpartition(".")[0] == second.rpartition(".")[0]
    assert first != second


def test_the_reply_queue_is_namekos_and_goes_with_the_client(rabbit: VHost) -> None:
    rpc = RPCClient(rabbit.uri)
    with rpc, running(Echo, config={"AMQP_URI": rabbit.uri}):
        rpc.echo.echo()
        (name,) = [name for name in rabbit.queues() if name != "rpc-echo"]
        assert name.startswith("rpc.reply-standalone_rpc_client-")
        assert rabbit.queue(name).arguments == {"x-expires": 300_000}
    assert sorted(rabbit.queues()) == ["rpc-echo"]
    assert mf_threads() == []
    rabbit.wait_for(lambda _: not rabbit.connections(), what="the connections to end")


def test_many_threads_share_a_client(broker_uri: str) -> None:
    config = {"AMQP_URI": broker_uri}
    with running(Echo, config=config), RPCClient(broker_uri) as rpc:
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            results = list(pool.map(rpc.echo.echo, range(400)))
        assert results == [[[number], {}] for number in range(400)]
        assert len([name for name in mf_threads() if name == "mf-duplex-rpc-client"]) == 1


def test_threads_that_come_at_once_open_one_connection(broker_uri: str) -> None:
    with running(Echo, config={"AMQP_URI": broker_uri}):
        rpc = RPCClient(broker_uri)
        together = threading.Barrier(10)

        def call(number: int) -> Any:
            together.wait(SECONDS)
            return rpc.echo.echo(number)

        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            assert list(pool.map(call, range(10))) == [[[number], {}] for number in range(10)]
        assert len([name for name in mf_threads() if name == "mf-duplex-rpc-client"]) == 1
        rpc.stop()


def test_lost_connections_come_back_by_themselves(broker_uri: str, vhost: VHost | None) -> None:
    with running(Echo, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri) as rpc:
        for number in range(3):
            assert rpc.echo.echo.with_timeout(30)(number) == [[number], {}]
            break_connections(broker_uri, vhost)
        assert rpc.echo.echo.with_timeout(30)("last") == [["last"], {}]


def test_a_broker_that_is_away_is_waited_for_until_the_deadline(own_node: RabbitMQNode) -> None:
    uri = own_node.vhost().uri
    own_node.stop()
    try:
        with RPCClient(uri, timeout=0.2) as rpc:
            with pytest.raises(RPCTimeout, match="was not sent in time") as caught:
                rpc.echo.echo()
            assert "and will not be" in str(caught.value)
    finally:
        own_node.start()


# -- events


def test_events_are_dispatched_as_the_service(broker_uri: str, outside: Outside) -> None:
    with EventProducer("orders", broker_uri, context_data={"user_id": 7}) as dispatch:
        dispatch("nobody_listens_yet")
        heard = outside.listen("orders")
        dispatch("order_created", {"id": 1})
        dispatch.many([("order_created", {"id": number}) for number in range(2, 10)] + [("order_paid", None)])
        events = heard.several(10)
    assert [json.loads(event.body) for event in events] == [*({"id": number} for number in range(1, 10)), None]
    assert {event.exchange for event in events} == {"orders.events"}
    assert events[-1].routing_key == "order_paid"
    # As Nameko's standalone dispatcher: context data, and no stack of calls.
    assert dict(events[0].headers) == {"nameko.user_id": 7}
    properties = events[0].properties
    assert (properties.delivery_mode, properties.priority, properties.content_type) == (2, 0, "application/json")


def test_the_exchange_is_declared_or_adopted(rabbit: VHost) -> None:
    with EventProducer("orders", rabbit.uri) as dispatch:
        dispatch("order_created")
        exchange = rabbit.exchanges()["orders.events"]
        assert (exchange.type, exchange.durable, exchange.auto_delete) == ("topic", True, False)
    with EventProducer("orders", {"AMQP_URI": rabbit.uri, "AUTO_DELETE_EVENT_EXCHANGES": True}) as dispatch:
        dispatch("order_created")
    assert not rabbit.exchanges()["orders.events"].auto_delete


def test_a_mandatory_event_wants_a_listener(broker_uri: str) -> None:
    class Hearing:
        name = "hearing"

        @EventListener("orders", "order_created")
        def hear(self, payload): ...

    with EventProducer("orders", broker_uri, mandatory=True) as dispatch:
        with pytest.raises(Unroutable):
            dispatch("order_created")
        with running(Hearing, config={"AMQP_URI": broker_uri}):
            dispatch("order_created")


def test_an_event_producer_that_was_stopped_says_so(broker_uri: str) -> None:
    dispatch = EventProducer("orders", broker_uri)
    dispatch("order_created")
    dispatch.stop()
    with pytest.raises(MicroFrameworkError, match="this EventProducer was stopped"):
        dispatch("order_created")
    assert mf_threads() == []


def test_many_threads_dispatch(broker_uri: str, outside: Outside) -> None:
    with EventProducer("orders", broker_uri) as dispatch:
        dispatch("first")
        heard = outside.listen("orders")
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda number: dispatch("event", number), range(200)))
        assert sorted(int(event.body) for event in heard.several(200)) == list(range(200))


# -- configuration


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "AMQP_URI is missing"),
        ({"AMQP_URI": "http://localhost"}, "AMQP_URI"),
        ("localhost", "AMQP_URI"),
        ({"AMQP_URI": "memory://", "RPC_TIMEOUT": "soon"}, "RPC_TIMEOUT"),
        ({"AMQP_URI": "memory://", "serializer": "nonsense"}, "serializer 'nonsense' is not known"),
    ],
)
def test_a_wrong_configuration_is_told_when_the_client_is_made(config: Any, text: str) -> None:
    for make in (RPCClient, lambda given: EventProducer("orders", given)):
        with pytest.raises(ConfigError, match=text):
            make(config)


@pytest.mark.parametrize("timeout", [0, -1, "5"])
def test_a_wrong_timeout_is_told_when_the_client_is_made(timeout: Any) -> None:
    with pytest.raises(ValueError, match="a timeout is a number of seconds above 0"):
        RPCClient("memory://", timeout=timeout)


@pytest.mark.parametrize("name", ["", None, 5])
def test_an_event_producer_needs_the_name_of_a_service(name: Any) -> None:
    with pytest.raises(ConfigError, match="service_name must be the name of a service"):
        EventProducer(name, "memory://")


def test_a_wrong_password_is_told_quickly_and_never_shown(amqp_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = amqp_uri.replace("guest:guest@", "guest:s3cret-pass@")
    assert wrong != amqp_uri
    texts: list[str] = []
    with RPCClient(wrong, timeout=1000) as rpc, EventProducer("orders", wrong) as dispatch:
        for attempt in (rpc.echo.echo, lambda: rpc.echo.echo.call_async().result(), lambda: dispatch("event")):
            with pytest.raises(PublishError, match="login as 'guest' was refused") as caught:
                attempt()
            texts += [str(caught.value), repr(caught.value)]
    assert "s3cret-pass" not in caplog.text + "".join(texts) + repr(rpc) + repr(dispatch)


def test_a_client_that_was_refused_tries_again_at_its_next_use(rabbit: VHost) -> None:
    """A long-lived process must not have to be started again because a virtual host came late."""
    name = f"{rabbit.name}-late"
    uri = rabbit.uri.replace(rabbit.name, name)
    with RPCClient(uri, timeout=30) as rpc, EventProducer("orders", uri) as dispatch:
        for attempt in (rpc.echo.echo, lambda: dispatch("event")):
            with pytest.raises(PublishError, match="does not exist"):
                attempt()
        rabbit.admin.add_vhost(name)
        try:
            with running(Echo, config={"AMQP_URI": uri}):
                assert rpc.echo.echo(1) == [[1], {}]
                dispatch("event")
        finally:
            rpc.stop()
            dispatch.stop()
            rabbit.admin.delete_vhost(name)
    assert mf_threads() == []


def test_a_client_that_cannot_begin_leaves_nothing_and_can_be_used_later(
    broker_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with running(Echo, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri, timeout=30) as rpc:
        late = RPCClient(broker_uri, timeout=30)
        before = mf_threads()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", cannot)
            with pytest.raises(SetupFailed, match="connection for RPC calls: start failed: .*can't start new thread"):
                late.echo.echo()
        assert mf_threads() == before
        assert late.echo.echo(1) == rpc.echo.echo(1)
        late.stop()


# -- every way to end


def test_calls_that_wait_are_told_of_the_stop(broker_uri: str, outside: Outside) -> None:
    service = RawService(outside, "payments")
    rpc = RPCClient(broker_uri, timeout=1000)
    call = rpc.payments.charge.call_async()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rpc.payments.charge)
        for _ in range(2):
            service.next()
        rpc.stop()
        for found in (call.exception(0), waiting.exception(SECONDS)):
            assert isinstance(found, ReplyQueueLost)
            assert "was given up when its client was stopped" in str(found)
    assert mf_threads() == [name for name in mf_threads() if "test" in name or "memory" in name]


def test_a_client_may_be_stopped_by_a_callback_of_its_own(broker_uri: str) -> None:
    with running(Echo, config={"AMQP_URI": broker_uri}):
        rpc = RPCClient(broker_uri)
        stopped = threading.Event()
        rpc.echo.echo.call_async().add_done_callback(lambda _: (rpc.stop(), stopped.set()))
        assert stopped.wait(SECONDS)


def test_a_stop_waits_for_no_callback_that_uses_the_client(broker_uri: str) -> None:
    """Which would wait for the stop itself."""
    with running(Echo, config={"AMQP_URI": broker_uri}):
        rpc = RPCClient(broker_uri)
        began, told = threading.Event(), threading.Event()
        errors: list[BaseException] = []

        def use(_: Any) -> None:
            began.set()
            while not errors:
                try:
                    rpc.echo.echo()
                except MicroFrameworkError as error:
                    errors.append(error)
            told.set()

        rpc.echo.echo.call_async().add_done_callback(use)
        assert began.wait(SECONDS)
        rpc.stop()
        assert told.wait(SECONDS)
    assert isinstance(errors[0], MicroFrameworkError)


def test_a_client_that_is_dropped_closes_its_connection(rabbit: VHost) -> None:
    with running(Echo, config={"AMQP_URI": rabbit.uri}):
        rpc = RPCClient(rabbit.uri)
        rpc.echo.echo()
        del rpc
        gc.collect()
        assert "mf-duplex-rpc-client" not in mf_threads()
        assert sorted(rabbit.queues()) == ["rpc-echo"]


def test_a_client_that_is_dropped_on_a_thread_of_the_framework_closes_its_connection(rabbit: VHost) -> None:
    """The garbage collector runs anywhere, on a connection's own thread too, which cannot wait for its own end."""
    with running(Echo, config={"AMQP_URI": rabbit.uri}):
        holder = [RPCClient(rabbit.uri)]
        call = holder[0].echo.echo.call_async()
        call.add_done_callback(lambda _: holder.clear())
        assert call.result(SECONDS) == [[], {}]
        rabbit.wait_for(lambda _: sorted(rabbit.queues()) == ["rpc-echo"], what="the reply queue to go")


AT_EXIT = """
import sys
from micro_framework.standalone import EventProducer, RPCClient
rpc = RPCClient(sys.argv[1], timeout=1000)
dispatch = EventProducer("orders", sys.argv[1])
dispatch("order_created")
print(rpc.echo.echo(1))
if "pending" in sys.argv:
    pending = rpc.silent.method.call_async()
    pending.add_done_callback(lambda call: print(type(call.exception()).__name__, flush=True))
if "raise" in sys.argv:
    raise SystemExit(3)
"""


class Silent:
    name = "silent"
    release = threading.Event()

    @RPCListener()
    def method(self):
        self.release.wait(PROCESS_SECONDS)


def run_script(source: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(source)
    variables = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        env=variables,
        check=False,
    )


@pytest.mark.parametrize(("how", "code", "output"), [
    ("plain", 0, "[[1], {}]\n"), ("raise", 3, "[[1], {}]\n"), ("pending", 0, "[[1], {}]\nReplyQueueLost\n")
])  # fmt: skip
def test_a_process_that_just_ends_leaves_nothing_and_does_not_hang(
    rabbit: VHost, tmp_path: Path, how: str, code: int, output: str
) -> None:
    Silent.release.clear()
    with running(Echo, Silent, config={"AMQP_URI": rabbit.uri}):
        try:
            done = run_script(AT_EXIT, tmp_path, rabbit.uri, how)
            assert (done.returncode, done.stdout, done.stderr) == (code, output, "")
            assert sorted(rabbit.queues()) == ["rpc-echo", "rpc-silent"]
        finally:
            Silent.release.set()


# -- forks


FORKING = """
import os, sys, threading
from micro_framework.standalone import EventProducer, RPCClient

rpc = RPCClient(sys.argv[1], timeout=40)
dispatch = EventProducer("orders", sys.argv[1])
echo = rpc.echo.echo                        # a proxy that is held across the fork
assert echo("before")[0] == ["before"]
dispatch("event", "before")

busy = threading.Event()
def call_all_the_time():
    while not busy.is_set():
        echo("busy")
threads = [threading.Thread(target=call_all_the_time) for _ in range(3)]
for thread in threads:
    thread.start()

children = []
for number in range(5):
    child = os.fork()
    if child == 0:
        try:
            assert echo(number)[0] == [number]
            assert rpc.echo.echo.call_async(number).result()[0] == [number]
            dispatch("event", number)
        except BaseException as error:
            print("child", number, type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
        rpc.stop()
        dispatch.stop()
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
busy.set()
for thread in threads:
    thread.join()
assert echo("after")[0] == ["after"]        # the parent's connections are as they were
dispatch("event", "after")
print(codes)
"""


def test_a_forked_process_makes_connections_of_its_own(rabbit: VHost, tmp_path: Path) -> None:
    outside = Outside(rabbit.uri)
    with EventProducer("orders", rabbit.uri) as first:
        first("event", "first")
    heard = outside.listen("orders")
    with running(Echo, config={"AMQP_URI": rabbit.uri}):
        done = run_script(FORKING, tmp_path, rabbit.uri)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0, 0, 0, 0]\n", "")
    events = [json.loads(event.body) for event in heard.several(7)]
    assert (events[0], events[-1], sorted(events[1:-1])) == ("before", "after", [0, 1, 2, 3, 4])
    outside.close()
    assert [name for name in rabbit.queues() if name.startswith("rpc.reply")] == []


STOPPED_IN_THE_CHILD = """
import os, sys
from micro_framework.standalone import RPCClient
rpc = RPCClient(sys.argv[1], timeout=40)
rpc.echo.echo(1)
if os.fork() == 0:
    rpc.stop()                              # never used here: nothing to close
    try:
        rpc.echo.echo(2)
    except Exception as error:
        print(error, flush=True)
    sys.exit(0)
os.wait()
print(rpc.echo.echo(3)[0])
"""


def test_a_client_stopped_in_the_child_works_on_in_the_parent(rabbit: VHost, tmp_path: Path) -> None:
    with running(Echo, config={"AMQP_URI": rabbit.uri}):
        done = run_script(STOPPED_IN_THE_CHILD, tmp_path, rabbit.uri)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "this RPCClient was stopped; make a new one\n[3]\n"


# -- asyncio


def test_a_coroutine_awaits_a_call(broker_uri: str) -> None:
    import asyncio

    async def ask(rpc: RPCClient) -> list[Any]:
        calls = [asyncio.wrap_future(rpc.echo.echo.call_async(number)) for number in range(10)]
        return await asyncio.wait_for(asyncio.gather(*calls), 30)

    with running(Echo, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri) as rpc:
        assert asyncio.run(ask(rpc)) == [[[number], {}] for number in range(10)]


def test_the_calls_deadline_is_the_clients(broker_uri: str, outside: Outside) -> None:
    service = RawService(outside, "payments")
    before = time.time()
    with RPCClient(broker_uri, timeout=25) as rpc:
        call = rpc.payments.charge.call_async()
        deadline = service.answer().headers["mf-deadline"] / 1000
        assert call.result() is None
    assert before + 24.9 < deadline < time.time() + 25.1
