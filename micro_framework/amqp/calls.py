"""`RPCProxy` and `ClusterRPCProxy`: what targets call other services with; on the wire they are Nameko's clients."""

from collections.abc import Mapping
from typing import Any

from micro_framework.amqp.arguments import kind_problems
from micro_framework.amqp.replies import ReplyDoor
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.proxies import ClusterProxy, ServiceProxy, checked_timeout

__all__ = ["CallSender", "ClusterRPCProxy", "RPCProxy"]


class CallSender:
    """Sends calls on behalf of a running call: with its context data and ids, and within its deadline."""

    __slots__ = ("replies", "worker")

    def __init__(self, replies: ReplyDoor, worker: RunningCall) -> None:
        self.replies = replies
        self.worker = worker

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
        """Send a call, see `micro_framework.rpc.proxies.Caller`."""
        call = self.worker.call
        return self.replies.send(
            service,
            method,
            args,
            kwargs,
            timeout,
            waited_for=waited_for,
            context=call.context,
            stack=call.identity.stack,
            deadline=call.deadline,
        )


class RPCProxy(Dependency[ServiceProxy]):
    """Calls one service: ``self.payments.charge(7, items=[1])``; on the wire it is Nameko's ``RpcProxy``.

    ``.call_async(...)`` returns a future instead of waiting, ``.with_timeout(2)(...)`` sets the deadline of one call.
    A call made while the running call has a deadline of its own waits no longer than that.

    Args:
        service_name: The service to call.
        timeout: Seconds to wait for an answer; None: ``RPC_TIMEOUT``; ``float("inf")``: for ever.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """

    replies = ReplyDoor()

    def __init__(self, service_name: str, timeout: float | None = None) -> None:
        self.service_name = service_name
        self.timeout = timeout

    def problems(self) -> list[str]:
        """Arguments of a wrong kind."""
        found = kind_problems(self, "a string", str, service_name=self.service_name)
        if not found and not self.service_name:
            found = [f"{self}: service_name must not be empty"]
        return found + timeout_problems(self, self.timeout)

    def described(self) -> dict[str, Any]:
        """The service it calls."""
        return {**super().described(), "service": self.service_name}

    def setup(self) -> None:
        """Have the connection for calls ready."""
        self.replies.use()

    def get_dependency(self, worker: RunningCall) -> ServiceProxy:
        """A proxy whose calls carry the running call's context data."""
        return ServiceProxy(CallSender(self.replies, worker), self.service_name, self.timeout)


class ClusterRPCProxy(Dependency[ClusterProxy]):
    """Calls any service: ``self.rpc.payments.charge(7)``, ``self.rpc["svc-with-dash"].method()``.

    Args:
        timeout: As `RPCProxy`.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """

    replies = ReplyDoor()

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout

    def problems(self) -> list[str]:
        """Arguments of a wrong kind."""
        return timeout_problems(self, self.timeout)

    def setup(self) -> None:
        """Have the connection for calls ready."""
        self.replies.use()

    def get_dependency(self, worker: RunningCall) -> ClusterProxy:
        """A proxy whose calls carry the running call's context data."""
        return ClusterProxy(CallSender(self.replies, worker), self.timeout)


def timeout_problems(declaration: object, timeout: float | None) -> list[str]:
    """What is wrong with a timeout."""
    if timeout is None:
        return []
    try:
        checked_timeout(timeout)
    except ValueError as error:
        return [f"{declaration}: {error}"]
    return []
