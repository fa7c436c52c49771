"""Services that are connected to both nodes of a RabbitMQ cluster, while one node after the other is killed.

What goes on depends on where the queues are. A mirrored queue (RabbitMQ 3) is on both nodes; a classic one is on one,
and waits with what it holds while that one is down; a quorum queue of two members has no majority without both.
"""

import contextlib
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import pytest

from micro_framework.amqp.entrypoints import EventListener, QueueListener, RPCListener
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import RPCError
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.runner import Runner
from micro_framework.standalone import EventProducer, RPCClient
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue
from tests.brokers.probes import Doors, message
from tests.outside import recording
from tests.versions import version_of

SECONDS = 90.0
DURABLE = Properties("application/json", "utf-8", delivery_mode=2)

pytestmark = [pytest.mark.kills_broker, pytest.mark.fault, pytest.mark.timeout(300)]

MIRROR = """
ok = rabbit_policy:set(%(vhost)s, <<"mirrored">>, <<".*">>,
                       [{<<"ha-mode">>, <<"all">>}, {<<"ha-sync-mode">>, <<"automatic">>}],
                       0, <<"queues">>, <<"test">>),
[]
"""
ON_ONE_NODE = """
[element(4, proplists:get_value(name, Q))
 || Q <- rabbit_amqqueue:info_all(%(vhost)s, [name, synchronised_slave_pids, owner_pid]),
    proplists:get_value(owner_pid, Q) =:= '',
    case proplists:get_value(synchronised_slave_pids, Q) of [_ | _] -> false; _ -> true end]
"""


class Cluster:
    """Two nodes."""

    def __init__(self, first: RabbitMQNode, second: RabbitMQNode) -> None:
        self.nodes = (first, second)

    def uri(self, vhost: str, first: RabbitMQNode) -> str:
        """The URI of both nodes, of which one is tried first."""
        return f"{first.uri_of(vhost)};{self.other(first).uri_of(vhost)}"

    def other(self, node: RabbitMQNode) -> RabbitMQNode:
        return self.nodes[1] if node is self.nodes[0] else self.nodes[0]

    @contextlib.contextmanager
    def without(self, node: RabbitMQNode) -> Iterator[None]:
        """The node is dead inside the block, and back after it."""
        for each in self.nodes:
            each.persist_declarations()
        node.kill()
        try:
            yield
        finally:
            node.start()


@pytest.fixture(scope="module")
def both_nodes() -> Iterator[Cluster]:
    with contextlib.closing(RabbitMQNode()) as first:
        first.start()
        with contextlib.closing(RabbitMQNode(beside=first)) as second:
            second.start()
            yield Cluster(first, second)


@pytest.fixture
def cluster(both_nodes: Cluster) -> Cluster:
    for node in both_nodes.nodes:
        node.start()
    return both_nodes


class Heard:
    """What all replicas of a service do, and the service."""

    def __init__(self) -> None:
        self.orders: SimpleQueue[int] = SimpleQueue()
        self.ticks: SimpleQueue[None] = SimpleQueue()
        self.seen: set[int] = set()

        class Shop:
            name = "shop"

            @EventListener("web", "ordered")
            def order(instance, number: int) -> None:  # noqa: N805 - self is who listens
                self.orders.put(number)

            @RPCListener()
            def double(instance, number: int) -> int:  # noqa: N805
                return number * 2

            @TimeEntrypoint(interval=0.5, cluster=True)
            def tick(instance) -> None:  # noqa: N805
                self.ticks.put(None)

        self.service = Shop

    def wait_for_orders(self, numbers: set[int]) -> None:
        """Wait until each of these orders has been handled, once or several times."""
        try:
            while not numbers <= self.seen:
                self.seen.add(self.orders.get(timeout=SECONDS))
        except Empty:
            raise AssertionError(f"{len(numbers - self.seen)} of {len(numbers)} orders were not handled") from None

    def wait_for_a_new_tick(self) -> None:
        while not self.ticks.empty():
            self.ticks.get()
        self.ticks.get(timeout=SECONDS)


def doubled(client: RPCClient, number: int) -> int:
    """An answer; a call that is under way when its node dies is told so at once, and made again here."""
    for _ in range(20):
        with contextlib.suppress(RPCError):
            return int(client.shop.double.with_timeout(20)(number))
    raise AssertionError("no call was answered")


def need_declarations_without_majority(cluster: Cluster) -> None:
    """Skip where it takes most nodes to declare anything: RabbitMQ 4.2 keeps what is declared in Khepri."""
    if version_of(cluster.nodes[0].uri) >= (4, 2):
        pytest.skip("on this RabbitMQ nothing can be declared while one node of two is down")


def can_mirror(node: RabbitMQNode) -> bool:
    """RabbitMQ 4 has no mirrored queues."""
    return version_of(node.uri) < (4,)


