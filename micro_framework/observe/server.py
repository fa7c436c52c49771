"""`ObserveServer`: a small HTTP server that stays out of the service's way.

Whoever connects gets a thread for a few seconds, and there are only so many of them: what takes longer is cut off, and
where all are taken, the one that has been there longest is. So a probe that is answered in milliseconds always gets
its turn, however many others hold a connection open.
"""

import hashlib
import logging
import re
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import TCPServer
from typing import Any

from prometheus_client import REGISTRY

from micro_framework.exceptions import SetupFailed
from micro_framework.metrics.exposition import CONTENT_TYPE, exposition
from micro_framework.metrics.snapshots import Snapshot
from micro_framework.observe.health import Health
from micro_framework.observe.status import status

__all__ = ["ObserveServer", "page_policy"]

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 16
LONGEST_REQUEST = 5.0
"""Seconds that one connection may take from its first to its last byte."""
LOOK_SECONDS = 0.5
"""How often late connections are looked for."""
STOP_SECONDS = 3.0

Answer = tuple[int, str, bytes]
"""A status, a content type and a body."""

PAGE = files("micro_framework.observe").joinpath("page.html").read_bytes()


def page_policy(page: bytes) -> str:
    """What a browser may do with the page: run its script, show its styles, ask this server; and nothing else."""
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    styles = re.findall(rb"<style>(.*?)</style>", page, re.DOTALL)
    hashes = [
        " ".join(f"'sha256-{b64encode(hashlib.sha256(each).digest()).decode()}'" for each in kind)
        for kind in (scripts, styles)
    ]
    return (
        f"default-src 'none'; script-src {hashes[0]}; style-src {hashes[1]}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


POLICY = page_policy(PAGE)


class ObserveServer(TCPServer):
    """Listens from when it is made; answers once started.

    Args:
        host: The address to listen on.
        port: The port, 0 for any that is free.
        snapshot: Gives what has been counted.
        health: Gives how the process is.
        about: What else the page shows.

    Raises:
        SetupFailed: It cannot listen there, and why.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        snapshot: Callable[[], Snapshot],
        health: Callable[[], Health],
        about: Mapping[str, Any],
    ) -> None:
        self.snapshot = snapshot
        self.health = health
        self.about = about
        self.lock = threading.Lock()
        self.open: dict[socket.socket, float] = {}  # when each came, the oldest first
        self.slots = threading.Semaphore(MOST_CONNECTIONS)
        self.handlers: set[threading.Thread] = set()
        self.thread = threading.Thread(target=self.serve_forever, args=[LOOK_SECONDS], name="mf-observe", daemon=True)
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family, address = found[0][0], str(found[0][4][0])
            super().__init__((address, port), RequestHandler)
        except (OSError, UnicodeError) as error:
            raise SetupFailed(
                f"METRICS: cannot listen on HOST {host!r}, PORT {port}: {getattr(error, 'strerror', None) or error}; "
                "name an address of this machine and a port that nothing else uses, or set ENABLE_METRICS: false"
            ) from error

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self.thread.start()
        host = str(self.server_address[0])
        shown = f"[{host}]" if ":" in host else host
        logger.info("metrics, health and status page on http://%s:%s/", shown, self.port)

    def stop(self) -> None:
        """Answer no more, within seconds. Idempotent."""
        if self.thread.ident is not None:
            self.shutdown()
            self.thread.join(STOP_SECONDS)
        self.server_close()
        with self.lock:
            connections, handlers = list(self.open), list(self.handlers)
        for connection in connections:
            cut(connection)
        deadline = time.monotonic() + STOP_SECONDS
        for handler in handlers:
            handler.join(max(0.0, deadline - time.monotonic()))

    # What socketserver asks, on the thread ``mf-observe``.

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own."""
        if not self.slots.acquire(blocking=False):
            with self.lock:
                oldest = next(iter(self.open), None)
            if oldest is not None:
                cut(oldest)
            if not self.slots.acquire(timeout=LOOK_SECONDS):
                self.shutdown_request(request)
                return
        handler = threading.Thread(
            target=self.answer, args=[request, client_address], name="mf-observe-request", daemon=True
        )
        with self.lock:
            self.open[request] = time.monotonic()
            self.handlers.add(handler)
        try:
            handler.start()
        except RuntimeError:  # the system has no room for a thread
            self.finished(request, handler)
            self.shutdown_request(request)

    def answer(self, request: socket.socket, client_address: Any) -> None:
        """A thread: one request."""
        try:
            self.finish_request(request, client_address)
        except (OSError, ValueError):
            pass  # it has gone, or was cut off
        except Exception:
            logger.exception("a request for metrics or health failed")
        finally:
            self.shutdown_request(request)
            self.finished(request, threading.current_thread())

    def finished(self, request: socket.socket, handler: threading.Thread) -> None:
        """A request is over."""
        with self.lock:
            self.open.pop(request, None)
            self.handlers.discard(handler)
        self.slots.release()

    def service_actions(self) -> None:
        """Now and then: cut off what takes too long."""
        late = time.monotonic() - LONGEST_REQUEST
        with self.lock:
            overdue = [connection for connection, since in self.open.items() if since < late]
        for connection in overdue:
            cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever connects may do anything; that is no news."""
        logger.debug("a connection from %s failed", client_address, exc_info=True)

    def answer_to(self, path: str) -> Answer:
        """What is answered to a path."""
        match path:
            case "/":
                return 200, "text/html; charset=utf-8", PAGE
            case "/status.json":
                return 200, "application/json", status(self.snapshot(), self.health(), self.about)
            case "/metrics":
                return 200, CONTENT_TYPE, exposition(self.snapshot(), REGISTRY)
            case "/healthz":
                health = self.health()
                return 200 if health.alive else 503, "application/json", health.line(health.alive)
            case "/readyz":
                health = self.health()
                return 200 if health.ready else 503, "application/json", health.line(health.ready)
        return 404, "text/plain; charset=utf-8", b"there is /, /metrics, /healthz, /readyz and /status.json\n"


class RequestHandler(BaseHTTPRequestHandler):
    """One request; then the connection is closed."""

    server: ObserveServer
    server_version = "micro_framework"
    sys_version = ""
    timeout = LONGEST_REQUEST

    def do_GET(self) -> None:
        """Answer."""
        self.reply(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self.reply(with_body=False)

    def reply(self, *, with_body: bool) -> None:
        """Write the answer."""
        code, content_type, body = self.server.answer_to(self.path.partition("?")[0])
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Requests are no news."""
        logger.debug("%s %s", self.client_address[0], format % args)


def cut(connection: socket.socket) -> None:
    """End a connection under the thread that reads or writes it, which then closes it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
