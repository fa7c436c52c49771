"""Asking a service what it offers: ours tell, Nameko's do not, and whatever else is answered is told as an error."""

from typing import Any

import pytest

from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.exceptions import MethodNotFound, RemoteError, UnknownService, WireError
from micro_framework.rpc import TargetInfo, discover
from micro_framework.rpc.proxies import ServiceProxy
from micro_framework.standalone import RPCClient
from micro_framework.testing import running
from tests.outside import memory_uri
from tests.rpc.keepers import Table


class Orders:
    name = "orders"

    @RPCListener()
    def create(self, customer: int, items=()):
        """Create an order."""

    @RPCListener()
    def cancel(self, order): ...

    def helper(self): ...


@pytest.mark.parametrize("where", ["memory", "rabbitmq"])
def test_a_service_of_ours_tells_names_parameters_and_docstrings(request: pytest.FixtureRequest, where: str) -> None:
    uri = memory_uri() if where == "memory" else request.getfixturevalue("amqp_uri")
    with running(Orders, config={"AMQP_URI": uri}), RPCClient(uri) as rpc:
        found = discover(rpc.orders)
        with pytest.raises(UnknownService):
            discover(rpc.nobody)
    customer = {"name": "customer", "kind": "positional_or_keyword", "required": True, "annotation": "int"}
    items = {"name": "items", "kind": "positional_or_keyword", "required": False, "default": "()"}
    order = {"name": "order", "kind": "positional_or_keyword", "required": True}
    assert found == [
        TargetInfo("cancel", (order,), ""),
        TargetInfo("create", (customer, items), "Create an order."),
    ]


class Answering:
    """A service that answers with one thing."""

    def __init__(self, table: Table, result: Any = None, error: BaseException | None = None) -> None:
        self.table, self.result, self.error = table, result, error
        self.asked: list[str] = []

    def send(self, service: str, method: str, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(f"{service}.{method}")
        call = self.table.call()
        self.table.answer(call, self.result, self.error)
        return call


def test_a_service_that_does_not_know_the_question_tells_nothing(table: Table) -> None:
    """As Nameko's."""
    answering = Answering(table, error=MethodNotFound("__list_targets__"))
    assert discover(ServiceProxy(answering, "orders")) is None
    assert answering.asked == ["orders.__list_targets__"]


def test_other_errors_are_errors(table: Table) -> None:
    with pytest.raises(RemoteError):
        discover(ServiceProxy(Answering(table, error=RemoteError("Boom", "no")), "orders"))


@pytest.mark.parametrize("answer", [None, 5, "text", {"a": 1}, [1], [{}], [{"name": "a"}], [{"name": "a", "doc": ""}]])
def test_an_answer_that_is_none_is_an_error(table: Table, answer: Any) -> None:
    with pytest.raises(WireError, match="<remote service orders> answered __list_targets__ with something else"):
        discover(ServiceProxy(Answering(table, answer), "orders"))


def test_a_service_without_targets_has_none(table: Table) -> None:
    assert discover(ServiceProxy(Answering(table, []), "orders")) == []
