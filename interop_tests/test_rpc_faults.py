"""Calls that wait while something breaks: the caller, the server, a connection, the reply queue, the broker.

Ours run in processes of their own where they are killed. Callers are ours and Nameko's.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import amqp
import pytest

from interop_tests.conftest import NAMEKO_VERSIONS
from interop_tests.nameko_process import Nameko
from interop_tests.own_process import CallScript, OwnService, Runs
from interop_tests.raw_messages import channel_to, publish
from micro_framework.exceptions import ReplyQueueLost, RPCTimeout
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode

SECONDS = 60.0
PENDING = 100

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def still_serves(vhost: VHost, runs: Runs) -> bool:
    """Whether nothing is left of earlier calls, and a new one gets its answer."""
    vhost.wait_until_drained("rpc-working", timeout=20)
    with RPCClient(vhost.uri, timeout=20) as client:
        return bool(client.working.work(-1, str(runs.folder)) == -1)


# -- a caller is killed


def test_a_caller_of_ours_that_is_killed_leaves_the_service_as_it_was(rabbit: VHost, runs: Runs) -> None:
    with OwnService(rabbit, "Working"):
        with CallScript(rabbit, "working", "hold", 1, runs.folder) as caller:
            runs.wait_for(1)
            caller.kill()
        runs.let_go()
        assert still_serves(rabbit, runs)


def test_a_nameko_caller_that_is_killed_leaves_our_service_as_it_was(nameko: Nameko, runs: Runs) -> None:
    vhost = nameko.vhost
    driver = nameko.driver()
    with OwnService(vhost, "Working"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(driver.call, "working", "hold", [1, str(runs.folder)])
        runs.wait_for(1)
        driver.kill()
        assert "ended" in str(waiting.exception(20))
        runs.let_go()
        assert still_serves(vhost, runs)


# -- a server is killed


def test_a_second_replica_serves_what_the_killed_one_had(rabbit: VHost, runs: Runs) -> None:
    with OwnService(rabbit, "Working") as first, RPCClient(rabbit.uri, timeout=SECONDS) as client:
        call = client.working.hold.call_async(1, str(runs.folder))
        runs.wait_for(1)
        with OwnService(rabbit, "Working") as second:
            first.kill()
            runs.wait_for(2)
            runs.let_go()
            assert call.result() == 1
            assert runs.all() == [(1, first.pid), (1, second.pid)]
            assert still_serves(rabbit, runs)


def test_the_restarted_service_serves_what_the_killed_one_had(rabbit: VHost, runs: Runs) -> None:
    with OwnService(rabbit, "Working") as service, RPCClient(rabbit.uri, timeout=SECONDS) as client:
        calls = [client.working.hold.call_async(number, str(runs.folder)) for number in range(5)]
        runs.wait_for(5)
        service.kill()
        service.start()
        runs.wait_for(10)
        runs.let_go()
        assert [call.result() for call in calls] == list(range(5))
        assert still_serves(rabbit, runs)


@pytest.mark.parametrize("replacement", ["second replica", "restarted"])
def test_a_nameko_caller_gets_its_answer_though_our_server_is_killed(
    nameko: Nameko, runs: Runs, replacement: str
) -> None:
    vhost = nameko.vhost
    driver = nameko.driver(timeout=SECONDS)
    with OwnService(vhost, "Working") as first, OwnService(vhost, "Working") as second, ThreadPoolExecutor(1) as pool:
        if replacement == "restarted":
            second.kill()
        call = pool.submit(driver.call, "working", "hold", [1, str(runs.folder)])
        runs.wait_for(1)
        at_work = first if runs.of_process(first.pid) else second
        at_work.kill()
        if replacement == "restarted":
            at_work.start()
        runs.wait_for(2)
        runs.let_go()
        assert call.result(SECONDS) == 1
        assert still_serves(vhost, runs)


# -- a connection is lost


def close_connections(vhost: VHost, of: str) -> None:
    """Close the connections whose name begins like this, from the broker's side."""
    chosen = [connection for connection in vhost.connections() if connection.client_name.startswith(of)]
    assert chosen, [connection.client_name for connection in vhost.connections()]
    for connection in chosen:
        vhost.admin.close_connection(connection.name)


