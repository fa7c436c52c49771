"""`RPCManager`: the table of what can be called, behind `RPCListener` and `WebSocketListener`.

Only declared targets are in it: no name that a caller sends is ever looked up anywhere else. Two names are reserved for
asking what there is; they begin and end with two underscores, as no declared target may.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from micro_framework.exceptions import IncorrectSignature, MethodNotFound

__all__ = ["GET_TARGET", "LIST_TARGETS", "RPCManager", "RPCRoute"]

LIST_TARGETS = "__list_targets__"
"""Answers with a description of every target."""
GET_TARGET = "__get_target__"
"""Answers with the description of the target whose name is its argument."""


class RPCRoute(Protocol):
    """What the table holds of a target."""

    def describe(self) -> Mapping[str, Any]:
        """``name``, ``parameters`` and ``doc`` of the target, as plain data."""


Route = TypeVar("Route", bound=RPCRoute)


class RPCManager(Generic[Route]):
    """The callable targets of one service. Filled before anything is called; safe to read from any thread then.

    Args:
        service: The service's name.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.targets: dict[str, Route] = {}

    def add(self, name: str, route: Route) -> None:
        """Make a target callable under a name."""
        self.targets[name] = route

    def find(self, name: str) -> Route:
        """The target of that name.

        Raises:
            MethodNotFound: There is none.
        """
        try:
            return self.targets[name]
        except KeyError:
            raise MethodNotFound(name) from None

    def list_targets(self) -> list[dict[str, Any]]:
        """The descriptions of all targets, by name."""
        return [dict(route.describe()) for _, route in sorted(self.targets.items())]

    def answer(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call that no target answers.

        Args:
            name: One of the reserved names, or anything else.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            MethodNotFound: It is no reserved name, or asks for a target that there is not.
            IncorrectSignature: The arguments do not fit.
        """
        if name == LIST_TARGETS:
            if args or kwargs:
                raise IncorrectSignature(f"{LIST_TARGETS}() takes no arguments")
            return self.list_targets()
        if name == GET_TARGET:
            if len(args) != 1 or kwargs:
                raise IncorrectSignature(f"{GET_TARGET}() takes 1 positional argument, the name of a target")
            return dict(self.find(str(args[0])).describe())
        raise MethodNotFound(name)
