"""We call Nameko: from our services by ``RPCProxy`` and ``ClusterRPCProxy``, and from outside by ``RPCClient``."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import pytest

from interop_tests.nameko_process import Nameko, NamekoDriver, NamekoError
from interop_tests.raw_messages import answering
from interop_tests.services.own_services import Known
from interop_tests.test_rpc_from_nameko import AS_PLAIN, AS_TAGGED, BYTES, Shared, config_of, typed_values
from micro_framework.amqp.calls import ClusterRPCProxy, RPCProxy
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import (
    IncorrectSignature,
    MethodNotFound,
    RemoteError,
    RPCError,
    RPCTimeout,
    UnknownService,
    WireError,
)
from micro_framework.rpc import discover
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.services import running

MANY = 50
NEVER = 3600.0


@dataclass
class Peers:
    """Nameko's services, its client, and ours."""

    vhost: VHost
    theirs: NamekoDriver
    ours: RPCClient


@pytest.fixture(scope="module")
def services(shared_nameko: Nameko) -> tuple[VHost, NamekoDriver]:
    """Nameko's services and its client, for all tests here."""
    shared_nameko.run("nameko_services:Target", "rpc_peers:Typist", "rpc_peers:Raising")
    return shared_nameko.vhost, shared_nameko.driver()


@pytest.fixture
def peers(services: tuple[VHost, NamekoDriver]) -> Iterator[Peers]:
    vhost, driver = services
    with RPCClient(vhost.uri, timeout=20) as client:
        yield Peers(vhost, driver, client)


# -- results and errors

SENT: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("add", [1], {}),
    ("add", [1], {"b": 2.5}),
    ("echo", ["caf\u00e9", None, [1, {"\u00e4": True}]], {"self_": {"deep": [None]}}),
    ("echo", [], {"timeout": 1, "method": 2, "service": 3, "args": 4, "kwargs": 5}),
    ("nothing", [], {}),
]