@pytest.mark.parametrize("whose", ["mf-duplex-rpc-client", "mf-duplex-rpc-working", "mf-"])
def test_calls_get_their_results_though_the_broker_closes_connections(rabbit: VHost, runs: Runs, whose: str) -> None:
    with (
        OwnService(rabbit, "Working", MAX_WORKERS=PENDING, PREFETCH_COUNT=PENDING),
        RPCClient(rabbit.uri, timeout=SECONDS) as client,
    ):
        calls = [client.working.hold.call_async(number, str(runs.folder)) for number in range(PENDING)]
        runs.wait_for(PENDING)
        close_connections(rabbit, whose)
        runs.let_go()
        assert [call.result() for call in calls] == list(range(PENDING))
        assert still_serves(rabbit, runs)


def test_a_nameko_caller_gets_its_result_though_the_broker_closes_our_connections(nameko: Nameko, runs: Runs) -> None:
    vhost = nameko.vhost
    driver = nameko.driver(timeout=SECONDS)
    with OwnService(vhost, "Working"), ThreadPoolExecutor(1) as pool:
        call = pool.submit(driver.call, "working", "hold", [1, str(runs.folder)])
        runs.wait_for(1)
        close_connections(vhost, "mf-")
        runs.wait_for(2)
        runs.let_go()
        assert call.result(SECONDS) == 1
        assert still_serves(vhost, runs)


def test_calls_go_on_while_connections_are_closed_again_and_again(rabbit: VHost, runs: Runs) -> None:
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(0.3):
            rabbit.close_connections()

    with (
        OwnService(rabbit, "Working") as service,
        RPCClient(rabbit.uri, timeout=SECONDS) as client,
        ThreadPoolExecutor(10) as pool,
    ):
        disturbing = threading.Thread(target=disturb, name="disturbing")
        disturbing.start()
        try:
            numbers = list(range(500))
            results = list(pool.map(lambda number: client.working.work(number, str(runs.folder)), numbers))
        finally:
            over.set()
            disturbing.join()
        assert results == numbers
        assert service.is_running()
        assert still_serves(rabbit, runs)


# -- the reply queue is lost


def delete_reply_queues(vhost: VHost) -> int:
    """Delete every reply queue, as an operator might; how many there were."""
    with channel_to(vhost.uri) as channel:
        names = [name for name in vhost.queues() if name.startswith("rpc.reply-")]
        for name in names:
            channel.queue_delete(name)
    return len(names)


def test_calls_are_told_at_once_that_the_reply_queue_is_lost(rabbit: VHost, runs: Runs) -> None:
    with OwnService(rabbit, "Working") as service, RPCClient(rabbit.uri, timeout=3600) as client:
        calls = [client.working.hold.call_async(number, str(runs.folder)) for number in range(10)]
        runs.wait_for(10)
        assert delete_reply_queues(rabbit) == 1
        for call in calls:
            assert isinstance(call.exception(timeout=20), ReplyQueueLost)
        runs.let_go()
        assert client.working.work(11, str(runs.folder)) == 11
        assert service.is_running()


def test_calls_are_told_when_the_queue_went_with_the_connection(rabbit: VHost, runs: Runs) -> None:
    """Deleted while nobody was there to be told by the broker."""
    with OwnService(rabbit, "Working"), RPCClient(rabbit.uri, timeout=3600) as client:
        call = client.working.hold.call_async(1, str(runs.folder))
        runs.wait_for(1)
        with channel_to(rabbit.uri) as channel:
            (queue,) = [name for name in rabbit.queues() if name.startswith("rpc.reply-")]
            close_connections(rabbit, "mf-duplex-rpc-client")
            channel.queue_delete(queue)
        assert isinstance(call.exception(timeout=20), ReplyQueueLost)
        runs.let_go()
        assert client.working.work(2, str(runs.folder)) == 2


