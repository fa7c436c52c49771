"""`WebSocketServer`: the listening socket of the process, and who may connect and call."""

import hmac
import logging
import ssl
import threading
import time
from collections.abc import Hashable
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request, Response
from websockets.protocol import CLOSED
from websockets.sync.server import Server, ServerConnection, serve

from micro_framework.config import WebSocketSettings
from micro_framework.entrypoints import RouteHandle
from micro_framework.exceptions import SetupFailed
from micro_framework.extensions import Extension, Host
from micro_framework.rpc.manager import RPCManager
from micro_framework.websocket.peers import Peer, drop
from micro_framework.websocket.tls import guarded

__all__ = ["WebSocketServer"]

logger = logging.getLogger(__name__)

MOST_CALLS = 1000
"""Calls under way in the process."""
MOST_CALLS_OF_A_PEER = 100
"""Calls under way for one connection."""
OPEN_SECONDS, PING_SECONDS, CLOSE_SECONDS = 10, 20, 2
STOP_SECONDS = 5.0
EVERYWHERE = ("", "0.0.0.0", "::")


class WebSocketServer(Extension):
    """Listens on ``WEBSOCKET_IP`` and ``WEBSOCKET_PORT`` if any target is called over WebSocket. One per process.

    A connection is refused with 503 beyond ``MAX_CONNECTIONS``, with 403 from a web page of another host (unless
    ``ORIGINS`` names it), and with 401 without ``TOKEN`` where one is set: as ``Authorization: Bearer ...``, or as
    ``?token=...`` for browsers, which cannot set headers here.
    """

    server: Server | None = None

    def __str__(self) -> str:
        return "WebSocket server"

    def sharing_key(self, host: Host) -> Hashable:
        """One per process."""
        return "process"

    def setup(self) -> None:
        """Begin with nothing to call."""
        self.manager: RPCManager[RouteHandle] = RPCManager(self.host.service)
        self.admitted: set[ServerConnection] = set()
        self.peers: set[Peer] = set()
        self.counting = threading.Lock()
        self.calls = 0
        self.stopping = False

    @property
    def options(self) -> WebSocketSettings:
        """The ``WEBSOCKET`` section."""
        return self.host.settings.websocket

    def offer(self, route: RouteHandle) -> None:
        """Make a target callable. Call in ``setup``."""
        self.manager.add(route.method, route)

    def start(self) -> None:
        """Listen.

        Raises:
            SetupFailed: The address or the certificate cannot be used.
        """
        settings = self.host.settings
        address = settings.websocket_ip, settings.websocket_port
        try:
            self.server = serve(
                self.serve_peer,
                *address,
                ssl=self.ssl_context(),
                process_request=self.refusal,
                open_timeout=OPEN_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                close_timeout=CLOSE_SECONDS,
                max_size=self.options.max_size,
                logger=logging.getLogger("websockets.server"),
            )
        except (OSError, ssl.SSLError) as error:
            raise SetupFailed(
                f"the WebSocket server cannot listen on {address[0]}:{address[1]}: {error}; set WEBSOCKET_IP and "
                "WEBSOCKET_PORT to an address of this machine that is free, and WEBSOCKET.SSL to files that exist"
            ) from error
        threading.Thread(target=self.server.serve_forever, name="mf-websocket", daemon=True).start()
        self.tell()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self.server is not None
        return int(self.server.socket.getsockname()[1])

    def tell(self) -> None:
        """One line where it listens, and a warning if anybody may call."""
        ip = self.host.settings.websocket_ip
        logger.info("the WebSocket server listens on %s:%s", ip, self.port)
        if ip in EVERYWHERE and not self.options.token:
            logger.warning(
                "the WebSocket server listens on all addresses and asks for no token, so whoever reaches this machine "
                "can call its targets; set WEBSOCKET: {TOKEN: ...}, or WEBSOCKET_IP: 127.0.0.1"
            )

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS, if it is asked for."""
        options = self.options.ssl
        if not options:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options["certfile"], options.get("keyfile"), options.get("password"))
        context.num_tickets = 0  # a client whose own connection is not guarded can hang on one, see `guarded`
        return guarded(context)

    def refuse_new(self) -> None:
        """Accept no connections and no calls from now on; what runs may be answered."""
        self.stopping = True

    def stop(self) -> None:
        """Close every connection, within seconds."""
        server = self.server
        if server is None:
            return
        self.stopping = True
        deadline = time.monotonic() + STOP_SECONDS
        for peer in list(self.peers):
            peer.finish(max(0.0, deadline - time.monotonic()))
        closing = threading.Thread(target=server.shutdown, name="mf-websocket-stop", daemon=True)
        closing.start()
        closing.join(STOP_SECONDS)
        if closing.is_alive():  # somebody does not answer; its threads must not keep the process
            for connection in list(server.all_connections):
                drop(connection)
            closing.join(STOP_SECONDS)

    def is_ready(self) -> bool:
        """Whether it listens, or has nothing to listen for."""
        return self.server is not None and not self.stopping

    # On the connections' threads.

    def refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        """Why somebody may not connect, None if he may."""
        if not self.is_origin_allowed(request):
            return connection.respond(HTTPStatus.FORBIDDEN, "this web page may not connect here (see ORIGINS)\n")
        if not self.is_token_right(request):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong\n")
        if self.stopping or not self.admit_connection(connection):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections, try again later\n")
        return None

    def is_origin_allowed(self, request: Request) -> bool:
        """Browsers say which page connects; a page of another host could do so behind its visitor's back."""
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        allowed = self.options.origins
        if allowed:
            return origin in allowed or "*" in allowed
        return urlsplit(origin).netloc.lower() == (request.headers.get("Host") or "").lower()

    def is_token_right(self, request: Request) -> bool:
        """Whether the token that is asked for was given."""
        wanted = self.options.token
        if not wanted:
            return True
        scheme, _, given = (request.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            given = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), wanted.encode())

    def admit_connection(self, connection: ServerConnection) -> bool:
        """Count a connection, unless there are too many."""
        with self.counting:
            self.admitted = {each for each in self.admitted if each.protocol.state is not CLOSED}
            if len(self.admitted) >= self.options.max_connections:
                return False
            self.admitted.add(connection)
            return True

    def serve_peer(self, connection: ServerConnection) -> None:
        """A connection's thread, once it is open."""
        threading.current_thread().name = "mf-websocket-peer"
        peer = Peer(connection, self.manager, self, MOST_CALLS_OF_A_PEER)
        self.peers.add(peer)
        try:
            peer.serve()
        finally:
            self.peers.discard(peer)

    def admit(self) -> bool:
        """Count a call, unless there are too many or the server stops."""
        with self.counting:
            if self.stopping or self.calls >= MOST_CALLS:
                return False
            self.calls += 1
            return True

    def leave(self) -> None:
        """A call is over."""
        with self.counting:
            self.calls -= 1
