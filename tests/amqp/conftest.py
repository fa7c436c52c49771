"""The AMQP extensions are tested on every broker."""

from collections.abc import Iterator

import pytest

from tests.outside import Outside, memory_uri


@pytest.fixture(params=["memory", "rabbitmq"])
def broker_uri(request: pytest.FixtureRequest) -> str:
    """The URI of a broker with nothing in it."""
    return memory_uri() if request.param == "memory" else request.getfixturevalue("amqp_uri")


@pytest.fixture
def outside(broker_uri: str) -> Iterator[Outside]:
    """Somebody else at that broker."""
    outside = Outside(broker_uri)
    yield outside
    outside.close()