@pytest.mark.parametrize(("method", "args", "kwargs"), SENT)
def test_our_client_gets_what_namekos_gets(peers: Peers, method: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    ours = peers.ours.target[method](*args, **kwargs)
    assert ours == peers.theirs.call("target", method, args, kwargs)


ERRORS: list[tuple[str, list[Any], type[Exception], tuple[Any, ...]]] = [
    ("nope", [], MethodNotFound, ("nope",)),
    ("on_pool", [1], MethodNotFound, ("on_pool",)),
    ("add", [], IncorrectSignature, ("add() missing 1 required positional argument: 'a'",)),
    ("fail", ["known"], Known, ("x", "2")),
    ("fail", ["boom"], RemoteError, ("Boom ('a', 1, {'k': [1, Decimal('2.5')]}, None)",)),
    ("fail", ["keyerror"], RemoteError, ("KeyError 'missing'",)),
    ("fail", ["noargs"], RemoteError, ("ValueError ",)),
    ("fail", ["badstr"], RemoteError, ("BadStr [__unicode__ failed]",)),
    ("fail", ["unicode"], RemoteError, ("Boom caf\u00e9",)),
    ("fail", ["typeerror"], RemoteError, ("TypeError unsupported operand type(s) for +: 'int' and 'str'",)),
]


@pytest.mark.parametrize(("method", "args", "kind", "arguments"), ERRORS)
def test_our_client_raises_what_nameko_answers(
    peers: Peers, method: str, args: list[Any], kind: type[Exception], arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(kind) as caught:
        peers.ours.target[method](*args)
    assert type(caught.value) is kind
    assert caught.value.args == arguments
    if kind is not Known:  # which the driver has not registered
        assert described_error(caught.value) == failure_of(lambda: peers.theirs.call("target", method, args))


def failure_of(call: Callable[[], Any]) -> dict[str, Any]:
    with pytest.raises(NamekoError) as caught:
        call()
    return caught.value.remote


def test_what_nameko_cannot_send_back_is_named(peers: Peers) -> None:
    with pytest.raises(RemoteError) as caught:
        peers.ours.target.unserializable()
    assert caught.value.exc_type == "UnserializableValueError"
    assert str(caught.value.value).startswith("Unserializable value: `<object object at 0x")


def test_an_exception_of_namekos_that_we_know_comes_as_itself(peers: Peers) -> None:
    with pytest.raises(Shared) as caught:
        peers.ours.raising.fail("x", 2, [None, {"k": 1.5}])
    assert caught.value.args == ("x", "2", ["None", {"k": "1.5"}])


def test_a_service_that_is_not_there_is_unknown_at_once_and_named_as_nameko_names_it(peers: Peers) -> None:
    with pytest.raises(UnknownService) as caught:
        peers.ours.nosuch.anything.with_timeout(NEVER)(1)
    theirs = failure_of(lambda: peers.theirs.call("nosuch", "anything", [1]))
    assert (theirs["type"], theirs["text"]) == ("UnknownService", str(caught.value))


def test_what_is_not_serializable_is_not_sent(peers: Peers) -> None:
    with pytest.raises(TypeError, match="object"):
        peers.ours.target.add(object())
    assert peers.ours.target.add(1) == 2


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(peers: Peers) -> None:
    with pytest.raises(RPCTimeout, match=r"target\.slow did not answer within 0\.2 s"):
        peers.ours.target.slow.with_timeout(0.2)(1)
    assert [peers.ours.target.add(number) for number in range(20)] == [number + 1 for number in range(20)]


def test_nameko_does_not_tell_what_it_offers(peers: Peers) -> None:
    assert discover(peers.ours.target) is None


def test_fifty_calls_at_once(peers: Peers) -> None:
    calls = [peers.ours.target.add.call_async(number, b=number) for number in range(MANY)]
    assert not wait(calls, timeout=20).not_done
    assert [call.result() for call in calls] == [2 * number for number in range(MANY)]


def test_fifty_calls_at_once_of_which_every_second_fails(peers: Peers) -> None:
    calls = [peers.ours.target.add.call_async(number, b="x" if number % 2 else 1) for number in range(MANY)]
    for number, call in enumerate(calls):
        if number % 2:
            assert isinstance(call.exception(), RemoteError)
        else:
            assert call.result() == number + 1


# -- answers of every shape, seen by both clients

BODIES: list[Any] = [
    {"result": 5, "error": None},
    {"result": 5},
    {"result": 5, "error": {}},
    {"result": 5, "error": None, "further": "keys"},
    {"result": None, "error": {"exc_type": "Odd", "exc_path": "os.Odd", "exc_args": ["a"], "value": "a"}},
    {"result": 5, "error": {"exc_type": "Odd", "exc_path": "builtins.SystemExit", "exc_args": [3], "value": "3"}},
    {"error": {"exc_type": "Odd", "exc_path": None, "exc_args": [], "value": None}},
    *(
        {
            "result": None,
            "error": {"exc_type": kind, "exc_path": f"nameko.exceptions.{kind}", "exc_args": ["a"], "value": "a"},
        }
        for kind in ("MalformedRequest", "MethodNotFound", "IncorrectSignature", "UnknownService", "RemoteError")
    ),
]


@pytest.mark.parametrize("body", BODIES)
def test_an_answer_becomes_what_nameko_makes_of_it(peers: Peers, body: dict[str, Any]) -> None:
    with answering(peers.vhost.uri, "raw", json.dumps(body).encode()):
        theirs = described(lambda: peers.theirs.call("raw", "anything"))
        ours = described(peers.ours.raw.anything)
    assert ours == theirs


def described(call: Callable[[], Any]) -> Any:
    """A result, or what there is of an exception."""
    try:
        return call()
    except NamekoError as error:
        return error.remote
    except RPCError as error:
        return described_error(error)


def described_error(error: Exception) -> dict[str, Any]:
    """As the driver describes Nameko's."""
    found = {"exc_type": getattr(error, "exc_type", None), "value": getattr(error, "value", None)}
    return {"type": type(error).__name__, "text": str(error), **found}


UNREADABLE: list[tuple[bytes, dict[str, Any]]] = [
    (b"{nope", {}),
    (b"[]", {}),
    (b'{"error": null}', {}),
    (b'{"result": 1, "error": "text"}', {}),
    (b"{}", {"content_type": "text/weird"}),
    (b"\xff", {}),
]


@pytest.mark.parametrize(("body", "properties"), UNREADABLE)
def test_an_answer_that_cannot_be_read_is_an_error_at_once(
    peers: Peers, body: bytes, properties: dict[str, Any]
) -> None:
    with answering(peers.vhost.uri, "raw", body, **properties), pytest.raises(WireError):
        peers.ours.raw.anything.with_timeout(NEVER)()


def test_an_answer_without_a_correlation_id_disturbs_nobody(peers: Peers) -> None:
    with answering(peers.vhost.uri, "raw", b'{"result": 1}', correlation_id=None) as requests:
        lost = peers.ours.raw.anything.call_async()
        peers.vhost.wait_for(lambda _: requests, what="the request")
        assert peers.ours.target.add(1) == 2
        assert not lost.done()
        lost.cancel()


# -- what is sent


def test_our_request_is_namekos_but_for_the_deadline(peers: Peers) -> None:
    with answering(peers.vhost.uri, "raw", b'{"result": 1, "error": null}') as requests:
        peers.theirs.call("raw", "method", [1, "\u00e9"], {"a": None}, {"user_id": 7})
        before = time.time()
        with RPCClient(peers.vhost.uri, timeout=20, context_data={"user_id": 7}) as client:
            client.raw.method(1, "\u00e9", a=None)
    theirs, ours = requests
    assert ours.body == theirs.body
    assert ours.delivery_info["routing_key"] == theirs.delivery_info["routing_key"] == "raw.method"
    assert ours.delivery_info["exchange"] == theirs.delivery_info["exchange"]
    described = [dict(request.properties) for request in (theirs, ours)]
    headers = [properties.pop("application_headers") for properties in described]
    for properties in described:
        for changing in ("correlation_id", "reply_to"):
            assert len(properties.pop(changing)) == 36
    assert described[1] == described[0]
    deadline = headers[1].pop("mf-deadline") / 1000
    assert before + 19 < deadline < time.time() + 21
    assert headers[1].keys() == headers[0].keys()
    assert headers[1]["nameko.user_id"] == 7
    assert len(headers[1]["nameko.call_id_stack"]) == 1


# -- from a service


def in_a_service(vhost: VHost, do: Callable[[Any], Any], **config: Any) -> Any:
    """What a service of ours gets that does one thing when it starts."""
    done: list[Any] = []

    class Ours:
        name = "caller_of_ours"
        target = RPCProxy("target")
        nosuch = RPCProxy("nosuch", timeout=NEVER)
        rpc = ClusterRPCProxy()

        @TimeEntrypoint(interval=3600, eager=True)
        def begin(self) -> None:
            try:
                done.append(do(self))
            except Exception as error:
                done.append(error)

    with running(Ours, config={**config_of(vhost), **config}):
        vhost.wait_for(lambda _: done, timeout=30, what="the service to be through")
    return done[0]


def test_our_service_calls_namekos(peers: Peers) -> None:
    def call(service: Any) -> Any:
        results = [service.target.add(1), service.rpc.target.add(2), service.rpc["target"]["add"](3)]
        many = [service.target.add.call_async(number) for number in range(MANY)]
        return results, [each.result() for each in many]

    assert in_a_service(peers.vhost, call) == ([2, 3, 4], [number + 1 for number in range(MANY)])


def test_our_service_sees_namekos_errors(peers: Peers) -> None:
    assert isinstance(in_a_service(peers.vhost, lambda service: service.target.nope()), MethodNotFound)
    assert isinstance(in_a_service(peers.vhost, lambda service: service.nosuch.anything()), UnknownService)
    raised = in_a_service(peers.vhost, lambda service: service.target.fail("keyerror"))
    assert (type(raised), str(raised)) == (RemoteError, "KeyError 'missing'")


def test_many_threads_share_one_client(peers: Peers) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda number: peers.ours.target.add(number, b=1), range(400)))
    assert results == [number + 1 for number in range(400)]


