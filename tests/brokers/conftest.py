"""The contract tests run on every broker; these fixtures choose it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.port import Broker
from tests.brokers.probes import Doors, mf_threads


@pytest.fixture(params=["memory", "rabbitmq"])
def any_broker(request: pytest.FixtureRequest) -> Broker:
    """A broker with nothing in it."""
    if request.param == "memory":
        return MemoryBroker.named(f"memory://{uuid4().hex}")
    from micro_framework.brokers.rabbitmq import RabbitMQBroker

    return RabbitMQBroker(request.getfixturevalue("amqp_uri"))


@pytest.fixture
def doors(any_broker: Broker) -> Iterator[Doors]:
    """Doors that are closed after the test, and then leave no thread behind."""
    doors = Doors(any_broker)
    yield doors
    doors.close()
    assert mf_threads() == []
