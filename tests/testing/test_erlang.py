"""Asking a node by `erl_call`: values come back whole, failures come back readable."""

from concurrent.futures import ThreadPoolExecutor

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


def test_text_travels_unharmed_both_ways(own_node: RabbitMQNode) -> None:
    text = 'caf\u00e9 "quoted" \\ #{} %'
    assert own_node.evaluate("%(text)s", text=text) == text
    assert own_node.evaluate("[#{a => 1}, #{b => [true]}]") == [{"a": 1}, {"b": [True]}]


def test_a_failing_question_shows_the_nodes_reason(own_node: RabbitMQNode) -> None:
    with pytest.raises(BrokerStateError, match="undef"):
        own_node.evaluate("no_such_module:run()")


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


def test_many_may_ask_at_once(own_node: RabbitMQNode) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: own_node.vhosts(), range(40)))
    assert answers == [["/"]] * 40


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


def test_a_long_answer_of_a_node_is_read(own_node: RabbitMQNode) -> None:
    assert own_node.evaluate('binary:copy(<<"x">>, 100000)') == "x" * 100_000
