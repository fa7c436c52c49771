"""Declarations are never changed; bound copies are shared where they should be; the lifecycle reports."""

import threading
from collections.abc import Hashable

import pytest

from micro_framework.config import Settings
from micro_framework.exceptions import ConfigError, NotInjected, SetupFailed
from micro_framework.extensions import (
    Extension,
    Host,
    Lifecycle,
    SharedExtensions,
    in_start_order,
    nested_extensions,
    perform,
)
from micro_framework.testing import ManualClock


class Connection(Extension):
    def sharing_key(self, host: Host) -> Hashable:
        return host.context


class Cache(Extension):
    pass


class Listener(Extension):
    connection = Connection()
    cache = Cache()


class Publisher(Extension):
    connection = Connection()
    cache = Listener.cache

    def __init__(self) -> None:
        self.own = Cache()


def host_in(context: str, shared: SharedExtensions) -> Host:
    return Host(Settings(), "orders", context, 1, 1, ManualClock(), Lifecycle(), shared)


@pytest.fixture
def host() -> Host:
    return host_in("default", SharedExtensions())


def test_binding_copies_and_leaves_the_declaration_alone(host: Host) -> None:
    declaration = Publisher()
    bound = declaration.bind(host)
    assert bound.host is host
    assert bound.connection.host is host
    assert not hasattr(declaration, "host")
    assert not hasattr(Publisher.connection, "host")
    assert bound.own is not declaration.own


def test_the_same_nested_declaration_is_one_bound_copy(host: Host) -> None:
    assert Listener().bind(host).cache is Publisher().bind(host).cache


def test_a_sharing_key_makes_two_declarations_one(host: Host) -> None:
    assert Listener.connection is not Publisher.connection
    assert Listener().bind(host).connection is Publisher().bind(host).connection


def test_the_sharing_key_may_depend_on_the_host() -> None:
    shared = SharedExtensions()
    fast, slow = (Listener().bind(host_in(context, shared)) for context in ("fast", "slow"))
    assert fast.connection is not slow.connection
    assert fast.cache is slow.cache


def test_two_runners_share_nothing() -> None:
    listener = Listener()
    first, second = (listener.bind(host_in("default", SharedExtensions())) for _ in range(2))
    assert first.cache is not second.cache


def test_nested_extensions_are_found_on_instances_classes_and_bases() -> None:
    class Special(Publisher):
        cache = "none"  # type: ignore[assignment]

    assert {name for name, _ in nested_extensions(Special())} == {"own", "connection"}


def test_a_bound_copy_is_nested_in_nothing(host: Host) -> None:
    bound = Listener().bind(host)
    assert {name for name, _ in nested_extensions(bound)} == {"connection", "cache"}
    assert dict(nested_extensions(bound))["cache"] is bound.cache


def test_the_defaults_do_nothing_and_are_ready(host: Host) -> None:
    bound = Cache().bind(host)
    bound.setup()
    bound.start()
    bound.stop()
    assert bound.problems() == []
    assert bound.is_ready()
    assert str(bound) == "Cache"


def test_waiting_ends_when_the_condition_holds() -> None:
    lifecycle, ready = Lifecycle(), threading.Event()
    reporter = threading.Timer(0.01, lambda: (ready.set(), lifecycle.notify()))
    reporter.start()
    assert lifecycle.wait_until(ready.is_set, 20)
    reporter.join(20)


def test_waiting_ends_at_the_first_failure() -> None:
    lifecycle, first = Lifecycle(), ValueError("first")
    lifecycle.fail(first)
    lifecycle.fail(ValueError("second"))
    assert not lifecycle.wait_until(lambda: True, None)
    assert lifecycle.failure is first


def test_waiting_has_an_end() -> None:
    assert not Lifecycle().wait_until(lambda: False, 0.01)


@pytest.mark.parametrize("listens_first", [True, False])
def test_a_listener_hears_of_the_first_failure_once(listens_first: bool) -> None:
    lifecycle, heard = Lifecycle(), list[BaseException]()
    error = ValueError("gone")
    if listens_first:
        lifecycle.on_failure(heard.append)
    lifecycle.fail(error)
    if not listens_first:
        lifecycle.on_failure(heard.append)
    lifecycle.fail(ValueError("again"))
    assert heard == [error]


def test_who_waits_for_everything_to_be_ready_is_called_once() -> None:
    lifecycle, heard = Lifecycle(), list[str]()
    lifecycle.when_ready(lambda: heard.append("early"))
    assert heard == []
    lifecycle.all_ready()
    lifecycle.when_ready(lambda: heard.append("late"))
    lifecycle.all_ready()
    assert heard == ["early", "late"]


def test_nested_extensions_start_first_and_each_once() -> None:
    publisher = Publisher()
    assert in_start_order([publisher, publisher]) == [publisher.own, publisher.connection, publisher.cache, publisher]


class Failing(Extension):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def setup(self) -> None:
        raise self.error


def test_a_hook_that_fails_names_its_extension_and_an_error_of_the_framework_is_left_as_it_is() -> None:
    with pytest.raises(SetupFailed, match="Failing: setup failed: ValueError: no") as caught:
        perform(Failing(error := ValueError("no")), "setup")
    assert caught.value.__cause__ is error
    with pytest.raises(NotInjected):
        perform(Failing(NotInjected("no")), "setup")


class Nested(Extension):
    def __init__(self, calls: list[str], error: Exception | None = None) -> None:
        self.calls, self.error = calls, error

    def __str__(self) -> str:
        return "the nested one"

    def setup(self) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append("nested")


class Outermost(Extension):
    def __init__(self, nested: Extension) -> None:
        self.nested = nested


def test_what_is_nested_comes_before_those_that_hold_it_and_once() -> None:
    nested = Nested([])
    first, second = Outermost(nested), Outermost(nested)
    assert in_start_order([first, second, nested]) == [nested, first, second]


def test_a_hook_that_fails_names_the_extension() -> None:
    calls: list[str] = []
    perform(Nested(calls), "setup")
    assert calls == ["nested"]
    with pytest.raises(SetupFailed, match="^the nested one: setup failed: ValueError: no$") as caught:
        perform(Nested([], ValueError("no")), "setup")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ConfigError):
        perform(Nested([], ConfigError("the configuration cannot be used", ["A"])), "setup")
