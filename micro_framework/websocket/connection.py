"""`ClientConnection`: our connection to somebody's WebSocket server, made anew whenever it is lost."""

import logging
import random
import ssl
import threading
import time
from collections.abc import Hashable, Mapping
from typing import Any

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection as Socket, connect

from micro_framework.calls import Outcome
from micro_framework.exceptions import ConnectionLost, RPCTimeout, WireError
from micro_framework.extensions import Extension, Host
from micro_framework.identifiers import new_identifier
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.pending import PendingCalls
from micro_framework.websocket.frames import WebSocketRequest, parse_reply, request_text
from micro_framework.websocket.tls import guarded

__all__ = ["ClientConnection"]

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
OPEN_SECONDS, CLOSE_SECONDS = 5.0, 2.0


class ClientConnection(Extension):
    """Calls of any number of threads over one connection. A call whose connection is lost fails at once: whether it was
    carried out is not known, so it is not sent again.

    Args:
        uri: ``ws://host:port/`` or ``wss://...``, whose certificate is checked against those the machine trusts.
        token: Sent as ``Authorization: Bearer ...``.
    """

    def __init__(self, uri: str, token: str | None = None) -> None:
        self.uri = uri
        self.token = token

    def __str__(self) -> str:
        return f"WebSocket connection to {self.uri}"

    def sharing_key(self, host: Host) -> Hashable:
        """One for each server and token."""
        return (self.uri, self.token)

    def setup(self) -> None:
        """Get ready."""
        self.pending = PendingCalls("websocket", as_it_is, self.why)
        self.changed = threading.Condition()
        self.socket: Socket | None = None
        self.stopped = False
        self.trouble = "not connected yet"
        self.thread = threading.Thread(target=self.run, name="mf-websocket-client", daemon=True)

    def start(self) -> None:
        """Begin to connect. The service is ready without it: another's server may come later."""
        self.thread.start()

    def stop(self) -> None:
        """Close; calls that still wait are told so."""
        with self.changed:
            self.stopped = True
            socket = self.socket
            self.changed.notify_all()
        if socket is not None:
            socket.close()
        if self.thread.is_alive():
            self.thread.join(OPEN_SECONDS + CLOSE_SECONDS)
        self.pending.fail_all(self.lost)
        self.pending.stop(time.monotonic() + CLOSE_SECONDS)

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
        """Send a call, see `micro_framework.rpc.proxies.Caller`; waits for a connection, at most until its deadline.

        Raises:
            RPCTimeout: There was no connection until then.
            ConnectionLost: It broke at this moment.
            TypeError, ValueError: The arguments cannot be encoded.
        """
        seconds = self.host.settings.rpc_timeout if timeout is None else timeout
        call = RPCFuture(service, method, new_identifier(), seconds, self.pending)
        text = request_text(WebSocketRequest(method, args, kwargs, call.correlation_id))
        socket = self.connected(call)
        self.pending.add(call)
        if not waited_for:
            self.pending.watch(call)
        try:
            socket.send(text)
        except (WebSocketException, OSError) as error:
            self.pending.forget(call)
            raise self.lost(call) from error
        if socket is not self.socket:  # lost meanwhile, perhaps before this call was there to be told
            self.pending.fail(call.correlation_id, self.lost)
        return call

    def connected(self, call: RPCFuture) -> Socket:
        """The connection, as soon as there is one."""
        with self.changed:
            wait = max(0.0, call.deadline - time.monotonic())
            self.changed.wait_for(lambda: self.socket is not None or self.stopped, min(wait, threading.TIMEOUT_MAX))
            if self.socket is None:
                raise RPCTimeout(call.service_name, call.method, call.seconds, self.why(call))
            return self.socket

    def why(self, call: RPCFuture) -> str:
        """What is known of a call without an answer."""
        if self.socket is None:
            return f"there is no connection to {self.uri}: {self.trouble}"
        return "the server has the request and has not answered"

    def lost(self, call: RPCFuture) -> ConnectionLost:
        """The error of a call whose connection is gone."""
        return ConnectionLost(
            f"the connection to {self.uri} was lost before {call.method} was answered; it may have been carried out"
        )

    # The connection's thread.

    def run(self) -> None:
        """Connect, read, connect again."""
        pause = FIRST_PAUSE
        while not self.stopped:
            try:
                with self.open() as socket:
                    pause = FIRST_PAUSE
                    self.read(socket)
            except (WebSocketException, OSError) as error:
                self.trouble = text_of(error)
            with self.changed:
                self.socket = None
            self.pending.fail_all(self.lost)
            if not self.stopped:
                logger.warning("%s: %s; next try in %.1f s", self, self.trouble, pause)
                self.rest(pause * random.uniform(0.5, 1.0))
                pause = min(LONGEST_PAUSE, pause * 2)

    def open(self) -> Socket:
        """Connect."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else None
        return connect(
            self.uri,
            ssl=guarded(ssl.create_default_context()) if self.uri.startswith("wss:") else None,
            additional_headers=headers,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=None,
        )

    def read(self, socket: Socket) -> None:
        """Take replies until the connection ends."""
        with self.changed:
            if self.stopped:
                return
            self.socket = socket
            self.changed.notify_all()
        logger.info("%s is open", self)
        for frame in socket:
            try:
                identity, outcome = parse_reply(frame)
            except WireError as error:
                logger.warning("%s: %s", self, error)
                continue
            self.pending.answer(identity if isinstance(identity, str) else None, outcome)
        self.trouble = "the server closed it"

    def rest(self, seconds: float) -> None:
        """Wait, unless stopped."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopped, seconds)


def as_it_is(answer: Outcome) -> Outcome:
    """Answers are outcomes already: they are decoded to find out whose they are."""
    return answer


def text_of(error: Exception) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, InvalidStatus):
        return (
            f"the server refused: {error.response.status_code} {error.response.body.decode(errors='replace').strip()}"
        )
    return str(error) or type(error).__name__
