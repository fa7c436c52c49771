"""The table of what can be called: what was put in, and two names that tell what that is."""

from collections.abc import Mapping
from typing import Any

import pytest

from micro_framework.exceptions import IncorrectSignature, MethodNotFound
from micro_framework.rpc import RPCManager


class Described:
    def __init__(self, name: str) -> None:
        self.name = name

    def describe(self) -> Mapping[str, Any]:
        return {"name": self.name, "parameters": [], "doc": ""}


@pytest.fixture
def manager() -> RPCManager[Described]:
    manager: RPCManager[Described] = RPCManager("orders")
    for name in ("create", "cancel"):
        manager.add(name, Described(name))
    return manager


CANCEL = {"name": "cancel", "parameters": [], "doc": ""}
CREATE = {"name": "create", "parameters": [], "doc": ""}


def test_what_was_added_is_found(manager: RPCManager[Described]) -> None:
    assert manager.find("create").name == "create"
    assert manager.list_targets() == [CANCEL, CREATE]


@pytest.mark.parametrize(
    "name", ["nope", "", "add", "find", "__class__", "__init__", "describe", "targets", "create.x"]
)
def test_nothing_else_is(manager: RPCManager[Described], name: str) -> None:
    with pytest.raises(MethodNotFound) as caught:
        manager.find(name)
    assert caught.value.args == (name,)
    with pytest.raises(MethodNotFound):
        manager.answer(name, (), {})


def test_the_reserved_names_tell_what_there_is(manager: RPCManager[Described]) -> None:
    assert manager.answer("__list_targets__", (), {}) == [CANCEL, CREATE]
    assert manager.answer("__get_target__", ("create",), {}) == CREATE


def test_a_declared_target_is_not_answered_for(manager: RPCManager[Described]) -> None:
    with pytest.raises(MethodNotFound):
        manager.answer("create", (), {})


def test_asking_for_a_target_that_there_is_not(manager: RPCManager[Described]) -> None:
    with pytest.raises(MethodNotFound) as caught:
        manager.answer("__get_target__", ("nope",), {})
    assert caught.value.args == ("nope",)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("__list_targets__", (1,), {}),
        ("__list_targets__", (), {"a": 1}),
        ("__get_target__", (), {}),
        ("__get_target__", (1, 2), {}),
        ("__get_target__", ("create",), {"a": 1}),
        ("__get_target__", (), {"name": "create"}),
    ],
)
def test_arguments_that_do_not_fit(
    manager: RPCManager[Described], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(IncorrectSignature, match=rf"^{name}\(\) takes "):
        manager.answer(name, args, kwargs)
