"""An unmodified Nameko service file on this runner and on real Nameko, one half each, talking to each other."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from interop_tests.nameko_process import Nameko
from interop_tests.own_process import UnmodifiedService
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import BrokerAdmin, VHost

SECONDS = 30.0
VERSIONS = ("2.14.1", "3.0.0rc11")


@dataclass
class Halves:
    """The two services, one of them hosted here, and a client."""

    rpc: Any
    vhost: VHost
    hosted_here: str

    def wait_seen(self, service: str, expected: Any) -> None:
        """Return once a service has seen something."""
        self.vhost.wait_for(lambda _: expected in self.rpc[service].seen(), SECONDS, f"{service} to see {expected}")


@pytest.fixture(
    scope="module",
    params=[(version, here) for version in VERSIONS for here in ("Front", "Back")],
    ids=lambda param: f"{param[1]}-here-beside-{param[0]}",
)
def halves(request: pytest.FixtureRequest, broker: BrokerAdmin) -> Iterator[Halves]:
    """``Front`` here and ``Back`` on real Nameko, or the other way round."""
    version, here = request.param
    there = "Back" if here == "Front" else "Front"
    vhost = VHost(broker, broker.add_vhost())
    with contextlib.ExitStack() as stack:
        nameko = stack.enter_context(contextlib.closing(Nameko(version, vhost)))
        own = stack.enter_context(UnmodifiedService(vhost, here, CURRENCY="EUR"))
        nameko.run(f"unmodified:{there}", config={"CURRENCY": "EUR"})
        client = stack.enter_context(RPCClient(vhost.uri, timeout=SECONDS, context_data={"user": "u1"}))
        yield Halves(client, vhost, here)
        own.terminate()
        assert own.wait() == 0, own.output()
    broker.delete_vhost(vhost.name)


def test_calls_and_events_go_through_both(halves: Halves) -> None:
    assert halves.rpc.front.order(3) == {"price": 6, "currency": "EUR"}
    halves.wait_seen("back", 3)
    halves.wait_seen("front", [3, "u1", 4])


def test_errors_are_the_same_on_both_sides(halves: Halves) -> None:
    assert halves.rpc.front.fail(-1) == ["RemoteError", "ValueError no such number"]
    assert halves.rpc.front.call_nobody() == "Unknown service `nobody`"


def test_eventlet_works_on_both_sides(halves: Halves) -> None:
    assert halves.rpc.front.several([1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]
    assert halves.rpc.front.hurry() == "timed out"


def test_a_third_party_entrypoint_fires_on_both_sides(halves: Halves) -> None:
    halves.rpc.front.poll(21)
    halves.wait_seen("front", ["handled", 42])
