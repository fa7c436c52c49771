"""A broker asked over HTTP tells the same as the same broker asked by Erlang."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection, Exchange, Queue

from micro_framework.testing.broker_state import BrokerStateError
from micro_framework.testing.management import ManagementAdmin
from micro_framework.testing.rabbitmq import RabbitMQNode, free_port
from tests.nameko_compat.testing.test_pytest import run_tests

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitMQNode]:
    port = free_port()
    config = ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {port}"]
    with RabbitMQNode(extra_config=config, plugins=["rabbitmq_management"]) as running:
        running.management_uri = f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
        yield running


@pytest.fixture(scope="module")
def admin(node: RabbitMQNode) -> ManagementAdmin:
    return ManagementAdmin(node.uri, node.management_uri)  # type: ignore[attr-defined]


def test_both_ways_of_asking_agree(node: RabbitMQNode, admin: ManagementAdmin) -> None:
    vhost = admin.vhost()
    queue = Queue("evt", Exchange("events", "topic"), routing_key="a.*", queue_arguments={"x-max-length": 5})
    with Connection(vhost.uri, transport_options={"confirm_publish": True}) as connection:
        channel = connection.default_channel
        queue(channel).declare()
        connection.Producer().publish({}, exchange="events", routing_key="a.b")
        connection.Producer().publish({}, exchange="events", routing_key="a.c")
        channel.basic_qos(0, 1, False)
        channel.basic_consume("evt", callback=lambda message: None)
        vhost.wait_for(lambda _: vhost.queue("evt").unacknowledged == 1, what="one message with the consumer")
        assert vhost.queue("evt").ready == 1
        vhost.wait_for(lambda _: vhost.queue("evt").consumers == 1, what="the consumer")
        assert admin.queues(vhost.name) == node.queues(vhost.name)
        assert admin.exchanges(vhost.name) == node.exchanges(vhost.name)
        assert admin.bindings(vhost.name) == node.bindings(vhost.name)
        assert len(vhost.connections()) == 1  # though the statistics may not have it yet
        assert vhost.close_connections() == 1
    admin.delete_vhost(vhost.name)
    assert vhost.name not in node.vhosts()


def test_a_queue_can_be_deleted_once_and_again(admin: ManagementAdmin) -> None:
    vhost = admin.vhost()
    with Connection(vhost.uri) as connection:
        for name in ("a/b", "other"):
            Queue(name)(connection.default_channel).declare()
        for _ in range(2):
            vhost.delete_queue("a/b")
            assert set(vhost.queues()) == {"other"}
    admin.delete_vhost(vhost.name)


def test_a_queue_that_may_not_be_deleted_is_told(admin: ManagementAdmin) -> None:
    vhost = admin.vhost()
    with Connection(vhost.uri) as connection:
        Queue("mine", exclusive=True)(connection.default_channel).declare()
        with pytest.raises(BrokerStateError, match="DELETE queues/.*/mine"):
            vhost.delete_queue("mine")
    admin.delete_vhost(vhost.name)


def test_a_refusal_names_the_request(admin: ManagementAdmin) -> None:
    with pytest.raises(BrokerStateError, match=r"DELETE vhosts/nosuch: .* 404"):
        admin.delete_vhost("nosuch")


def test_an_absent_api_is_told_with_the_ways_out() -> None:
    nobody = ManagementAdmin("amqp://guest:secret@127.0.0.1", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerStateError, match="enable rabbitmq_management") as caught:
        nobody.add_vhost()
    assert "secret" not in str(caught.value)


def test_credentials_are_quoted_into_the_uri() -> None:
    admin = ManagementAdmin("amqp://us%40er:p%2Fw@broker:5673/x")
    assert admin.uri_of("a/b") == "amqp://us%40er:p%2Fw@broker:5673/a%2Fb"


def test_namekos_pytest_fixtures_work_with_it(node: RabbitMQNode, tmp_path: Path) -> None:
    before = set(node.vhosts())
    management = node.management_uri  # type: ignore[attr-defined]
    output = run_tests(tmp_path, f"--amqp-uri={node.uri}", f"--rabbit-api-uri={management}")
    assert "7 passed" in output, output
    assert set(node.vhosts()) == before
