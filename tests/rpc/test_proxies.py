"""Proxies: every name but Python's own is remote, every argument too, and what is about the call goes in between."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest

from micro_framework.calls import Outcome
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.proxies import ClusterProxy, ServiceProxy, checked_timeout
from tests.rpc.keepers import Table


class Sent:
    """A caller that answers every call at once with what it was asked to send."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.interrupted: RPCFuture | None = None

    def send(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,
        *,
        waited_for: bool,
    ) -> RPCFuture:
        call = self.table.call()
        self.table.pending.answer(
            call.correlation_id, Outcome((f"{service}.{method}", args, dict(kwargs), timeout, waited_for))
        )
        return call


@pytest.fixture
def sent(table: Table) -> Sent:
    return Sent(table)


def test_attributes_and_items_are_remote_methods(sent: Sent) -> None:
    payments = ServiceProxy(sent, "payments")
    assert payments.charge(7, items=[1]) == ("payments.charge", (7,), {"items": [1]}, None, True)
    assert payments["charge"]() == ("payments.charge", (), {}, None, True)
    for name in ("a.b", "class", "with-dash", "__init__", "_private", "send", "call_async", ""):
        assert payments[name]()[0] == f"payments.{name}"
    assert payments._private()[0] == "payments._private"
    assert payments.call_async()[0] == "payments.call_async"


def test_every_argument_is_the_methods(sent: Sent) -> None:
    payments = ServiceProxy(sent, "payments", 5)
    arguments = {"self": 1, "timeout": 2, "args": 3, "kwargs": 4, "service": 5, "method": 6}
    assert payments.charge(**arguments) == ("payments.charge", (), arguments, 5, True)
    assert payments.charge.call_async(**arguments).result()[2] == arguments


def test_services_are_attributes_and_items_of_a_cluster(sent: Sent) -> None:
    cluster = ClusterProxy(sent, 3)
    assert cluster.payments.charge(1) == ("payments.charge", (1,), {}, 3, True)
    assert cluster["svc-with-dash"].charge()[0] == "svc-with-dash.charge"


def test_call_async_returns_a_future(sent: Sent) -> None:
    future = ServiceProxy(sent, "payments").charge.call_async(7)
    assert isinstance(future, RPCFuture)
    assert future.result() == ("payments.charge", (7,), {}, None, False)


def test_a_call_has_the_timeout_of_its_proxy_or_one_of_its_own(sent: Sent) -> None:
    payments = ServiceProxy(sent, "payments", 5)
    quick = payments.charge.with_timeout(2)
    assert [each()[3] for each in (payments.charge, quick, quick.with_timeout(math.inf))] == [5, 2, math.inf]
    assert quick.call_async().result()[3] == 2


@pytest.mark.parametrize("wrong", [0, -1, math.nan, True, "2", None, 1e10, -math.inf])
def test_a_timeout_is_a_number_above_0(sent: Sent, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"a number of seconds above 0 \(at most 1000000000\), or float\('inf'\)"):
        ServiceProxy(sent, "payments").charge.with_timeout(wrong)


@pytest.mark.parametrize("right", [0.001, 1, 1e9, math.inf])
def test_other_timeouts_are_taken(right: float) -> None:
    assert checked_timeout(right) == right


def test_python_finds_nothing_of_its_own_on_a_proxy(sent: Sent) -> None:
    """It asks for such names by itself, and must not make calls by that."""
    for proxy in (ServiceProxy(sent, "payments"), ClusterProxy(sent)):
        for name in ("__deepcopy__", "__getstate_manages_dict__", "__fspath__", "__array__"):
            assert not hasattr(proxy, name)
        with pytest.raises(AttributeError, match=r"proxy\['__wrapped__'\]"):
            _ = proxy.__wrapped__
        assert copy.copy(proxy) is not proxy
        with pytest.raises(TypeError, match="not iterable"):
            list(proxy)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="not iterable"):
            assert "charge" in proxy  # type: ignore[operator]


def test_names_are_text(sent: Sent) -> None:
    for proxy in (ServiceProxy(sent, "payments"), ClusterProxy(sent)):
        with pytest.raises(TypeError, match="is text, not 5"):
            proxy[5]  # type: ignore[index]


def test_a_copy_of_a_proxy_calls_as_it_does(sent: Sent) -> None:
    assert copy.copy(ServiceProxy(sent, "payments", 5)).charge()[3] == 5


def test_proxies_show_what_they_are(sent: Sent) -> None:
    assert repr(ServiceProxy(sent, "payments")) == "<remote service payments>"
    assert repr(ServiceProxy(sent, "payments").charge) == "<remote method payments.charge>"
    assert repr(ClusterProxy(sent)) == "<remote services>"


def test_a_waiting_call_that_is_interrupted_is_given_up(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ctrl-C: nobody would look at the call again, and it must not stay in the table for ever."""
    call = table.call()

    class Interrupted(Sent):
        def send(self, *args: Any, **kwargs: Any) -> RPCFuture:
            return call

    def interrupt(timeout: float | None = None) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(call, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ServiceProxy(Interrupted(table), "payments").charge()
    assert call.cancelled()
    assert len(table.pending) == 0
