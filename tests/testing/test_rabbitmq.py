"""The throw-away node: it comes up, dies on request, keeps what is durable, and leaves nothing behind."""

import contextlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from kombu import Connection, Exchange, Queue

from micro_framework.testing.broker_state import BrokerStateError
from micro_framework.testing.rabbitmq import PRELOAD, RabbitMQNode, Watchdog, accepts_connections, free_port

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitMQNode]:
    with RabbitMQNode() as running:
        yield running


def declare(uri: str, queue: Queue, messages: int = 0) -> None:
    with Connection(uri, transport_options={"confirm_publish": True}) as connection:
        bound = queue(connection.default_channel)
        bound.declare()
        producer = connection.Producer()
        for number in range(messages):
            producer.publish({"number": number}, routing_key=queue.name, delivery_mode=2)


def becomes(predicate: Callable[[], bool], timeout: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_listens_on_loopback_only(node: RabbitMQNode) -> None:
    listeners = node.call("rabbit_networking:active_listeners().")
    assert "{127, 0, 0, 1}" in listeners
    assert "{0, 0, 0, 0" not in listeners


def test_every_module_can_be_loaded_before_the_broker_starts(node: RabbitMQNode) -> None:
    """A start goes on without, so that a mistake in it would be seen nowhere else."""
    assert node.call(f"{PRELOAD.strip()}.") == "{ok, ok}"


def test_vhosts_are_separate_and_deleted_whole(node: RabbitMQNode) -> None:
    first, second = node.vhost(), node.vhost()
    declare(first.uri, Queue("only.here"))
    assert list(first.queues()) == ["only.here"]
    assert second.queues() == {}
    node.delete_vhost(first.name)
    node.delete_vhost(second.name)
    with pytest.raises(BrokerStateError, match="no_such_vhost"):
        node.delete_vhost(first.name)


def test_what_is_durable_survives_a_kill_once_it_is_persisted(node: RabbitMQNode) -> None:
    """Also in the worst case: the broker has answered, and confirmed, and the decision is nowhere on the disk."""
    vhost = node.vhost()
    declare(vhost.uri, Queue("kept", Exchange("events", "topic"), routing_key="a.*"), messages=3)
    with decisions_held_back(node):
        declare(vhost.uri, Queue("decided late"), messages=3)
    node.persist_declarations()
    node.kill()
    assert not accepts_connections(node.host, node.port)
    node.start()
    assert (vhost.depth("kept"), vhost.depth("decided late")) == (3, 3)


@contextlib.contextmanager
def decisions_held_back(node: RabbitMQNode) -> Iterator[None]:
    """Mnesia logs no decision inside the block; where Mnesia does not run, nothing is held back."""
    running = "whereis(mnesia_recover) =/= undefined"
    node.evaluate(f"{running} andalso sys:suspend(mnesia_recover), []")
    try:
        yield
    finally:
        node.evaluate(f"{running} andalso sys:resume(mnesia_recover), []")


def test_restart_keeps_the_port(node: RabbitMQNode) -> None:
    uri = node.uri
    node.restart()
    with Connection(uri) as connection:
        connection.connect()
    assert node.uri == uri


def test_a_paused_broker_does_not_answer_and_a_resumed_one_does(node: RabbitMQNode) -> None:
    with node.paused(), pytest.raises(OSError, match="timed out"):
        Connection(node.uri, connect_timeout=0.5).connect()
    with Connection(node.uri, connect_timeout=20) as connection:
        connection.connect()


def test_memory_alarm_is_raised_and_cleared(node: RabbitMQNode) -> None:
    with node.memory_alarm():
        assert "memory" in node.call("rabbit_alarm:get_alarms().")
    assert node.call("rabbit_alarm:get_alarms().") == "{ok, []}"


def test_a_connection_is_closed_from_the_broker_side(node: RabbitMQNode) -> None:
    vhost = node.vhost()
    options = {"client_properties": {"connection_name": "victim"}}
    with Connection(vhost.uri, transport_options=options) as victim, Connection(vhost.uri) as other:
        victim.connect()
        other.connect()
        vhost.wait_for(lambda _: len(vhost.connections()) == 2, what="two connections")
        assert vhost.close_connections(client_name="victim") == 1
        with pytest.raises(victim.recoverable_connection_errors, match="closed by a test"):
            victim.drain_events(timeout=20)
        other.default_channel.queue_declare("still.works")


def test_a_broken_config_is_reported_with_the_brokers_words() -> None:
    node = RabbitMQNode(extra_config=["listeners.nonsense = 1"])
    with pytest.raises(BrokerStateError, match=r"(?s)ended at start.*listeners\.nonsense"), node:
        pass
    assert not node.folder.exists()


def test_a_taken_port_is_exchanged_for_a_free_one_and_extra_config_is_used() -> None:
    node = RabbitMQNode(extra_config=["channel_max = 17"])
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = node.port = other.getsockname()[1]
        node._write_config()
        with node:
            assert node.port != taken
            assert node.queues("/") == []
            with Connection(node.uri) as connection:
                assert connection.connection.channel_max == 17


OWNER = """
import sys
from micro_framework.testing.rabbitmq import RabbitMQNode
node = RabbitMQNode().start()
node.pause()
print(node.process.pid, node.epmd.pid, node.folder, flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    server, epmd, folder = owner.stdout.readline().split()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert becomes(lambda: not is_alive(int(server)) and not is_alive(int(epmd)))
    assert becomes(lambda: not Path(folder).exists())


def test_the_folder_is_made_where_it_is_told(tmp_path: Path) -> None:
    node = RabbitMQNode(files_in=str(tmp_path))
    assert list(tmp_path.iterdir()) == [node.folder]
    node.close()
    assert list(tmp_path.iterdir()) == []


def test_the_watchdog_only_touches_its_folder(tmp_path: Path) -> None:
    folder, neighbour = tmp_path / "node", tmp_path / "neighbour"
    folder.mkdir()
    neighbour.mkdir()
    Watchdog(folder).close()
    assert not folder.exists()
    assert neighbour.exists()


def test_free_ports_can_be_listened_on() -> None:
    assert not accepts_connections("127.0.0.1", free_port())


def test_free_ports_are_none_that_a_client_may_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "ip_local_port_range"
    monkeypatch.setattr("micro_framework.testing.rabbitmq.OUTGOING_PORTS", given)
    given.write_text("25000\t60999\n")
    assert all(10_000 <= free_port() < 25_000 for _ in range(50))
    for useless in ("1024\t65535\n", ""):
        given.write_text(useless)
        assert free_port() > 0
