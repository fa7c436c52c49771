"""``rpc``, `ServiceRpc` (2.x: `RpcProxy`) and `ClusterRpc`."""

from collections.abc import Mapping
from concurrent.futures import wait
from typing import Any, Protocol

from kombu.entity import Exchange

from micro_framework import extensions as own
from micro_framework.amqp.calls import CallSender, ClusterRPCProxy
from micro_framework.rpc.futures import RPCFuture
from nameko_compat.absent import refusing
from nameko_compat.adapters import RpcAdapter
from nameko_compat.constants import RPC_EXCHANGE_CONFIG_KEY
from nameko_compat.extensions import DependencyProvider, Entrypoint
from nameko_compat.green.timeout import may_be_interrupted, wait_for
from nameko_compat.refusals import refuse_options
from nameko_compat.versions import chosen_config
from nameko_compat.workers import RunningContext

__all__ = [
    "OF_THE_CALL",
    "RPC_QUEUE_TEMPLATE",
    "RPC_REPLY_QUEUE_TEMPLATE",
    "RPC_REPLY_QUEUE_TTL",
    "Client",
    "ClusterRpc",
    "Proxy",
    "Rpc",
    "RpcCall",
    "RpcProxy",
    "RpcReply",
    "Sender",
    "ServiceRpc",
    "get_rpc_exchange",
    "rpc",
]

RPC_QUEUE_TEMPLATE = "rpc-{}"
RPC_REPLY_QUEUE_TEMPLATE = "rpc.reply-{}-{}"
RPC_REPLY_QUEUE_TTL = 300_000
"""Milliseconds."""

OF_THE_CALL = frozenset({"exchange", "routing_key", "mandatory", "reply_to", "correlation_id", "use_confirms"})
"""Options that Nameko 3.x drops for clients, and confirms, which every request has here."""


def get_rpc_exchange(config: Mapping[str, Any] | None = None) -> Exchange:
    """The exchange that requests and replies go to."""
    name = chosen_config(config).get(RPC_EXCHANGE_CONFIG_KEY, "nameko-rpc")
    return Exchange(name, durable=True, type="topic")  # type: ignore[no-untyped-call]


class Rpc(Entrypoint):
    """Lets other services call the method."""

    not_called = ("handle_message", "handle_result")

    def route_entrypoint(self) -> Any:
        """What is called."""
        return RpcAdapter(expected_exceptions=self.expected_exceptions, sensitive_arguments=self.sensitive_arguments)


rpc = Rpc.decorator


class Sender(Protocol):
    """Sends calls; see `micro_framework.rpc.proxies.Caller`."""

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
        """Send a call."""


class RpcCall:
    """A call that waits for its answer (2.x calls it ``RpcReply``)."""

    def __init__(self, future: RPCFuture) -> None:
        self.future = future

    @property
    def correlation_id(self) -> str:
        """What ties the answer to it."""
        return self.future.correlation_id

    def result(self) -> Any:
        """Wait for the answer; what the method returned.

        Raises:
            Exception: What the method raised, or why there is no answer.
        """
        if may_be_interrupted():
            wait_for(lambda seconds: bool(wait([self.future], seconds).done))
        return self.future.result()

    def get_response(self) -> dict[str, Any]:
        """Wait for the answer, as it came."""
        error = self.future.exception()
        return {"result": None if error else self.future.result(), "error": error}


RpcReply = RpcCall


class Client:
    """What can be called: all services, one of them, or one method, named step by step.

    ``client.service.method(...)``, ``client["service"]["method"](...)``, ``client.service.method.call_async(...)``.

    Args:
        sender: Sends its calls.
        service_name: The service; None: to be named.
        method_name: The method; None: to be named.
    """

    def __init__(self, sender: Sender, service_name: str | None = None, method_name: str | None = None) -> None:
        self._sender = sender
        self.service_name = service_name
        self.method_name = method_name

    def __getattr__(self, name: str) -> "Client":
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> "Client":
        if self.service_name is None:
            return Client(self._sender, name)
        if self.method_name is None:
            return Client(self._sender, self.service_name, name)
        raise AttributeError(f"{self.identifier} is a method; it has nothing called {name!r}")

    __iter__ = None  # or Python would ask for the items 0, 1, 2 and so on, for ever

    @property
    def fully_specified(self) -> bool:
        """Whether it names a method."""
        return self.service_name is not None and self.method_name is not None

    @property
    def identifier(self) -> str:
        """``service.method``, with stars for what is not named."""
        return f"{self.service_name or '*'}.{self.method_name or '*'}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method and wait for the answer."""
        if may_be_interrupted():
            return self.call_async(*args, **kwargs).result()
        return self._send(args, kwargs, waited_for=True).result()

    def call_async(self, *args: Any, **kwargs: Any) -> RpcCall:
        """Call the method and return at once; the answer, and also `UnknownService`, comes to the result."""
        return RpcCall(self._send(args, kwargs, waited_for=False))

    def _send(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, waited_for: bool) -> RPCFuture:
        if self.service_name is None or self.method_name is None:
            raise ValueError(f"{self.identifier} does not name a service and a method, so it cannot be called")
        return self._sender.send(self.service_name, self.method_name, args, kwargs, None, waited_for=waited_for)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.identifier}]>"


Proxy = Client


class ClusterRpc(DependencyProvider):
    """Gives a `Client` for all services (3.x).

    A call waits for its answer as long as ``RPC_TIMEOUT`` says (Nameko waits for ever; ``RPC_TIMEOUT: null`` does so).

    Args:
        options: Nothing that would change a request.
    """

    part: Any

    def __init__(self, **options: Any) -> None:
        refuse_options(type(self).__name__, {key: options[key] for key in options if key not in OF_THE_CALL})

    def parts(self) -> Mapping[str, own.Extension]:
        """What calls."""
        return {"part": ClusterRPCProxy()}

    def get_dependency(self, worker_ctx: Any) -> Client:
        """The client."""
        return Client(CallSender(self.part.replies, RunningContext(worker_ctx)))


class ServiceRpc(ClusterRpc):
    """Gives a `Client` for one service (2.x calls it ``RpcProxy``).

    Args:
        target_service: The service.
        options: As `ClusterRpc`.
    """

    def __init__(self, target_service: str, **options: Any) -> None:
        self.target_service = target_service
        super().__init__(**options)

    def described(self) -> dict[str, Any]:
        """The service it calls."""
        return {**super().described(), "service": self.target_service}

    def get_dependency(self, worker_ctx: Any) -> Client:
        """The client."""
        return super().get_dependency(worker_ctx)[self.target_service]


RpcProxy = ServiceRpc

__getattr__ = refusing(__name__)
