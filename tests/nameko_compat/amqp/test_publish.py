"""kombu's connections and producers by Nameko's names."""

import pytest

from micro_framework.testing.broker_state import VHost
from nameko_compat import amqp
from nameko_compat.amqp.publish import UndeliverableMessage, get_connection, get_producer


def test_connections_and_producers_come_from_kombus_pools(rabbit: VHost) -> None:
    with get_connection(rabbit.uri) as connection:
        connection.SimpleQueue("things").close()
    with get_producer(rabbit.uri) as producer:
        producer.publish("tea", exchange="", routing_key="things")
        assert producer.connection.transport_options["confirm_publish"] is True
    with get_producer(rabbit.uri, confirms=False, transport_options={"max_retries": 1}) as producer:
        assert producer.connection.transport_options == {"max_retries": 1, "confirm_publish": False}
    with get_connection(rabbit.uri) as connection:
        assert connection.SimpleQueue("things").get(timeout=20).payload == "tea"


def test_kombu_does_not_know_the_embedded_broker() -> None:
    with pytest.raises(NotImplementedError, match="cannot connect to the embedded broker"), get_connection("memory://"):
        pass


def test_the_package_has_the_names_too() -> None:
    assert amqp.get_connection is get_connection
    assert amqp.get_producer is get_producer
    assert amqp.UndeliverableMessage is UndeliverableMessage
