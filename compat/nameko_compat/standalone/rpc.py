"""Calling services from outside a service: `ClusterRpcProxy`, `ServiceRpcProxy`, and their names of 3.x."""

from collections.abc import Mapping
from typing import Any

from micro_framework.rpc.futures import RPCFuture
from micro_framework.standalone import RPCClient
from nameko_compat import config as process_config
from nameko_compat.absent import refusing
from nameko_compat.constants import AMQP_SSL_CONFIG_KEY, AMQP_URI_CONFIG_KEY, LOGIN_METHOD_CONFIG_KEY
from nameko_compat.refusals import refuse_options
from nameko_compat.rpc import OF_THE_CALL, Client
from nameko_compat.versions import split_config

__all__ = [
    "CONNECTION_OPTIONS",
    "ClusterRpcClient",
    "ClusterRpcProxy",
    "ServiceRpcClient",
    "ServiceRpcProxy",
    "StandaloneSender",
]

CONNECTION_OPTIONS = {
    "uri": AMQP_URI_CONFIG_KEY,
    "ssl": AMQP_SSL_CONFIG_KEY,
    "login_method": LOGIN_METHOD_CONFIG_KEY,
    "serializer": "serializer",
}
"""3.x's keyword arguments, and the keys of the configuration that they stand for."""


class StandaloneSender:
    """Sends the calls of a `Client` through micro_framework's."""

    def __init__(self, client: RPCClient) -> None:
        self.client = client

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
        return self.client[service][method].call_async(*args, **kwargs)


def is_context(args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Whether the first argument is 3.x's ``context_data``: it names no broker, which is known from elsewhere."""
    known = options.get("uri") or process_config.get(AMQP_URI_CONFIG_KEY)
    return bool(args and known and isinstance(args[0], Mapping) and AMQP_URI_CONFIG_KEY not in args[0])


class ClusterRpcClient:
    """Calls any service: ``with ClusterRpcClient(...) as rpc: rpc.service.method(...)``. Thread safe, unlike Nameko's.

    Args:
        args: In 2.x ``config, context_data, timeout``; in 3.x ``context_data, timeout``. A mapping as the first one is
            the configuration, unless it has no ``AMQP_URI`` and ``nameko_compat.config`` or ``uri`` has.
        context_data: Goes with every call.
        timeout: Seconds to wait for an answer; None: as ``RPC_TIMEOUT`` says.
        options: In 3.x ``uri``, ``ssl``, ``login_method``, ``serializer``.
    """

    service_name: str | None = None

    def __init__(
        self, *args: Any, context_data: Mapping[str, Any] | None = None, timeout: float | None = None, **options: Any
    ) -> None:
        if "config" in options:
            args = (options.pop("config"), *args)
        elif is_context(args, options):
            args = (process_config, *args)
        config, rest = split_config(args)
        given = dict(config)
        given.update({key: options.pop(name) for name, key in CONNECTION_OPTIONS.items() if name in options})
        refuse_options(type(self).__name__, {key: options[key] for key in options if key not in OF_THE_CALL})
        context, seconds = (*rest, None, None)[:2]
        self._made_of = (given, timeout or seconds, context_data or context)
        self._client: RPCClient | None = RPCClient(*self._made_of)

    def start(self) -> Client:
        """What can be called, until `stop`; it may be started again then."""
        if self._client is None:
            self._client = RPCClient(*self._made_of)
        return Client(StandaloneSender(self._client), self.service_name)

    def stop(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.stop()

    def __enter__(self) -> Client:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class ServiceRpcClient(ClusterRpcClient):
    """Calls one service: ``with ServiceRpcClient("service", ...) as service: service.method(...)``.

    Args:
        service_name: The service.
        args: As `ClusterRpcClient`.
        options: As `ClusterRpcClient`.
    """

    def __init__(self, service_name: str, *args: Any, **options: Any) -> None:
        self.service_name = service_name
        super().__init__(*args, **options)


ClusterRpcProxy = ClusterRpcClient
ServiceRpcProxy = ServiceRpcClient

__getattr__ = refusing(__name__)
