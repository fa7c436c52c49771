"""Small helpers of tests."""

import socket
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import pytest

from nameko_compat.containers import ServiceContainer
from nameko_compat.green.timeout import Timeout
from nameko_compat.rpc import Rpc, rpc
from nameko_compat.runners import ServiceRunner
from nameko_compat.testing.utils import (
    ANY_PARTIAL,
    AnyInstanceOf,
    DummyProvider,
    assert_stops_raising,
    find_free_port,
    get_container,
    get_extension,
    unpack_mock_call,
    wait_for_call,
)
from nameko_compat.testing.waiting import wait_for_call as wait_for_call_of
from nameko_compat.utils.retry import retry


class Orders:
    name = "orders"

    @rpc
    def create(self) -> None: ...

    @rpc
    def delete(self) -> None: ...


def test_extensions_and_containers_are_found() -> None:
    container = ServiceContainer(Orders, {})
    assert get_extension(container, Rpc, method_name="delete").method_name == "delete"
    assert get_extension(container, Rpc).method_name == "create"
    assert get_extension(container, Rpc, method_name="nothing") is None
    assert get_extension(container, DummyProvider) is None
    runner = ServiceRunner({})
    runner.add_service(Orders)
    assert get_container(runner, Orders).service_cls is Orders
    assert get_container(runner, int) is None


def test_a_mock_is_waited_for() -> None:
    mock = Mock()
    mock()
    with wait_for_call(1, mock) as called:
        assert called is mock
    with pytest.raises(Timeout), wait_for_call(0.01, Mock()):
        pass


def test_a_method_of_an_object_is_waited_for() -> None:
    target = SimpleNamespace(add=lambda a, b: a + b, fail=lambda: int("no"))
    with wait_for_call_of(target, "add", lambda args, kwargs, res, exc_info: res == 5) as result:
        assert target.add(1, 1) == 2
        assert not result.has_result
        assert target.add(2, b=3) == 5
    assert result.get() == 5
    with wait_for_call_of(target, "fail") as result, pytest.raises(ValueError, match="no"):
        target.fail()
    with pytest.raises(ValueError, match="no"):
        result.get()


def test_what_raises_for_a_while_is_called_again() -> None:
    function = Mock(side_effect=[ValueError, ValueError, None])
    assert_stops_raising(function, ValueError, interval=0)
    assert function.call_count == 3
    with pytest.raises(Timeout):
        assert_stops_raising(Mock(side_effect=ValueError), timeout=0, interval=0)
    with pytest.raises(LookupError):
        assert_stops_raising(Mock(side_effect=LookupError), ValueError)


def test_retry_calls_again() -> None:
    function = Mock(side_effect=[ValueError, ValueError, 7])

    @retry(for_exceptions=ValueError, max_attempts=2, delay=0)
    def call_it(argument: Any) -> Any:
        return function(argument)

    assert call_it(1) == 7
    function.side_effect = ValueError
    with pytest.raises(ValueError):
        call_it(2)
    assert function.mock_calls == [call(1)] * 3 + [call(2)] * 3
    assert retry(lambda: 1)() == 1


def test_the_rest() -> None:
    assert partial(int) == ANY_PARTIAL
    assert AnyInstanceOf(int) == 7
    assert AnyInstanceOf(int) != "7"
    assert repr(AnyInstanceOf(int)) == "<AnyInstanceOf-int>"
    assert unpack_mock_call(((1,), {"a": 2})).keyword == {"a": 2}
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", find_free_port()))
