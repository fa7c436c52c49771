"""`WebServer`: HTTP for the entrypoints of one container, on werkzeug's server with a thread for each connection.

A connection's thread parses the request, has a worker of the container run the method, and writes the response. When
the last entrypoint has been stopped nothing more is accepted, and connections end after the response they wait for.
"""

import itertools
import logging
import re
import socket
import threading
import time
from typing import Any, NamedTuple

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request

from nameko_compat.absent import refusing
from nameko_compat.constants import WEB_SERVER_CONFIG_KEY
from nameko_compat.exceptions import ConfigurationError
from nameko_compat.extensions import ProviderCollector, SharedExtension

__all__ = ["BindAddress", "RequestHandler", "Server", "WebServer", "WsgiApp", "parse_address"]

logger = logging.getLogger(__name__)

DEFAULT_ADDRESS = "0.0.0.0:8000"
IDLE_SECONDS = 60.0
"""How long a connection may be silent."""
CLOSE_SECONDS = 5.0
"""How long the responses that are being written may take at the stop."""
BACKLOG = 128


class BindAddress(NamedTuple):
    """Where to listen; an empty address is every interface."""

    address: str
    port: int


def parse_address(address_string: str) -> BindAddress:
    """An address as ``WEB_SERVER_ADDRESS`` has it.

    Raises:
        ConfigurationError: It is none.
    """
    match = re.fullmatch(r"(?:([^:]+):)?(\d+)", address_string)
    if match is None:
        raise ConfigurationError(f"Misconfigured bind address `{address_string}`. Should be `[address:]port`")
    return BindAddress(match.group(1) or "", int(match.group(2)))


class RequestHandler(WSGIRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Into the log, at the level that fits."""
        logger.log(logging.DEBUG if type == "info" else logging.WARNING, message, *args)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line for each request."""
        logger.info("%s %s %s", self.command, self.path, code)


class Server(ThreadedWSGIServer):
    """werkzeug's server, on a socket that listens already, which knows its connections."""

    daemon_threads = True

    def __init__(self, sock: socket.socket, app: Any, name: str) -> None:
        self.name = name
        self.numbers = itertools.count(1)
        self.connections: dict[socket.socket, threading.Thread] = {}
        self.guard = threading.Lock()
        host, port = sock.getsockname()[:2]
        super().__init__(host, port, app, RequestHandler, fd=sock.fileno())

    def process_request(self, request: Any, client_address: Any) -> None:
        """A connection has come: serve it in a thread of its own."""
        name = f"mf-web-{self.name}-{next(self.numbers)}"
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name=name, daemon=True
        )
        with self.guard:
            self.connections[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """A connection ends."""
        with self.guard:
            self.connections.pop(request, None)
        super().shutdown_request(request)

    def finish(self) -> None:
        """Let every connection end after its response; they read nothing more."""
        with self.guard:
            left = dict(self.connections)
        for connection in left:
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError:  # it is gone already
                pass

    def wait_for_connections(self, deadline: float) -> int:
        """Wait until a time of ``time.monotonic()``; how many connections are left."""
        with self.guard:
            threads = list(self.connections.values())
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in threads)


class WebServer(ProviderCollector, SharedExtension):
    """Serves HTTP at ``WEB_SERVER_ADDRESS`` for the entrypoints that register. Subclass it for WSGI middleware."""

    def __init__(self) -> None:
        super().__init__()
        self.server: Server | None = None
        self.thread: threading.Thread | None = None
        self.closing = threading.Lock()

    @property
    def bind_addr(self) -> BindAddress:
        """Where to listen.

        Raises:
            ConfigurationError: ``WEB_SERVER_ADDRESS`` is no address.
        """
        return parse_address(self.container.config.get(WEB_SERVER_CONFIG_KEY, DEFAULT_ADDRESS))

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address is taken.
        """
        if self.server is not None:
            return
        # Copies of one service share the port, and the system divides connections among them.
        shared = int(self.container.config.get("PROCESSES") or 1) > 1
        sock = socket.create_server(self.bind_addr, backlog=BACKLOG, reuse_port=shared)
        self.server = self.get_wsgi_server(sock, self.get_wsgi_app())
        sock.close()  # the server has a copy
        name = f"mf-web-{self.container.service_name}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), name=name, daemon=True)
        self.thread.start()

    def get_wsgi_app(self) -> Any:
        """The WSGI application; override it to put middleware around."""
        return WsgiApp(self)

    def get_wsgi_server(self, sock: socket.socket, wsgi_app: Any, **options: Any) -> Any:
        """The server for a socket that listens already."""
        return Server(sock, wsgi_app, self.container.service_name)

    def unregister_provider(self, provider: Any) -> None:
        """Forget one; when the last has gone, nothing more is accepted."""
        super().unregister_provider(provider)
        if not self._providers:
            self.accept_no_more()

    def accept_no_more(self) -> None:
        """Close the port; open connections end after the response they wait for."""
        with self.closing:
            thread, self.thread = self.thread, None
        if self.server is not None and thread is not None:
            self.server.shutdown()
            thread.join(CLOSE_SECONDS)
            self.server.server_close()
            self.server.finish()

    def stop(self) -> None:
        """Close, once the responses have been written."""
        super().stop()
        self.accept_no_more()
        if self.server is not None and (left := self.server.wait_for_connections(time.monotonic() + CLOSE_SECONDS)):
            logger.warning("%d connections have not ended within %g s", left, CLOSE_SECONDS)

    def kill(self) -> None:
        """Close."""
        self.accept_no_more()

    def make_url_map(self) -> Map:
        """Which entrypoint serves which URL."""
        url_map = Map()
        for provider in self._providers:
            rule = provider.get_url_rule()
            rule.endpoint = provider
            url_map.add(rule)
        return url_map

    def context_data_from_headers(self, request: Any) -> dict[str, Any]:
        """The context data of a request's call; override it to have some."""
        return {}


class WsgiApp:
    """Hands each request to the entrypoint that its URL belongs to.

    Args:
        server: The web server.
    """

    def __init__(self, server: WebServer) -> None:
        self.server = server
        self.url_map = server.make_url_map()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ, shallow=True)  # what comes after the headers may be no body, but WebSocket frames
        response: Any
        try:
            provider, values = self.url_map.bind_to_environ(environ).match()
            request.path_values = values  # type: ignore[attr-defined]
            response = provider.handle_request(request)
        except HTTPException as error:
            response = error
        return response(environ, start_response)


__getattr__ = refusing(__name__)
