"""What third-party extensions rely on: prototypes and bound copies, collectors, decorators, signatures."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from nameko_compat.exceptions import IncorrectSignature
from nameko_compat.extensions import (
    DependencyProvider,
    Entrypoint,
    Extension,
    ProviderCollector,
    SharedExtension,
    is_dependency,
    is_entrypoint,
    is_extension,
    iter_extensions,
)
from nameko_compat.green.timeout import Timeout
from nameko_compat.messaging import Consumer
from nameko_compat.rpc import Rpc
from nameko_compat.timer import Timer


class Inner(Extension): ...


class Shared(ProviderCollector, SharedExtension):
    inner = Inner()


class Outer(DependencyProvider):
    shared = Shared()

    def __init__(self, word: str, *, times: int = 1) -> None:
        self.words = [word] * times


def container(**attributes: Any) -> Any:
    return SimpleNamespace(shared_extensions={}, service_name="orders", **attributes)


def test_a_bound_copy_is_made_by_calling_the_class_again() -> None:
    prototype, where = Outer("x", times=2), container()
    bound = prototype.bind(where, "outer")
    assert (bound.words, bound.attr_name, bound.container) == (["x", "x"], "outer", where)
    assert bound.words is not prototype.words
    assert not prototype.is_bound()
    assert repr(prototype).startswith("<Outer [unbound] at")
    assert repr(bound).startswith("<Outer [orders.outer] at")
    assert repr(bound.shared).startswith("<Shared [orders] at")


def test_nested_extensions_are_bound_and_shared_ones_once() -> None:
    where = container()
    first, second = Outer("x").bind(where, "a"), Outer("y").bind(where, "b")
    assert first.shared is second.shared
    assert first.shared is not Outer.shared
    assert list(iter_extensions(first)) == [first.shared.inner, first.shared]
    assert Outer("z").bind(container(), "c").shared is not first.shared


def test_kinds_are_told_apart() -> None:
    kinds = [
        [check(each) for check in (is_extension, is_dependency, is_entrypoint)]
        for each in (Inner(), Outer("x"), Entrypoint())
    ]
    assert kinds == [[True, False, False], [True, True, False], [True, False, True]]
    assert not is_extension(Outer)


def test_a_collector_waits_for_its_providers(caplog: pytest.LogCaptureFixture) -> None:
    collector = Shared()
    collector.stop()  # nobody has registered
    collector.register_provider("a")
    collector.register_provider("b")
    collector.unregister_provider("nobody")
    collector.unregister_provider("a")
    collector.container = container(stop_seconds=0.01)
    with caplog.at_level(logging.WARNING):
        collector.stop()
    assert "{'b'} have not unregistered within 0.01 s" in caplog.text
    collector.unregister_provider("b")
    caplog.clear()
    collector.stop()
    assert caplog.text == ""


def test_a_green_timeout_ends_the_wait_for_providers() -> None:
    collector = ProviderCollector()
    collector.register_provider("one")
    with pytest.raises(Timeout), Timeout(0):
        collector.stop()


def test_a_decorator_leaves_the_function_as_it_is() -> None:
    def method(self: Any, a: Any) -> None: ...

    assert Entrypoint.decorator(method) is method
    assert Entrypoint.decorator(expected_exceptions=ValueError, sensitive_variables="a")(method) is method
    found = sorted(method.nameko_entrypoints, key=lambda each: str(each.sensitive_arguments))  # type: ignore[attr-defined]
    assert [each.sensitive_arguments for each in found] == [(), "a"]
    assert found[1].expected_exceptions is ValueError


def test_signatures_are_checked() -> None:
    class Orders:
        def create(self, a: Any) -> None: ...

    entrypoint = Entrypoint().bind(container(service_cls=Orders), "create")
    entrypoint.check_signature((1,), {})
    with pytest.raises(IncorrectSignature, match="missing 1 required"):
        entrypoint.check_signature((), {})


@pytest.mark.parametrize("base", [Rpc, Consumer, Timer])
def test_a_subclass_with_a_method_that_nothing_calls_is_refused(base: type) -> None:
    with pytest.raises(NotImplementedError, match=r"Mine\.handle_result would never be called"):
        type("Mine", (base,), {"handle_result": lambda *args: args})