def test_replicas_survive_the_death_of_either_node_where_queues_are_mirrored(
    cluster: Cluster, soak_size: Callable[[int], int]
) -> None:
    """Events, calls and ticks go on while either node is dead; where nothing is mirrored, events once it is back."""
    need_declarations_without_majority(cluster)
    first, second = cluster.nodes
    vhost, mirrored, heard = first.vhost(), can_mirror(first), Heard()
    if mirrored:
        first.evaluate(MIRROR, vhost=vhost.name)
    count, sent = soak_size(100), 0
    config = {"PUBLISH_TIMEOUT": SECONDS, "HEARTBEAT": 2}
    with contextlib.ExitStack() as stack:
        for node in cluster.nodes:
            stack.enter_context(running(heard.service, config={"AMQP_URI": cluster.uri(vhost.name, node), **config}))
        dispatch = stack.enter_context(EventProducer("web", {"AMQP_URI": cluster.uri(vhost.name, second), **config}))
        client = stack.enter_context(RPCClient({"AMQP_URI": cluster.uri(vhost.name, first), **config}))
        for victim in cluster.nodes:
            assert doubled(client, sent) == 2 * sent
            if mirrored:
                VHost(first, vhost.name).wait_for(
                    lambda it: not first.evaluate(ON_ONE_NODE, vhost=it.name), SECONDS, "queues to be on both nodes"
                )
            dispatch.many([("ordered", number) for number in range(sent, sent + count)])
            sent += count
            with cluster.without(victim):
                heard.wait_for_a_new_tick()
                if mirrored:
                    dispatch.many([("ordered", number) for number in range(sent, sent + count)])
                    sent += count
                    heard.wait_for_orders(set(range(sent)))
                    assert doubled(client, sent) == 2 * sent
            heard.wait_for_orders(set(range(sent)))


def test_queues_of_the_node_that_lives_go_on_and_the_others_wait_for_theirs(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Classic queues, each on one node, of one service on one connection; and the queue for replies on the dead one."""
    need_declarations_without_majority(cluster)
    dead, alive = cluster.nodes
    vhost, heard = dead.vhost(), Heard()
    there, elsewhere = (Doors(RabbitMQBroker(node.uri_of(vhost.name))) for node in cluster.nodes)
    there.declare(Queue("dead"))  # a queue is on the node that it is declared through
    elsewhere.declare(Queue("alive"))
    on_dead, waiting = recording(QueueListener("dead"), name="one")
    going_on: SimpleQueue[tuple[int, int]] = SimpleQueue()

    class Retrying:
        name = "two"
        retry = BackOffData()

        @route(QueueListener("alive"), backoff=AsyncBackOff(max_retries=1, interval=50))
        def handle(self, number: int) -> None:
            if self.retry.retry_count == 0:
                raise TimeoutError("not yet")
            going_on.put((number, self.retry.retry_count))

    with contextlib.ExitStack() as stack:
        stack.callback(elsewhere.close)
        stack.callback(there.close)
        stack.enter_context(running(heard.service, config={"AMQP_URI": cluster.uri(vhost.name, alive)}))
        uri = cluster.uri(vhost.name, dead)
        runner: Runner = stack.enter_context(running(on_dead, Retrying, config={"AMQP_URI": uri}))
        client = stack.enter_context(RPCClient(uri))
        assert doubled(client, 1) == 2
        there.send(message("dead", "1", properties=DURABLE))
        assert waiting.next() == 1
        elsewhere.send(message("alive", "10", properties=DURABLE))
        assert going_on.get(timeout=SECONDS) == (10, 1)  # the queue that held it back is on the node that dies
        there.close()
        with cluster.without(dead):
            elsewhere.send(message("alive", "2", properties=DURABLE))
            assert going_on.get(timeout=SECONDS) == (2, 1)
            assert "alive.mf-delay.50.2" in alive.evaluate(
                "[element(4, amqqueue:get_name(Q)) || Q <- rabbit_amqqueue:list(%(vhost)s)]", vhost=vhost.name
            )
            assert doubled(client, 3) == 6
            heard.wait_for_a_new_tick()
            assert not runner.ready
        assert runner.lifecycle.wait_until(lambda: runner.ready, SECONDS), "a queue is not consumed again"
        elsewhere.send(message("dead", "4", properties=DURABLE))
        while (number := waiting.next()) != 4:
            assert number == 1, "the broker may have died before it noted the acknowledgement, and nothing else"
    assert "queue 'dead' is not there: Queue.declare: " in caplog.text
    assert "takes its place" in caplog.text


def test_quorum_queues_of_two_members_wait_for_both_and_lose_nothing(
    cluster: Cluster, soak_size: Callable[[int], int]
) -> None:
    first, second = cluster.nodes
    vhost, count = first.vhost(default_queue_type="quorum"), soak_size(50)
    service, calls = recording(EventListener("web", "ordered"), name="shop")
    config = {"AMQP_URI": cluster.uri(vhost.name, second), "PUBLISH_TIMEOUT": SECONDS, "HEARTBEAT": 2}
    with running(service, config=config) as runner, EventProducer("web", config) as dispatch:
        dispatch("ordered", 0)
        assert calls.next() == 0
        assert vhost.queue("evt-web-ordered--shop.handle").arguments.get("x-queue-type") == "quorum"
        dispatch.many([("ordered", number) for number in range(1, count)])
        with cluster.without(first):
            pass
        dispatch.many([("ordered", number) for number in range(count, 2 * count)])
        seen = {0}
        while len(seen) < 2 * count:
            seen.add(calls.queue.get(timeout=SECONDS)[0])
        assert runner.lifecycle.wait_until(lambda: runner.ready, SECONDS)
