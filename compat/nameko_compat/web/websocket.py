"""``rpc`` over WebSocket, and the hub that sends events to sockets.

A socket's requests are served one after the other, in the thread of its connection; each method runs in a worker.
"""

import json
import socket
import struct
import threading
import uuid
from functools import partial
from typing import Any, NamedTuple

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from werkzeug.routing import Rule

from nameko_compat.absent import refusing
from nameko_compat.exceptions import ConnectionNotFound, MalformedRequest, MethodNotFound, serialize
from nameko_compat.extensions import DependencyProvider, Entrypoint, ProviderCollector, SharedExtension
from nameko_compat.web.handlers import PendingResult
from nameko_compat.web.server import WebServer

__all__ = [
    "Connection",
    "SocketInfo",
    "WebSocket",
    "WebSocketHub",
    "WebSocketHubProvider",
    "WebSocketRpc",
    "WebSocketServer",
    "rpc",
]

READ_BYTES = 65536
SEND_SECONDS = 30


class SocketInfo(NamedTuple):
    """An open socket and its context data."""

    socket: Any
    data: dict[str, Any]


class Connection:
    """What the hub knows of a socket."""

    def __init__(self, socket_id: str, context_data: Any) -> None:
        self.socket_id = socket_id
        self.context_data = context_data
        self.subscriptions: set[str] = set()


