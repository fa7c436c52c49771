"""Doors to RabbitMQ: on the run's broker, or on a node that a test may hurt."""

from collections.abc import Iterator

import pytest

from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.brokers.probes import Doors


@pytest.fixture
def doors(amqp_uri: str) -> Iterator[Doors]:
    """Doors to an empty virtual host."""
    doors = Doors(RabbitMQBroker(amqp_uri))
    yield doors
    doors.close()


@pytest.fixture
def hurt(own_node: RabbitMQNode) -> VHost:
    """An empty virtual host on a node that the test may kill."""
    return own_node.vhost()


@pytest.fixture
def hurt_doors(hurt: VHost, own_node: RabbitMQNode) -> Iterator[Doors]:
    """Doors to that virtual host; heartbeats every second."""
    doors = Doors(RabbitMQBroker(hurt.uri, heartbeat=1))
    yield doors
    own_node.resume()
    doors.close()
