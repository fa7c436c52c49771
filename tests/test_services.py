"""What a service class declares."""

from typing import Any
from unittest.mock import Mock

import pytest

from micro_framework.entrypoints import Entrypoint, TimeEntrypoint, declarations
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import Route, route
from micro_framework.services import has_entrypoint, routes_of, service_name
from micro_framework.translators import JSONTranslator
from micro_framework.workers import Worker


def refund_failed(payload: Any) -> None: ...


class Base:
    @TimeEntrypoint(1)
    def inherited(self) -> None: ...

    @TimeEntrypoint(2)
    def overridden(self) -> None: ...

    @TimeEntrypoint(3)
    def silenced(self) -> None: ...


class Mixin:
    @TimeEntrypoint(4)
    def mixed_in(self) -> None: ...


class Orders(Mixin, Base):
    thing = Mock()

    def plain(self) -> None: ...

    @TimeEntrypoint(5)
    @TimeEntrypoint(6)
    def twice(self) -> str:
        return "an ordinary function"

    @TimeEntrypoint(7)
    def overridden(self) -> None: ...

    def silenced(self) -> None: ...


def intervals(service: type) -> list[tuple[str | None, float | None]]:
    found = []
    for declared in routes_of(service):
        assert isinstance(declared.entrypoint, TimeEntrypoint)
        found.append((declared.method_name, declared.entrypoint.interval))
    return found


def test_own_targets_come_first_then_those_of_mixins_and_bases() -> None:
    assert intervals(Orders) == [("twice", 6), ("twice", 5), ("overridden", 7), ("mixed_in", 4), ("inherited", 1)]


def test_the_base_class_is_untouched() -> None:
    assert intervals(Base) == [("inherited", 1), ("overridden", 2), ("silenced", 3)]


def test_a_decorated_method_stays_an_ordinary_function() -> None:
    assert Orders().twice() == "an ordinary function"
    assert len(declarations(Orders.twice)) == 2


@pytest.mark.parametrize(("service", "expected"), [(Orders, True), (type("Empty", (), {}), False)])
def test_whether_a_class_is_a_service(service: type, expected: bool) -> None:
    assert has_entrypoint(service) is expected


@pytest.mark.parametrize(
    ("namespace", "name"), [({"name": "orders"}, "orders"), ({}, None), ({"name": ""}, None), ({"name": 5}, None)]
)
def test_the_name_is_namekos(namespace: dict[str, object], name: str | None) -> None:
    assert service_name(type("Service", (), namespace)) == name


def with_on_failure(on_failure: Any) -> Route:
    class Service:
        def failed(self, payload: Any) -> None: ...

        @route(Entrypoint(), on_failure=on_failure or failed)
        def handle(self, payload: Any) -> None: ...

    (found,) = routes_of(Service)
    return found


@pytest.mark.parametrize(
    ("on_failure", "is_method", "callback"),
    [("failed", True, "failed"), (None, True, "failed"), (refund_failed, False, refund_failed), ("a.b", False, "a.b")],
)
def test_on_failure_is_a_method_a_function_or_a_path(on_failure: Any, is_method: bool, callback: object) -> None:
    found = with_on_failure(on_failure)
    if is_method:
        assert (found.callback, found.callback_method) == (found.target, callback)
    else:
        assert (found.callback, found.callback_method) == (callback, None)


def test_options_of_route_arrive_at_every_entrypoints_route() -> None:
    class Special(Worker):
        pass

    backoff, translator, first, second = AsyncBackOff(1, 1), JSONTranslator(), Entrypoint(), Entrypoint()

    class Service:
        @route(
            first,
            second,
            backoff=backoff,
            translators=[translator],
            worker_class=Special,
            context="slow",
            metric_label="handling",
            dead_letter=True,
        )
        def handle(self, payload: Any) -> None: ...

    routes = routes_of(Service)
    assert [found.entrypoint for found in routes] == [first, second]
    for found in routes:
        assert (found.backoff, found.translators, found.worker_class) == (backoff, (translator,), Special)
        assert (found.context, found.metric_label, found.dead_letter) == ("slow", "handling", True)


def test_a_plain_entrypoint_has_no_options() -> None:
    class Service:
        @Entrypoint()
        def handle(self, payload: Any) -> None: ...

    (found,) = routes_of(Service)
    assert (found.backoff, found.translators, found.worker_class, found.callback) == (None, (), Worker, None)


def test_route_without_an_entrypoint_is_refused() -> None:
    with pytest.raises(TypeError, match=r"route\(\) needs an entrypoint"):
        route(context="slow")


def test_an_entrypoint_under_a_static_method_is_found_so_that_it_can_be_refused() -> None:
    static = staticmethod(TimeEntrypoint(1)(lambda: None))
    assert [found.method_name for found in routes_of(type("Static", (), {"tick": static}))] == ["tick"]
