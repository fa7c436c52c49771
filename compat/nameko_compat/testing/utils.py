"""Finding extensions and containers, and small helpers of tests."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from nameko_compat.absent import refusing
from nameko_compat.extensions import Entrypoint
from nameko_compat.green.timeout import Timeout
from nameko_compat.managed import pause

__all__ = [
    "ANY_PARTIAL",
    "AnyInstanceOf",
    "DummyProvider",
    "MockCallArgs",
    "assert_stops_raising",
    "find_free_port",
    "get_container",
    "get_extension",
    "unpack_mock_call",
    "wait_for_call",
]

LOOK_SECONDS = 0.01


def get_extension(container: Any, extension_cls: type, **match_attrs: Any) -> Any:
    """The first extension of a container that is of a class and has these attributes; None if there is none."""
    for extension in container.extensions:
        if isinstance(extension, extension_cls) and all(
            getattr(extension, name) == value for name, value in match_attrs.items()
        ):
            return extension
    return None


def get_container(runner: Any, service_cls: type) -> Any:
    """The container of a service class in a `ServiceRunner`; None if there is none."""
    return next((container for container in runner.containers if container.service_cls == service_cls), None)


@contextmanager
def wait_for_call(timeout: float, mock_method: Any) -> Iterator[Any]:
    """Wait until a mock has been called; gives the mock.

    Raises:
        Timeout: Not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not mock_method.called:
        if time.monotonic() >= deadline:
            raise Timeout.expired(timeout)
        pause(LOOK_SECONDS)
    yield mock_method


def assert_stops_raising(
    fn: Callable[[], Any],
    exception_type: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: float = 10,
    interval: float = 0.1,
) -> None:
    """Call a function until it raises nothing.

    Args:
        fn: The function.
        exception_type: What it may raise meanwhile.
        timeout: Seconds.
        interval: Seconds between two calls.

    Raises:
        Timeout: It still raises.
        BaseException: Anything else that it raises.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            fn()
        except exception_type as error:
            if time.monotonic() >= deadline:
                raise Timeout.expired(timeout) from error
        else:
            return
        pause(interval)


class MockCallArgs(NamedTuple):
    """The arguments of a mock's call."""

    positional: Any
    keyword: Any


def unpack_mock_call(call: Any) -> MockCallArgs:
    """The arguments of a mock's call."""
    return MockCallArgs(*call)


class AnyInstanceOf:
    """Equals every instance of a class."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    def __eq__(self, other: object) -> bool:
        return isinstance(self.cls, type) and isinstance(other, self.cls)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<AnyInstanceOf-{getattr(self.cls, '__name__', self.cls)}>"


ANY_PARTIAL = AnyInstanceOf(partial)


class DummyProvider(Entrypoint):
    """An entrypoint that nothing fires."""

    def __init__(self, method_name: str | None = None) -> None:
        super().__init__()
        self.method_name = method_name


def find_free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as trying:
        trying.bind((host, 0))
        port: int = trying.getsockname()[1]
        return port


__getattr__ = refusing(__name__)
