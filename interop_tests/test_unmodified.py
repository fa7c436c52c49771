"""Unmodified Nameko service files on this runner: beside real Nameko, and in its place.

One file's services talk to each other, one half of them hosted here and the other by real Nameko. Another file's are
asked the same by Nameko's own client, hosted here and by real Nameko, and must answer the same.
"""

import contextlib
import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from interop_tests.nameko_process import Nameko, NamekoDriver, NamekoError
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
    params=[("2.14.1", "Front"), ("3.0.0rc11", "Back")],
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


CALLS: list[tuple[str, str, list[Any]]] = [
    ("target", "echo", [1, None, {"a": [1.5, "ü"]}]),
    ("target", "add", [1]),
    ("target", "add", []),
    ("target", "nothing", []),
    ("target", "no_such_method", []),
    ("target", "on_pool", []),
    ("target", "context", []),
    *[("target", "fail", [kind]) for kind in ("boom", "known", "keyerror", "noargs", "badstr", "unicode", "typeerror")],
    ("target", "unserializable", []),
    ("target", "typed", []),
    *[("caller", "relay", [method]) for method in ("nothing", "no_such_method", "unserializable")],
    ("caller", "relay", ["fail", ["known"]]),
    ("caller", "relay", ["fail", ["boom"]]),
    ("caller", "call_missing", []),
    ("caller", "fan_out", [5]),
    ("caller", "mutate", []),
    ("source", "emit", ["evt.pool", {"n": 1}]),
    ("source", "emit", ["evt.single", {"n": 2}]),
    ("source", "emit", ["evt.bcast.stable", {"n": 3}]),
    ("source", "emit", ["evt.fail", {"n": 4}]),
    ("source", "emit_fast", ["evt.bcast", {"n": 5}]),
    ("source", "emit_typed", []),
    ("source", "raw", ["text", {"headers": {"x": "y"}, "expiration": 50}]),
    ("source", "raw", [{"n": 6}, {"routing_key": "nowhere", "mandatory": True}]),
]
UNIQUE = r"[0-9a-f]{8}-[0-9a-f-]{27}|0x[0-9a-f]+"
"""Ids and addresses."""
PAGES = ["/get/7", "/get/x", "/two", "/bad", "/err/known", "/err/other", "/no"]
HEARD = 11
"""Entries in the log of ``target`` that `CALLS` cause: one for each handler, and a second one by a pattern for most."""


def answers(driver: NamekoDriver, vhost: VHost, port: int) -> list[Any]:
    """What the services of ``nameko_services`` answer, and what their handlers heard."""
    found: list[Any] = [answer(driver, *call) for call in CALLS]
    vhost.wait_for(lambda _: len(driver.log()) >= HEARD, SECONDS, f"{HEARD} entries in the log")
    vhost.wait_until_drained()
    found.append(sorted(map(str, driver.log())))
    return [*found, *(page(port, path) for path in PAGES)]


def answer(driver: NamekoDriver, service: str, method: str, arguments: list[Any]) -> Any:
    """The answer to a call, without what is new in each."""
    try:
        found = driver.call(service, method, arguments, context_data={"language": "de"})
    except NamekoError as error:
        found = error.remote
    if isinstance(found, dict):
        found.pop("mro", None)  # the same classes have more bases here
        if found.get("exc_type") == "UndeliverableMessage":
            found = found["exc_type"]  # it says why here
    return f"{service}.{method}{arguments}: {re.sub(UNIQUE, '...', repr(found))}"


def page(port: int, path: str) -> tuple[str, int, bytes]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", path)
    response = connection.getresponse()
    found = path, response.status, response.read()
    connection.close()
    return found


class NamekoServices(UnmodifiedService):
    """The services that the other tests here host with real Nameko."""

    module = "nameko_services"


def test_the_same_is_answered_in_namekos_place(nameko: Nameko) -> None:
    driver, vhost = nameko.driver(), nameko.vhost
    process = nameko.run("nameko_services")
    expected = answers(driver, vhost, process.web_port)
    process.stop()
    names = ("Source", "Target", "Caller", "Web")
    api = 3 if nameko.version.startswith("3") else 2
    with NamekoServices(vhost, *names, NAMEKO_API=api) as own:
        port = int(str(own.config["WEB_SERVER_ADDRESS"]).rpartition(":")[2])
        found = answers(driver, vhost, port)
    assert found == expected
