"""Calls that pass through both, three hops: what context data and call id stacks become, and that ours stay ours."""

import re
import time
from typing import Any

import pytest

from interop_tests.nameko_process import Nameko, NamekoPeer
from interop_tests.raw_messages import RawCaller, answering, channel_to
from interop_tests.services.own_services import Hop
from micro_framework.amqp.calls import RPCProxy
from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.amqp.serving import RPCListener
from micro_framework.dependencies import CallContext
from micro_framework.exceptions import RPCTimeout
from micro_framework.standalone import RPCClient
from micro_framework.testing.services import running

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
CONTEXT = {"user_id": 7, "language": "de", "nested": {"a": [1, "\u00e9"]}, "flag": False}
NAMEKO_US_NAMEKO = ["ours", "theirs"]
US_NAMEKO_US = ["theirs", "ours"]


class Chain(NamekoPeer):
    """`theirs` is Nameko's, `ours` is ours; both pass a call on to whom it names next."""


@pytest.fixture(scope="module")
def chain(shared_nameko: Nameko) -> Chain:
    shared_nameko.run("rpc_peers:Hop")
    return Chain(shared_nameko.driver(), shared_nameko.vhost)


def names_of(stack: list[str]) -> list[str]:
    """``service.method`` of each call id; the last part must be a uuid4."""
    assert all(re.search(rf"\.{UUID4}$", call_id) for call_id in stack), stack
    return [call_id.rsplit(".", 1)[0] for call_id in stack]


def test_nameko_calls_us_and_we_call_nameko(chain: Chain) -> None:
    with running(Hop, config=chain.config):
        seen = chain.driver.call("theirs", "hop", [NAMEKO_US_NAMEKO], context_data=CONTEXT)
    assert without_deadline(seen["data"]) == CONTEXT
    assert names_of(seen["stack"])[1:] == ["theirs.hop", "ours.hop", "theirs.context"]
    assert len(seen["stack"]) == 4


def without_deadline(data: dict[str, Any]) -> dict[str, Any]:
    """Nameko takes the deadline of a request, as every header that is not its own, for context data."""
    return {key: value for key, value in data.items() if key != "mf-deadline"}


def test_we_call_nameko_and_nameko_calls_us(chain: Chain) -> None:
    with running(Hop, config=chain.config), RPCClient(chain.vhost.uri, timeout=20, context_data=CONTEXT) as client:
        seen = client.ours.hop(US_NAMEKO_US)
    assert seen["data"] == CONTEXT
    assert names_of(seen["stack"])[1:] == ["ours.hop", "theirs.hop", "ours.context"]
    assert re.fullmatch(rf"standalone_rpc_client\.{UUID4}\.{UUID4}", seen["stack"][0])
    assert len(seen["stack"]) == 4


@pytest.mark.parametrize("hops", [[*NAMEKO_US_NAMEKO, *US_NAMEKO_US * 6], [*US_NAMEKO_US * 6]])
def test_a_long_stack_is_trimmed_alike_wherever_it_is(chain: Chain, hops: list[str]) -> None:
    with running(Hop, config=chain.config):
        seen = chain.driver.call("theirs", "hop", [hops])
    names = [f"{service}.hop" for service in hops[:-1]] + [f"{hops[-1]}.context"]
    assert names_of(seen["stack"]) == names[-11:]


def test_a_deadline_of_ours_means_nothing_on_its_way_back_from_nameko(chain: Chain) -> None:
    """Nameko sends it on as ``nameko.mf-deadline``: we neither obey it nor show it nor pass it on."""
    past = {"mf-deadline": 1000, "nameko.mf-deadline": 1000, "nameko.user_id": 7}
    with running(Hop, config=chain.config), RawCaller(chain.vhost.uri) as caller:
        seen = caller.ask("theirs.hop", {"args": [["ours"]], "kwargs": {}}, past).decoded["result"]
        assert seen["data"] == {"user_id": 7}
        seen = caller.ask("theirs.hop", {"args": [NAMEKO_US_NAMEKO], "kwargs": {}}, past).decoded["result"]
    assert without_deadline(seen["data"]) == {"user_id": 7}
    assert "nameko.mf-deadline" not in seen["data"]


