"""Nameko calls us: its services by ``RpcProxy``, its standalone client, what either sees when a call fails."""

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from interop_tests.conftest import NAMEKO_VERSIONS
from interop_tests.nameko_process import Nameko, NamekoDriver, NamekoError
from interop_tests.raw_messages import RawCaller
from interop_tests.services.own_services import Target
from micro_framework.amqp.serving import RPCListener
from micro_framework.rpc import register_exception
from micro_framework.testing.broker_state import BrokerAdmin, VHost
from micro_framework.testing.services import running


@dataclass
class Callers:
    """Nameko's client where `target` is ours, and where it is Nameko's own; so is the service `caller` at both."""

    ours: NamekoDriver
    theirs: NamekoDriver

    def relay(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """What the service `caller` sees when it calls ours, and Nameko's own."""
        seen = [driver.call("caller", "relay", [method, args, kwargs]) for driver in (self.ours, self.theirs)]
        return seen[0], seen[1]

    def outcomes(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The same of the standalone client."""
        seen = [outcome_of(driver, method, args, kwargs) for driver in (self.ours, self.theirs)]
        return seen[0], seen[1]


def outcome_of(driver: NamekoDriver, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    try:
        return driver.call("target", method, args, kwargs)
    except NamekoError as error:
        return error.remote or str(error)


@pytest.fixture(scope="module", params=NAMEKO_VERSIONS)
def callers(request: pytest.FixtureRequest, broker: BrokerAdmin) -> Iterator[Callers]:
    vhosts = [VHost(broker, broker.add_vhost()) for _ in range(2)]
    at_ours, at_theirs = (Nameko(request.param, vhost) for vhost in vhosts)
    with contextlib.closing(at_ours), contextlib.closing(at_theirs), running(Target, config=config_of(vhosts[0])):
        at_ours.run("nameko_services:Caller")
        at_theirs.run("nameko_services:Caller", "nameko_services:Target")
        yield Callers(at_ours.driver(), at_theirs.driver())
    for vhost in vhosts:
        broker.delete_vhost(vhost.name)


def config_of(vhost: VHost) -> dict[str, Any]:
    return {"AMQP_URI": vhost.uri}


CALLS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("add", [1], {}),
    ("add", [1], {"b": 2.5}),
    ("echo", ["caf\u00e9", None, [1, {"\u00e4": True}]], {"some": {"deep": [None]}}),
    ("nothing", [], {}),
    ("nope", [], {}),
    ("on_pool", [1], {}),
    ("add", [], {}),
    ("add", [1, 2, 3], {}),
    ("add", [1], {"zz": 1}),
    ("add", [1], {"a": 1}),
    ("add", [1, "a"], {}),
    *(("fail", [kind], {}) for kind in ("boom", "known", "keyerror", "noargs", "badstr", "unicode", "typeerror")),
]


@pytest.mark.parametrize(("method", "args", "kwargs"), CALLS)
def test_namekos_service_sees_the_same_as_of_its_own(
    callers: Callers, method: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """Result, class and bases of the exception, its attributes, its text."""
    ours, theirs = callers.relay(method, args, kwargs)
    assert ours == theirs


@pytest.mark.parametrize(("method", "args", "kwargs"), CALLS)
def test_namekos_standalone_client_sees_the_same_as_of_its_own(
    callers: Callers, method: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    ours, theirs = callers.outcomes(method, args, kwargs)
    assert ours == theirs


def test_what_cannot_be_sent_back_is_named(callers: Callers) -> None:
    for driver in (callers.ours, callers.theirs):
        seen = driver.call("caller", "relay", ["unserializable"])
        assert seen["error"]["exc_type"] == "RemoteError"
        assert seen["str"].startswith("UnserializableValueError Unserializable value: `<object object at 0x")


def test_namekos_service_calls_fifty_methods_of_ours_at_once(callers: Callers) -> None:
    assert callers.ours.call("caller", "fan_out", [50]) == [number + 1 for number in range(50)]


def test_namekos_standalone_client_calls_fifty_methods_of_ours_at_once(callers: Callers) -> None:
    arguments = [[number, number] for number in range(50)]
    assert callers.ours.fan_out("target", "add", arguments) == [2 * number for number in range(50)]


def test_a_service_that_is_not_there_is_unknown_at_once(callers: Callers) -> None:
    with pytest.raises(NamekoError) as caught:
        callers.ours.call("nosuch", "anything")
    assert caught.value.remote["type"] == "UnknownService"


def test_context_data_and_call_id_stack_reach_us(callers: Callers) -> None:
    context = {"user_id": 7, "language": "de", "nested": {"a": [1, "\u00e9"]}}
    seen = callers.ours.call("target", "context", context_data=context)
    expected = callers.theirs.call("target", "context", context_data=context)
    assert seen["data"] == context
    assert [shape(call_id) for call_id in seen["stack"]] == [shape(call_id) for call_id in expected["stack"]]
    assert seen["origin"] == seen["parent"] == seen["stack"][0]
    assert seen["call_id"] == seen["stack"][1]
    expected["data"].pop("call_id_stack", None)  # 3.x has it there too
    assert seen["data"] == expected["data"]


def shape(call_id: str) -> list[str]:
    """A call id without what is new each time: the standalone client of 3.x has its own identifier in the middle."""
    return ["-" if part.count("-") == 4 else part for part in call_id.split(".")]


def test_context_data_that_a_nameko_service_changed_reaches_us(callers: Callers) -> None:
    seen = callers.ours.call("caller", "mutate", context_data={"user_id": 7})
    assert seen["data"] == {"user_id": 7, "added": "later"}


# -- typed values

AS_TAGGED = {
    "dt": "datetime.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)",
    "naive": "datetime.datetime(2020, 1, 2, 3, 4, 5)",
    "date": "datetime.date(2020, 1, 2)",
    "dec": "Decimal('1.10')",
    "uuid": "UUID('12345678-1234-5678-1234-567812345678')",
    "tuple": "[1, 2]",
    "text": "'caf\u00e9'",
}
AS_PLAIN = {
    "dt": "'2020-01-02T03:04:05.678000Z'",
    "naive": "'2020-01-02T03:04:05'",
    "date": "'2020-01-02T00:00:00'",
    "dec": "'1.10'",
    "uuid": "'12345678-1234-5678-1234-567812345678'",
    "tuple": "[1, 2]",
    "text": "'caf\u00e9'",
}
BYTES = ["0001ff", b"text".hex(), ""]


def typed_values() -> dict[str, Any]:
    return {
        "dt": dt.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC),
        "naive": dt.datetime(2020, 1, 2, 3, 4, 5),  # noqa: DTZ001
        "date": dt.date(2020, 1, 2),
        "dec": Decimal("1.10"),
        "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "tuple": (1, 2),
        "text": "caf\u00e9",
    }


class Typed:
    """Ours: shows what it gets, gives values of every type."""

    name = "ours"

    @RPCListener()
    def show(self, value: dict[str, Any]) -> dict[str, str]:
        return {key: repr(each) for key, each in value.items()}

    @RPCListener()
    def give(self) -> dict[str, Any]:
        return typed_values()

    @RPCListener()
    def give_bytes(self, hexadecimal: str) -> bytes:
        return bytes.fromhex(hexadecimal)


@dataclass
class Typist:
    """Nameko's `typist`, and its client."""

    driver: NamekoDriver
    vhost: VHost

    def serving(self, json_types: str) -> Any:
        """Our service in the block, that sends this JSON form."""
        return running(Typed, config={**config_of(self.vhost), "JSON_TYPES": json_types})


@pytest.fixture(scope="module")
def typist(shared_nameko: Nameko) -> Typist:
    shared_nameko.run("rpc_peers:Typist")
    return Typist(shared_nameko.driver(), shared_nameko.vhost)


@pytest.mark.parametrize("json_types", ["tagged", "plain"])
def test_typed_arguments_come_as_what_they_were(typist: Typist, json_types: str) -> None:
    with typist.serving(json_types):
        assert typist.driver.call("typist", "send") == AS_TAGGED
        for each in BYTES:
            assert typist.driver.call("typist", "send_bytes", [each]) == {"bytes": repr(bytes.fromhex(each))}


@pytest.mark.parametrize(("json_types", "expected"), [("tagged", AS_TAGGED), ("plain", AS_PLAIN)])
def test_typed_results_arrive_in_the_form_that_is_configured(
    typist: Typist, json_types: str, expected: dict[str, str]
) -> None:
    with typist.serving(json_types):
        assert typist.driver.call("typist", "fetch") == expected


def test_bytes_are_given_as_what_they_are(typist: Typist) -> None:
    with typist.serving("tagged"):
        for each in BYTES:
            assert typist.driver.call("typist", "fetch_bytes", [each]) == repr(bytes.fromhex(each))


def test_bytes_have_no_plain_form_and_the_caller_is_told(typist: Typist) -> None:
    with typist.serving("plain"), pytest.raises(NamekoError) as caught:
        typist.driver.call("typist", "fetch_bytes", ["00ff"])
    assert "Unserializable" in str(caught.value)


@pytest.mark.parametrize("json_types", ["tagged", "plain"])
def test_the_plain_form_of_an_old_peer_comes_as_text(typist: Typist, json_types: str) -> None:
    plain = {
        "dt": "2020-01-02T03:04:05.678000Z",
        "date": "2020-01-02T00:00:00",
        "dec": "1.10",
        "uuid": "12345678-1234-5678-1234-567812345678",
    }
    with typist.serving(json_types), RawCaller(typist.vhost.uri) as caller:
        reply = caller.ask("ours.show", {"args": [plain], "kwargs": {}})
    assert reply.decoded["result"] == {key: repr(each) for key, each in plain.items()}


# -- exceptions that both know


@register_exception
class Shared(Exception):
    """Registered on both sides, and ours raises it."""

    __module__ = "rpc_peers"


class Failing:
    name = "ours"

    @RPCListener(expected_exceptions=Shared)
    def fail(self, *args: Any) -> None:
        raise Shared(*args)


def test_an_exception_of_ours_that_nameko_knows_comes_as_itself(nameko: Nameko) -> None:
    nameko.run("rpc_peers:Raising")
    with running(Failing, config=config_of(nameko.vhost)):
        seen = nameko.driver().call("raising", "catch", ["x", 2, [None, {"k": "2.5"}]])
    assert seen["is_shared"]
    assert seen["args"] == ["x", "2", ["None", {"k": "2.5"}]]
