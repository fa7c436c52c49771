"""`discover`: asks a service what it offers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from micro_framework.exceptions import MethodNotFound, WireError
from micro_framework.rpc.manager import LIST_TARGETS
from micro_framework.rpc.proxies import ServiceProxy

__all__ = ["TargetInfo", "discover"]


class TargetInfo(NamedTuple):
    """A target of another service.

    Args:
        name: The name to call it by.
        parameters: Its parameters in order, each with ``name``, ``kind`` and ``required``, and ``default`` and
            ``annotation`` as text where it has them.
        doc: Its docstring, empty where there is none.
    """

    name: str
    parameters: tuple[Mapping[str, Any], ...]
    doc: str


def discover(proxy: ServiceProxy) -> list[TargetInfo] | None:
    """Ask a service which targets it offers by RPC.

    Args:
        proxy: What ``RPCProxy`` gives, or a standalone client's ``rpc.orders``.

    Returns:
        Its targets by name; None where the service does not tell, as Nameko's do not.

    Raises:
        Exception: As any call: `UnknownService`, `RPCTimeout` and so on.
    """
    try:
        answer = proxy[LIST_TARGETS]()
    except MethodNotFound:
        return None
    try:
        return [TargetInfo(entry["name"], tuple(entry["parameters"]), entry["doc"]) for entry in answer]
    except (TypeError, KeyError) as error:
        raise WireError(f"{proxy!r} answered {LIST_TARGETS} with something else than targets: {answer!r}") from error
