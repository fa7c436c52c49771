"""The contract tests run on every broker, and again on doors that both consume and publish; these fixtures choose."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import Broker
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.exceptions import PublishRejected
from tests import versions
from tests.brokers.probes import Doors, DuplexOnly, MemoryOperator, Operator, RabbitMQOperator, mf_threads


@pytest.fixture(params=["memory", "rabbitmq", "memory duplex", "rabbitmq duplex"])
def any_broker(request: pytest.FixtureRequest) -> Broker:
    """A broker with nothing in it; a duplex one gives doors for both where one for either is asked for."""
    kind, _, duplex = request.param.partition(" ")
    broker = broker_of(kind, request)
    return DuplexOnly(broker) if duplex else broker


def broker_of(kind: str, request: pytest.FixtureRequest) -> Broker:
    if kind == "memory":
        return MemoryBroker.named(f"memory://{uuid4().hex}")
    return RabbitMQBroker(request.getfixturevalue("amqp_uri"))


@pytest.fixture
def doors(any_broker: Broker) -> Iterator[Doors]:
    """Doors that are closed after the test, and then leave no thread behind."""
    doors = Doors(any_broker)
    yield doors
    doors.close()
    assert mf_threads() == []


@pytest.fixture
def refused_while_going(any_broker: Broker, request: pytest.FixtureRequest) -> tuple[type[PublishRejected], ...]:
    """What this broker may answer, for a moment, to a message for a queue that is just going."""
    return () if "memory" in request.node.name else versions.refused_while_going(request.getfixturevalue("amqp_uri"))


@pytest.fixture
def operator(any_broker: Broker, request: pytest.FixtureRequest) -> Operator:
    """Whoever deletes queues and cuts connections behind the doors' backs."""
    if isinstance(any_broker, MemoryBroker):
        return MemoryOperator(any_broker)
    return RabbitMQOperator(request.getfixturevalue("rabbit"))