@pytest.mark.fault
def test_no_call_waits_in_vain_while_its_reply_queue_is_deleted_again_and_again(
    rabbit: VHost, runs: Runs, soak_size: Callable[[int], int]
) -> None:
    """Each gets its answer or is told; none is left to its deadline, whenever the queue went.

    Each deletion meets up to ten calls, which are at different places since none waits for another.
    """
    over = threading.Event()
    outcomes: Counter[str] = Counter()

    def call(caller: int) -> None:
        while not over.is_set():
            outcomes[name_of(client, caller, runs)] += 1

    with OwnService(rabbit, "Working"), RPCClient(rabbit.uri, timeout=20) as client, ThreadPoolExecutor(10) as pool:
        assert client.working.work(0, str(runs.folder)) == 0
        (queue,) = [name for name in rabbit.queues() if name.startswith("rpc.reply-")]
        callers = [pool.submit(call, caller) for caller in range(10)]
        try:
            with channel_to(rabbit.uri) as channel:
                for _ in range(soak_size(100)):
                    rabbit.wait_for(lambda _: is_consumed(channel, queue), what="the client to consume its queue")
                    channel.queue_delete(queue)
        finally:
            over.set()
            wait(callers)
        assert set(outcomes) <= {"answered", "ReplyQueueLost"}, outcomes
        assert outcomes["answered"]
        assert outcomes["ReplyQueueLost"]
        assert still_serves(rabbit, runs)


def is_consumed(channel: amqp.Channel, queue: str) -> bool:
    """Whether a queue is there with a consumer; by AMQP, which is the quickest to know."""
    with contextlib.suppress(amqp.NotFound), channel.connection.channel() as own:
        return bool(own.queue_declare(queue, passive=True).consumer_count)
    return False


def name_of(client: RPCClient, number: int, runs: Runs) -> str:
    """How a call ended."""
    try:
        assert client.working.work(number, str(runs.folder)) == number
    except Exception as error:
        return type(error).__name__
    return "answered"


# -- the broker is killed


def test_a_hundred_pending_calls_outlive_the_broker_and_those_made_meanwhile_are_sent_or_told(
    own_node: RabbitMQNode, runs: Runs
) -> None:
    vhost, told, kept = own_node.vhost(), PENDING, PENDING + 1
    with (
        OwnService(vhost, "Working", MAX_WORKERS=PENDING, PREFETCH_COUNT=PENDING) as service,
        RPCClient(vhost.uri, timeout=SECONDS) as client,
    ):
        calls = [client.working.hold.call_async(number, str(runs.folder)) for number in range(PENDING)]
        runs.wait_for(PENDING)
        own_node.persist_declarations()
        own_node.kill()
        with pytest.raises(RPCTimeout, match="was not sent"):
            client.working.work.with_timeout(0.5)(told, str(runs.folder))
        calls.append(client.working.work.call_async(kept, str(runs.folder)))
        own_node.start()
        runs.let_go()
        assert [call.result() for call in calls] == [*range(PENDING), kept]
        assert service.is_running()
        assert still_serves(vhost, runs)
    assert told not in [number for number, _ in runs.all()]


def test_calls_that_nobody_serves_any_more_end_at_their_deadline(own_node: RabbitMQNode, runs: Runs) -> None:
    vhost = own_node.vhost()
    with OwnService(vhost, "Working") as service, RPCClient(vhost.uri, timeout=8) as client:
        started = time.monotonic()
        calls = [client.working.hold.call_async(number, str(runs.folder)) for number in range(PENDING)]
        runs.wait_for(10)
        service.kill()
        own_node.kill()
        own_node.start()
        for call in calls:
            assert isinstance(call.exception(), RPCTimeout)
        assert time.monotonic() - started > 8


@pytest.fixture(params=NAMEKO_VERSIONS)
def nameko_at_own_node(request: pytest.FixtureRequest, own_node: RabbitMQNode) -> Iterator[Nameko]:
    """Nameko at a broker that may be killed."""
    with contextlib.closing(Nameko(request.param, own_node.vhost())) as real:
        yield real


def test_a_nameko_service_gets_our_answer_though_the_broker_was_killed(
    own_node: RabbitMQNode, nameko_at_own_node: Nameko, runs: Runs
) -> None:
    nameko, vhost = nameko_at_own_node, nameko_at_own_node.vhost
    nameko.run("rpc_peers:Waiting")
    with OwnService(vhost, "Working") as service:
        publish(vhost.uri, "control.events", "call", {"method": "hold", "args": [1, str(runs.folder)]})
        runs.wait_for(1)
        own_node.persist_declarations()
        own_node.kill()
        own_node.start()
        runs.let_go()
        vhost.wait_for_consumers("rpc-waiting", timeout=30)
        driver = nameko.driver(timeout=SECONDS)
        vhost.wait_for(lambda _: driver.call("waiting", "outcomes"), SECONDS, "our answer to come to Nameko")
        assert {"result": 1} in driver.call("waiting", "outcomes")
        assert service.is_running()
        assert still_serves(vhost, runs)
