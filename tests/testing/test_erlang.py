"""Asking a node by `erl_call` and at its socket: values come back whole, failures come back readable."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kombu import Connection, Queue

from micro_framework.testing.broker_state import BrokerStateError
from micro_framework.testing.erlang import (
    ErlangAdmin,
    clean_environment,
    find_erlang_tool,
    find_server_home,
    text_in,
)
from micro_framework.testing.rabbitmq import RabbitMQNode, free_port


@pytest.fixture(params=["erl_call", "socket"])
def admin(request: pytest.FixtureRequest, own_node: RabbitMQNode) -> ErlangAdmin:
    """Asks the node in one of both ways."""
    admin = ErlangAdmin(**own_node.settings())
    if request.param == "erl_call":
        admin.questions = None
    return admin


def test_text_travels_unharmed_both_ways(admin: ErlangAdmin) -> None:
    text = 'caf\u00e9 \U0001f600 "quoted" \\ #{} %'
    assert admin.evaluate("%(text)s", text=text) == text
    assert admin.evaluate("[#{a => 1}, #{b => [true]}]") == [{"a": 1}, {"b": [True]}]


def test_a_failing_question_shows_the_nodes_reason(admin: ErlangAdmin) -> None:
    with pytest.raises(BrokerStateError, match=r"refused.*undef"):
        admin.evaluate("no_such_module:run()")
    with pytest.raises(BrokerStateError, match=r"refused.*enough"):
        admin.evaluate("exit(enough)")
    with pytest.raises(BrokerStateError, match=r"refused"):
        admin.evaluate("this is no Erlang")
    assert admin.evaluate("[]") == []


def test_a_question_that_takes_too_long_is_given_up(admin: ErlangAdmin) -> None:
    with pytest.raises(BrokerStateError, match="answer"):
        admin.evaluate("timer:sleep(8000), []", timeout=1)
    assert admin.evaluate("[]") == []


def test_a_paused_node_is_told_as_such(admin: ErlangAdmin, own_node: RabbitMQNode) -> None:
    started = time.monotonic()
    with own_node.paused(), pytest.raises(BrokerStateError, match="answer"):
        admin.evaluate("[]", timeout=1)
    assert time.monotonic() - started < 15
    assert admin.evaluate("[]") == []


def test_a_queue_of_any_name_and_owner_can_be_deleted(own_node: RabbitMQNode) -> None:
    vhost, name = own_node.vhost(), 'caf\u00e9 "quoted" %'
    with Connection(vhost.uri) as connection:
        Queue(name, exclusive=True)(connection.default_channel).declare()
        own_node.delete_queue(vhost.name, "no such queue")
        assert set(vhost.queues()) == {name}
        own_node.delete_queue(vhost.name, name)
        assert vhost.queues() == {}


def test_another_process_can_ask_with_the_settings(own_node: RabbitMQNode) -> None:
    other = ErlangAdmin(**own_node.settings())
    assert other.vhosts() == own_node.vhosts()


def test_many_may_ask_at_once(admin: ErlangAdmin) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: admin.vhosts(), range(40)))
    assert answers == [["/"]] * 40


def test_a_node_is_asked_at_its_socket(own_node: RabbitMQNode) -> None:
    without_erl_call = ErlangAdmin(**own_node.settings() | {"distribution_port": free_port(), "cookie": "wrong"})
    assert without_erl_call.vhosts() == ["/"]


@pytest.mark.parametrize("kill", [True, False])
def test_a_node_that_was_started_again_is_asked_at_its_socket(own_node: RabbitMQNode, kill: bool) -> None:
    without_erl_call = ErlangAdmin(**own_node.settings() | {"distribution_port": free_port(), "cookie": "wrong"})
    if kill:
        own_node.kill()
    else:
        own_node.stop()
    with pytest.raises(BrokerStateError, match="does not answer"):
        own_node.vhosts()
    own_node.start()
    assert without_erl_call.vhosts() == ["/"]


def close_one(listener: socket.socket) -> None:
    listener.accept()[0].close()


@pytest.fixture
def closing(tmp_path: Path) -> Iterator[str]:
    """The path of a socket where every connection is closed at once, as by a node that is killed meanwhile."""
    path = str(tmp_path / "ask.sock")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(path)
        listener.listen()
        pool.submit(close_one, listener)
        yield path


def test_a_node_that_ends_while_it_is_asked_is_told_as_such_and_not_asked_again(
    own_node: RabbitMQNode, closing: str
) -> None:
    """What was asked may have been an order, and carried out."""
    with pytest.raises(BrokerStateError, match="does not answer"):
        ErlangAdmin(**own_node.settings() | {"questions": closing}).vhosts()


def test_a_node_without_a_socket_is_asked_by_erl_call(own_node: RabbitMQNode, tmp_path: Path) -> None:
    assert ErlangAdmin(**own_node.settings() | {"questions": str(tmp_path / "none")}).vhosts() == ["/"]


def test_a_dead_node_is_told_as_such() -> None:
    with pytest.raises(BrokerStateError, match="does not answer"):
        ErlangAdmin(free_port(), free_port(), "cookie").vhosts()


def test_the_server_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MF_RABBITMQ_HOME", "/opt/rabbit")
    assert str(find_server_home()) == "/opt/rabbit"


def test_a_missing_tool_is_named() -> None:
    with pytest.raises(BrokerStateError, match="erl_nonsense"):
        find_erlang_tool("erl_nonsense")


def test_nothing_that_steers_a_broker_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_NODENAME", "production")
    monkeypatch.setenv("ERL_FLAGS", "+x")
    environment = clean_environment(HOME="/here")
    assert "RABBITMQ_NODENAME" not in environment
    assert "ERL_FLAGS" not in environment
    assert environment["HOME"] == "/here"


def test_answers_of_any_length_are_read() -> None:
    assert text_in('{ok, "W10="}') == b"W10="
    assert text_in("{ok, [87, 49, 48, 61]}") == b"W10="
    assert text_in("{error, nodedown}") is None


def test_a_long_answer_of_a_node_is_read(admin: ErlangAdmin) -> None:
    assert admin.evaluate('binary:copy(<<"x">>, 100000)') == "x" * 100_000
