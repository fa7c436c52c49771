"""Calling services from outside a service: `ClusterRpcProxy`, `ServiceRpcProxy`, and their names of 3.x."""

from collections.abc import Mapping
from typing import Any

from micro_framework.rpc.futures import RPCFuture
from micro_framework.standalone import RPCClient
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


class ClusterRpcClient:
    """Calls any service: ``with ClusterRpcClient(...) as rpc: rpc.service.method(...)``. Thread safe, unlike Nameko's.

    Args:
        args: In 2.x ``config, context_data, timeout``; in 3.x ``context_data, timeout``. A mapping as the first one is
            the configuration.
        context_data: Goes with every call.
        timeout: Seconds to wait for an answer; None: as ``RPC_TIMEOUT`` says.
        options: In 3.x ``uri``, ``ssl``, ``login_method``, ``serializer``.
    """

    service_name: str | None = None

    def __init__(
        self, *args: Any, context_data: Mapping[str, Any] | None = None, timeout: float | None = None, **options: Any
    ) -> None:
        config, rest = split_config((options.pop("config"), *args) if "config" in options else args)
        given = dict(config)
        given.update({key: options.pop(name) for name, key in CONNECTION_OPTIONS.items() if name in options})
        refuse_options(type(self).__name__, {key: options[key] for key in options if key not in OF_THE_CALL})
        context, seconds = (*rest, None, None)[:2]
        self._client = RPCClient(given, timeout or seconds, context_data or context)
        self._proxy = Client(StandaloneSender(self._client), self.service_name)

    def start(self) -> Client:
        """What can be called; followed by `stop`."""
        return self._proxy

    def stop(self) -> None:
        """Close the connection."""
        self._client.stop()

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