OWN = [
    {"mf-retry-count": 3, "mf-anything": {"a": 1}},
    {"nameko.mf-retry-count": 3, "nameko.mf-anything": {"a": 1}},
]


@pytest.mark.parametrize("headers", OWN)
def test_headers_of_our_own_never_travel_on(chain: Chain, headers: dict[str, Any]) -> None:
    request = {"args": [["theirs"]], "kwargs": {}}
    with running(Hop, config=chain.config), RawCaller(chain.vhost.uri) as caller:
        seen = caller.ask("ours.hop", request, {**headers, "nameko.user_id": 7}).decoded["result"]
    assert without_deadline(seen["data"]) == {"user_id": 7}


FOREIGN = [
    ({"x-foreign": "f"}, {"x-foreign": "f"}),
    ({"Nameko.caps": "c"}, {"Nameko.caps": "c"}),
    ({"nameko.nameko.twice": 2}, {"nameko.twice": 2}),
    ({"nameko.nothing": None, "nameko.nested": {"none": None}}, {"nested": {"none": None}}),
]


@pytest.mark.parametrize(("headers", "context"), FOREIGN)
def test_a_foreign_header_becomes_the_same_through_us_as_through_nameko(
    chain: Chain, headers: dict[str, Any], context: dict[str, Any]
) -> None:
    with running(Hop, config=chain.config), RawCaller(chain.vhost.uri) as caller:
        through_us = caller.ask("ours.hop", {"args": [["theirs"]], "kwargs": {}}, headers)
        through_nameko = caller.ask("theirs.hop", {"args": [["theirs"]], "kwargs": {}}, headers)
    assert without_deadline(through_us.decoded["result"]["data"]) == context
    assert through_nameko.decoded["result"]["data"] == context


# -- the deadline, among ourselves


class Telling:
    """Ours: tells how much time the request says is left, and calls on."""

    name = "telling"
    next = RPCProxy("raw")
    dispatch = Producer()
    ctx = CallContext()

    @RPCListener()
    def call_on(self) -> Any:
        self.dispatch("told", None)
        return self.next.anything.with_timeout(3600)()


class Hearing:
    name = "hearing"
    heard: list[dict[str, Any]] = []
    ctx = CallContext()

    @EventListener("telling", "told")
    def hear(self, payload: Any) -> None:
        self.heard.append(dict(self.ctx.data))


def test_a_call_inside_a_call_has_what_is_left_of_its_time_and_events_have_none(chain: Chain) -> None:
    with (
        answering(chain.vhost.uri, "raw", b'{"result": 1, "error": null}') as requests,
        running(Telling, Hearing, config=chain.config),
        RPCClient(chain.vhost.uri) as client,
    ):
        before = time.time()
        assert client.telling.call_on.with_timeout(30)() == 1
        after = time.time()
        chain.vhost.wait_for(lambda _: Hearing.heard, what="the event")
    deadline = requests[0].headers["mf-deadline"] / 1000
    assert before + 29 < deadline <= after + 30
    assert Hearing.heard.pop() == {}


def test_a_call_inside_a_call_gives_up_with_its_caller(chain: Chain) -> None:
    """Or the service would be at it for a minute, and the stop would abandon the call."""
    with channel_to(chain.vhost.uri) as channel:
        channel.queue_declare("rpc-silent", durable=True, auto_delete=False)
        with running(Hop, config=chain.config), RPCClient(chain.vhost.uri) as client:
            channel.queue_bind("rpc-silent", "nameko-rpc", "silent.*")
            with pytest.raises(RPCTimeout, match=r"ours\.hop did not answer within 1 s"):
                client.ours.hop.with_timeout(1)(["silent"])