# -- typed values


@pytest.mark.parametrize(("json_types", "expected"), [("tagged", AS_TAGGED), ("plain", AS_PLAIN)])
def test_typed_arguments_arrive_in_the_form_that_is_configured(
    peers: Peers, json_types: str, expected: dict[str, str]
) -> None:
    with RPCClient({**config_of(peers.vhost), "JSON_TYPES": json_types}, timeout=20) as client:
        assert client.typist.show(typed_values()) == expected


def test_bytes_arrive_as_what_they_are_and_come_back(peers: Peers) -> None:
    for each in BYTES:
        raw = bytes.fromhex(each)
        assert peers.ours.typist.show({"bytes": raw}) == {"bytes": repr(raw)}
        assert peers.ours.typist.give_bytes(each) == raw


def test_bytes_have_no_plain_form_and_are_not_sent(peers: Peers) -> None:
    with (
        RPCClient({**config_of(peers.vhost), "JSON_TYPES": "plain"}, timeout=20) as client,
        pytest.raises(TypeError, match="bytes"),
    ):
        client.typist.show({"bytes": b"x"})


@pytest.mark.parametrize("json_types", ["tagged", "plain"])
def test_typed_results_come_as_what_they_were(peers: Peers, json_types: str) -> None:
    with RPCClient({**config_of(peers.vhost), "JSON_TYPES": json_types}, timeout=20) as client:
        assert client.typist.give() == {**typed_values(), "tuple": [1, 2]}


def test_the_plain_form_of_an_old_peer_comes_as_text(peers: Peers) -> None:
    plain = {"dt": "2020-01-02T03:04:05.678000Z", "date": "2020-01-02T00:00:00", "dec": "1.10"}
    with answering(peers.vhost.uri, "raw", json.dumps({"result": plain, "error": None}).encode()):
        assert peers.ours.raw.give() == plain


# -- while it is not there


def test_a_call_waits_for_a_nameko_service_that_is_down(nameko: Nameko) -> None:
    """It has run before, so its queue is there: the request waits in it, as Nameko's own would."""
    vhost = nameko.vhost
    with nameko.run("nameko_services:Target"):
        pass
    with RPCClient(vhost.uri, timeout=60) as client, contextlib.ExitStack() as stack:
        waiting = client.target.add.call_async(1)
        vhost.wait_for(lambda _: vhost.depth("rpc-target") == 1, what="the request to wait")
        stack.enter_context(nameko.run("nameko_services:Target"))
        assert waiting.result() == 2


def test_a_call_of_a_nameko_service_that_stays_down_times_out(nameko: Nameko) -> None:
    with nameko.run("nameko_services:Target"):
        pass
    with RPCClient(nameko.vhost.uri) as client, pytest.raises(RPCTimeout, match=r"target\.add did not answer"):
        client.target.add.with_timeout(0.5)(1)
