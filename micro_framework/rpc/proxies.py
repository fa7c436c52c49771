"""Proxies: ``self.payments.charge(7, items=[1])`` for a call of the method ``charge`` of the service ``payments``.

Every attribute of a proxy is a name on the other side, so a proxy's own attributes begin with an underscore; item
access (``proxy["charge"]``) reaches the names that are no Python identifiers, or begin with an underscore themselves.
Every argument goes to the remote method; what is about the call itself goes in between:
``self.payments.charge.with_timeout(2)(7)``.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from micro_framework.rpc.futures import RPCFuture

__all__ = ["Caller", "ClusterProxy", "MethodProxy", "ServiceProxy", "checked_name", "checked_timeout"]


LONGEST_TIMEOUT = 1e9
"""Seconds, about thirty years: no platform lets a thread wait for as long as a float can say."""


class Caller(Protocol):
    """Sends calls."""

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
        """Send a call.

        Args:
            service: The service's name.
            method: The method's name.
            args: Positional arguments.
            kwargs: Keyword arguments.
            timeout: Seconds to wait for the answer; None: as configured.
            waited_for: Whether the calling thread is going to wait for the answer at once.

        Raises:
            PublishError: It cannot be sent.
            TypeError, ValueError: The arguments cannot be encoded.
        """


class MethodProxy:
    """A method of a remote service. Thread safe as far as its `Caller` is.

    Args:
        caller: Sends its calls.
        service: The service's name.
        method: The method's name.
        timeout: Seconds to wait for an answer; None: as configured.
    """

    __slots__ = ("_caller", "_method", "_service", "_timeout")

    def __init__(self, caller: Caller, service: str, method: str, timeout: float | None) -> None:
        self._caller = caller
        self._service = service
        self._method = method
        self._timeout = timeout

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method and wait for its answer.

        Raises:
            Exception: As `RPCFuture.result`, and as `call_async`.
        """
        call = self._caller.send(self._service, self._method, args, kwargs, self._timeout, waited_for=True)
        try:
            return call.result()
        except BaseException:
            call.cancel()  # of no effect unless the waiting itself was interrupted, by Ctrl-C for instance
            raise
        finally:
            del call  # the error's traceback holds this frame, which must not hold the error

    def call_async(self, /, *args: Any, **kwargs: Any) -> RPCFuture:
        """Call the method and return at once; the answer, and also `UnknownService`, comes to the future.

        Raises:
            PublishError: The request cannot be sent.
            TypeError, ValueError: The arguments cannot be encoded.
        """
        return self._caller.send(self._service, self._method, args, kwargs, self._timeout, waited_for=False)

    def with_timeout(self, seconds: float) -> "MethodProxy":
        """The same method with another deadline.

        Args:
            seconds: How long to wait for an answer, above 0, at most 1e9; ``float("inf")`` for ever.

        Raises:
            ValueError: It is no such number.
        """
        return MethodProxy(self._caller, self._service, self._method, checked_timeout(seconds))

    def __repr__(self) -> str:
        return f"<remote method {self._service}.{self._method}>"


class ServiceProxy:
    """A remote service; its attributes and items are its methods.

    Args:
        caller: Sends its calls.
        service: The service's name.
        timeout: Seconds to wait for an answer; None: as configured.
    """

    __slots__ = ("_caller", "_service", "_timeout")
    __iter__ = None  # or Python would ask for the items 0, 1, 2 and so on, for ever

    def __init__(self, caller: Caller, service: str, timeout: float | None = None) -> None:
        self._caller = caller
        self._service = service
        self._timeout = timeout

    def __getattr__(self, name: str) -> MethodProxy:
        if is_dunder(name):  # Python asks for some by itself, copying and pickling for example
            raise AttributeError(f"{name} is no remote method; if it is, write proxy[{name!r}]")
        return MethodProxy(self._caller, self._service, name, self._timeout)

    def __getitem__(self, name: str) -> MethodProxy:
        return MethodProxy(self._caller, self._service, checked_name(name), self._timeout)

    def __repr__(self) -> str:
        return f"<remote service {self._service}>"


class ClusterProxy:
    """All services of the cluster; its attributes and items are `ServiceProxy` objects.

    Args:
        caller: Sends the calls.
        timeout: Seconds to wait for an answer; None: as configured.
    """

    __slots__ = ("_caller", "_timeout")
    __iter__ = None

    def __init__(self, caller: Caller, timeout: float | None = None) -> None:
        self._caller = caller
        self._timeout = timeout

    def __getattr__(self, name: str) -> ServiceProxy:
        if is_dunder(name):
            raise AttributeError(f"{name} is no remote service; if it is, write proxy[{name!r}]")
        return ServiceProxy(self._caller, name, self._timeout)

    def __getitem__(self, name: str) -> ServiceProxy:
        return ServiceProxy(self._caller, checked_name(name), self._timeout)

    def __repr__(self) -> str:
        return "<remote services>"


def is_dunder(name: str) -> bool:
    """Whether a name is one of Python's own."""
    return name.startswith("__") and name.endswith("__")


def checked_name(name: object) -> str:
    """A name on the other side.

    Raises:
        TypeError: It is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a service or method is text, not {name!r}")
    return name


def checked_timeout(seconds: Any) -> float:
    """A timeout.

    Raises:
        ValueError: It is not a number above 0, and neither at most `LONGEST_TIMEOUT` nor infinite.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if is_number and (0 < seconds <= LONGEST_TIMEOUT or seconds == math.inf):
        return float(seconds)
    raise ValueError(
        f"a timeout is a number of seconds above 0 (at most {LONGEST_TIMEOUT:.0f}), or float('inf') for ever, "
        f"not {seconds!r}"
    )