class WebSocket:
    """A WebSocket on a connection whose request has been read. `send` is thread safe.

    Args:
        connection: The connection.
        request: The request, as werkzeug has it.
    """

    def __init__(self, connection: socket.socket, request: Any) -> None:
        self.connection = connection
        self.writing = threading.Lock()
        self.protocol = ServerProtocol()
        self.fragments: list[bytes] = []
        self.received: list[Frame] = []
        lines = [f"{request.method} {request.full_path.rstrip('?')} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        self.protocol.receive_data("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def accept(self) -> bool:
        """Answer the handshake; whether it was one."""
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                with self.writing:
                    self.protocol.send_response(self.protocol.accept(event))
                    self.flush()
        self.connection.settimeout(None)
        # Only for writing: a client may be silent, but one that reads nothing must not hold up who sends to it.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        return self.protocol.state.name == "OPEN"

    def flush(self) -> None:
        """Write what the protocol has to say; with the lock held."""
        for data in self.protocol.data_to_send():
            if data:
                self.connection.sendall(data)

    def send(self, text: str) -> None:
        """Send a message; one to a socket that is gone is lost."""
        with self.writing:
            try:
                self.protocol.send_text(text.encode())
                self.flush()
            except InvalidState:
                pass  # closed meanwhile
            except OSError:
                self.end()  # broken, or its client reads nothing any more

    def wait(self) -> str | None:
        """The next message; None when the socket has been closed."""
        while True:
            while self.received:
                frame = self.received.pop(0)
                if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    self.fragments.append(bytes(frame.data))
                    if frame.fin:
                        whole, self.fragments = b"".join(self.fragments), []
                        return whole.decode(errors="replace")
            if self.protocol.state.name != "OPEN" or not self.read():
                return None

    def read(self) -> bool:
        """Read what comes; whether something has."""
        try:
            data = self.connection.recv(READ_BYTES)
        except OSError:
            data = b""
        with self.writing:
            if data:
                self.protocol.receive_data(data)
            else:
                self.protocol.receive_eof()
            self.received += [event for event in self.protocol.events_received() if isinstance(event, Frame)]
            try:
                self.flush()
            except OSError:
                return False
        return bool(data)

    def close(self) -> None:
        """Say goodbye."""
        with self.writing:
            if self.protocol.state.name == "OPEN":
                self.protocol.send_close(1001, "the service stops")
                try:
                    self.flush()
                except OSError:
                    pass
        self.end()

    def end(self) -> None:
        """Break the connection; whoever reads from it wakes."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is gone already
            pass


class WebSocketServer(SharedExtension, ProviderCollector):
    """Serves WebSockets at ``/ws`` of the web server."""

    wsgi_server = WebServer()

    def __init__(self) -> None:
        super().__init__()
        self.sockets: dict[str, SocketInfo] = {}

    def deserialize_ws_frame(self, payload: str) -> tuple[Any, Any, Any]:
        """Method, data and correlation id of a request.

        Raises:
            MalformedRequest: It is none.
        """
        try:
            data = json.loads(payload)
            return data["method"], data.get("data") or {}, data.get("correlation_id")
        except Exception as error:
            raise MalformedRequest("Invalid JSON data") from error

    def serialize_for_ws(self, payload: Any) -> str:
        """A message."""
        return json.dumps(payload)

    def serialize_event(self, event: str, data: Any) -> str:
        """The message of an event."""
        return self.serialize_for_ws({"type": "event", "event": event, "data": data})

    def get_url_rule(self) -> Rule:
        """Where it is served."""
        return Rule("/ws", methods=["GET"], websocket=True)

    def handle_request(self, request: Any) -> Any:
        """A WSGI application that serves the socket of a request."""
        return self.websocket_mainloop(self.wsgi_server.context_data_from_headers(request), request)

    def websocket_mainloop(self, initial_context_data: Any, request: Any) -> Any:
        """The same, with the context data that its calls have."""

        def serve(environ: Any, start_response: Any) -> Any:
            opened = WebSocket(environ["werkzeug.socket"], request)
            if opened.accept():
                self.serve(opened, initial_context_data)
            opened.close()
            raise ConnectionAbortedError("the WebSocket has ended")  # so that nothing is written after it

        return serve

    def serve(self, opened: WebSocket, initial_context_data: Any) -> None:
        """Answer the requests of a socket until it is closed."""
        socket_id, context_data = self.add_websocket(opened, initial_context_data)
        try:
            opened.send(self.serialize_event("connected", {"socket_id": socket_id}))
            while (raw_request := opened.wait()) is not None:
                opened.send(self.handle_websocket_request(socket_id, context_data, raw_request))
        finally:
            self.remove_socket(socket_id)

    def handle_websocket_request(self, socket_id: str, context_data: Any, raw_req: str) -> str:
        """The answer to a request."""
        correlation_id = None
        try:
            method, data, correlation_id = self.deserialize_ws_frame(raw_req)
            result = self.get_provider_for_method(method).handle_message(socket_id, data, context_data)
            outcome = {"success": True, "data": result}
            return self.serialize_for_ws({"type": "result", **outcome, "correlation_id": correlation_id})
        except Exception as error:  # noqa: BLE001 - it is the method's, and goes to the client
            outcome = {"success": False, "error": serialize(error)}
            return self.serialize_for_ws({"type": "result", **outcome, "correlation_id": correlation_id})

    def get_provider_for_method(self, method: Any) -> Any:
        """The entrypoint of a method.

        Raises:
            MethodNotFound: There is none.
        """
        for provider in self._providers:
            if isinstance(provider, WebSocketRpc) and provider.method_name == method:
                return provider
        raise MethodNotFound

    def setup(self) -> None:
        """Have the web server know it."""
        self.wsgi_server.register_provider(self)

    def stop(self) -> None:
        """Close every socket."""
        super().stop()
        self.wsgi_server.unregister_provider(self)

    def unregister_provider(self, provider: Any) -> None:
        """Forget one; when the last method has gone, sockets are closed and none is accepted any more."""
        super().unregister_provider(provider)
        if not any(isinstance(each, WebSocketRpc) for each in self._providers):
            self.wsgi_server.unregister_provider(self)
            for info in list(self.sockets.values()):
                info.socket.close()

    def add_websocket(self, ws: Any, initial_context_data: Any = None) -> tuple[str, dict[str, Any]]:
        """Note a socket; its id and context data."""
        socket_id = str(uuid.uuid4())
        context_data = dict(initial_context_data or ())
        self.sockets[socket_id] = SocketInfo(ws, context_data)
        return socket_id, context_data

    def remove_socket(self, socket_id: str) -> None:
        """Forget a socket."""
        self.sockets.pop(socket_id, None)
        for provider in tuple(self._providers):
            if isinstance(provider, WebSocketHubProvider):
                provider.cleanup_websocket(socket_id)


class WebSocketHub:
    """Which socket listens to which channel. Thread safe.

    Args:
        server: The server of the sockets.
    """

    def __init__(self, server: WebSocketServer) -> None:
        self._server = server
        self.guard = threading.RLock()
        self.connections: dict[str, Connection] = {}
        self.subscriptions: dict[str, set[str]] = {}

    def get_subscriptions(self, socket_id: str) -> list[str]:
        """The channels of a socket."""
        with self.guard:
            found = self.connections.get(socket_id)
            return sorted(found.subscriptions) if found else []

    def subscribe(self, socket_id: str, channel: str) -> None:
        """Let a socket listen to a channel.

        Raises:
            ConnectionNotFound: There is no such socket.
        """
        with self.guard:
            info = self._server.sockets.get(socket_id)
            if info is None:
                raise ConnectionNotFound(socket_id)
            connection = self.connections.setdefault(socket_id, Connection(socket_id, info.data))
            connection.subscriptions.add(channel)
            self.subscriptions.setdefault(channel, set()).add(socket_id)

    def unsubscribe(self, socket_id: str, channel: str) -> None:
        """Let it listen no more."""
        with self.guard:
            if (connection := self.connections.get(socket_id)) is not None:
                connection.subscriptions.discard(channel)
            self.subscriptions.get(channel, set()).discard(socket_id)

    def broadcast(self, channel: str, event: str, data: Any) -> None:
        """Send an event to all who listen to a channel."""
        payload = self._server.serialize_event(event, data)
        with self.guard:
            listening = list(self.subscriptions.get(channel, ()))
        for socket_id in listening:
            if (info := self._server.sockets.get(socket_id)) is not None:
                info.socket.send(payload)

    def unicast(self, socket_id: str, event: str, data: Any) -> bool:
        """Send an event to one socket; whether that is there."""
        info = self._server.sockets.get(socket_id)
        if info is None:
            return False
        info.socket.send(self._server.serialize_event(event, data))
        return True

    def forget(self, socket_id: str) -> None:
        """A socket is gone."""
        with self.guard:
            connection = self.connections.pop(socket_id, None)
            for channel in connection.subscriptions if connection else ():
                self.subscriptions.get(channel, set()).discard(socket_id)


class WebSocketHubProvider(DependencyProvider):
    """Gives the hub."""

    server = WebSocketServer()
    hub: WebSocketHub

    def setup(self) -> None:
        """Make the hub."""
        self.hub = WebSocketHub(self.server)
        self.server.register_provider(self)

    def stop(self) -> None:
        """No socket is left."""
        self.server.unregister_provider(self)
        super().stop()

    def get_dependency(self, worker_ctx: Any) -> WebSocketHub:
        """The hub."""
        return self.hub

    def cleanup_websocket(self, socket_id: str) -> None:
        """A socket is gone."""
        self.hub.forget(socket_id)


class WebSocketRpc(Entrypoint):
    """Lets sockets call the method, with their id first and the request's data as keyword arguments."""

    server = WebSocketServer()

    def setup(self) -> None:
        """Have the server know it."""
        self.server.register_provider(self)

    def stop(self) -> None:
        """Be called no more."""
        self.server.unregister_provider(self)
        super().stop()

    def handle_message(self, socket_id: str, data: Any, context_data: Any) -> Any:
        """Have a worker call the method; what it returns."""
        self.check_signature((socket_id,), data)
        pending = PendingResult()
        self.container.spawn_worker(
            self, (socket_id,), data, context_data=context_data, handle_result=partial(self.handle_result, pending)
        )
        return pending.wait()

    def handle_result(self, pending: Any, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        """The method has ended."""
        pending.send(result, exc_info)
        return result, exc_info


rpc = WebSocketRpc.decorator

__getattr__ = refusing(__name__)
