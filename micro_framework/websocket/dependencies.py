"""`WebSocketClient`: calls targets of another service over WebSocket."""

from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.rpc.proxies import ServiceProxy, checked_timeout
from micro_framework.websocket.connection import ClientConnection

__all__ = ["WebSocketClient"]


class WebSocketClient(Dependency[ServiceProxy]):
    """Calls a service over WebSocket: ``self.other.create(7)``, ``self.other.create.call_async(7)``.

    It connects by itself, again and again. A call waits for the connection, at most until its deadline; one whose
    connection is lost raises `ConnectionLost`.

    Args:
        uri: ``ws://host:port/`` or ``wss://...``.
        timeout: Seconds to wait for an answer; None: ``RPC_TIMEOUT``; ``float("inf")``: for ever.
        token: The server's ``WEBSOCKET.TOKEN``.
    """

    def __init__(self, uri: str, timeout: float | None = None, *, token: str | None = None) -> None:
        self.connection = ClientConnection(uri, token)
        self.uri = uri
        self.timeout = timeout

    def problems(self) -> list[str]:
        """Arguments of a wrong kind."""
        found = []
        if not str(self.uri).startswith(("ws://", "wss://")):
            found.append(f"{self}: uri must read ws://host:port/ or wss://..., not {self.uri!r}")
        if self.timeout is not None:
            try:
                checked_timeout(self.timeout)
            except ValueError as error:
                found.append(f"{self}: {error}")
        return found

    def get_dependency(self, worker: RunningCall) -> ServiceProxy:
        """A proxy for the server's targets."""
        return ServiceProxy(self.connection, self.uri, self.timeout)
