"""A service file written for nameko-amqp-retry, hosted as it is, with that package installed beside it and without."""

import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from interop_tests.nameko_process import nameko_python
from interop_tests.own_process import UnmodifiedService
from micro_framework.exceptions import RemoteError
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import BrokerAdmin, VHost

SECONDS = 30.0

pytestmark = pytest.mark.timeout(300)  # the environment is made by the first test, if `make` has not made it


class RetryingService(UnmodifiedService):
    """The service."""

    module = "retrying"


@dataclass
class Retrying:
    """The running service, a client of it, and the versions of nameko-amqp-retry installed beside it."""

    rpc: Any
    vhost: VHost
    installed: list[str]


@pytest.fixture(scope="module", params=["installed", "not installed"])
def retrying(request: pytest.FixtureRequest, broker: BrokerAdmin) -> Iterator[Retrying]:
    installed = request.param == "installed"
    vhost = VHost(broker, broker.add_vhost())
    running = RetryingService(vhost, "Retrying")
    running.python = str(nameko_python("extensions")) if installed else sys.executable
    with running, RPCClient(vhost.uri, timeout=SECONDS) as client:
        yield Retrying(client.retrying, vhost, ["0.7.0"] if installed else [])
        running.terminate()
        assert running.wait() == 0, running.output()
    broker.delete_vhost(vhost.name)


@pytest.fixture
def what() -> str:
    """Something that no other test has tried."""
    return uuid.uuid4().hex


def test_the_names_mean_the_shim(retrying: Retrying) -> None:
    assert retrying.rpc.whose() == ["nameko_compat.amqp_retry", retrying.installed]


def test_a_call_is_tried_again_and_answered_once(retrying: Retrying, what: str) -> None:
    assert retrying.rpc.at_the_third(what) == 3
    assert retrying.rpc.tries()[what] == 3


def test_a_call_that_is_tried_too_often_has_expired(retrying: Retrying, what: str) -> None:
    with pytest.raises(RemoteError, match="Backoff aborted after '3' retries") as caught:
        retrying.rpc.never(what)
    assert caught.value.exc_type == "Expired"
    assert retrying.rpc.tries()[what] == 4


def test_what_the_decorator_does_not_name_fails_at_once(retrying: Retrying, what: str) -> None:
    with pytest.raises(RemoteError, match="not tried again") as caught:
        retrying.rpc.decorated(what)
    assert caught.value.exc_type == "ValueError"
    assert retrying.rpc.tries()[what] == 2


def test_events_and_messages_are_tried_again(retrying: Retrying, what: str) -> None:
    retrying.rpc.order(what)
    retrying.vhost.wait_for(lambda _: f"done {what}" in retrying.rpc.tries(), SECONDS, "the parcel to arrive")
    tries = retrying.rpc.tries()
    assert [tries[f"{stage} {what}"] for stage in ("event", "parcel", "done")] == [2, 2, 1]
