"""Somebody who has parked messages, on every broker."""

import pytest

from tests.outside import Outside, memory_uri


@pytest.fixture(params=["memory", "rabbitmq"])
def broker_uri(request):
    """The URI of a broker with nothing in it."""
    return memory_uri() if request.param == "memory" else request.getfixturevalue("amqp_uri")


@pytest.fixture
def outside(broker_uri):
    """Somebody else at that broker; keeps an embedded one alive."""
    outside = Outside(broker_uri)
    yield outside
    outside.close()
