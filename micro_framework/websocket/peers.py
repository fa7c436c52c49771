"""One connection of somebody to our server: reads requests, hands them to workers, writes replies.

Its thread reads. A request with an ``id`` is handed over and the next one is read at once; one without is waited for,
so such requests are answered in order. Replies of workers are written by a second thread: whoever reads slowly holds up
nobody's workers, only himself, and after `SEND_SECONDS` without progress the connection is dropped.
"""

import logging
import queue
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Protocol

from websockets.exceptions import WebSocketException
from websockets.sync.server import ServerConnection

from micro_framework.calls import Outcome
from micro_framework.entrypoints import RouteHandle
from micro_framework.exceptions import MalformedRequest, RPCError, ServiceBusy, UnserializableValueError
from micro_framework.rpc.manager import RPCManager
from micro_framework.websocket.frames import NO_ID, Frame, WebSocketRequest, parse_request, reply_text

__all__ = ["SEND_SECONDS", "Admission", "Peer", "WebSocketCall", "drop"]

logger = logging.getLogger(__name__)

SEND_SECONDS = 20
"""How long the kernel may take no byte of a reply before the connection is dropped."""

ENDED = (WebSocketException, OSError)


class Admission(Protocol):
    """Says how many calls may be under way."""

    def admit(self) -> bool:
        """Count one more call, unless there are too many or the server stops."""

    def leave(self) -> None:
        """A call is over."""


class WebSocketCall:
    """One call of one peer, from its request to its reply.

    Args:
        peer: Who calls.
        request: What was sent.
    """

    __slots__ = ("answered", "peer", "request")

    def __init__(self, peer: "Peer", request: WebSocketRequest) -> None:
        self.peer = peer
        self.request = request
        self.answered = threading.Event() if request.id is NO_ID else None

    def answer(self, outcome: Outcome) -> None:
        """Have the reply written; never waits."""
        self.peer.admission.leave()
        self.peer.replies.put((self, text_of(outcome, self.request.id)))


class Peer:
    """See the module's text.

    Args:
        connection: The open connection.
        manager: What can be called.
        admission: How many calls may be under way in the process.
        most: How many may be under way for this peer.
    """

    def __init__(
        self, connection: ServerConnection, manager: RPCManager[RouteHandle], admission: Admission, most: int
    ) -> None:
        self.connection = connection
        self.manager = manager
        self.admission = admission
        self.room = threading.Semaphore(most)
        self.replies: queue.SimpleQueue[tuple[WebSocketCall, str] | None] = queue.SimpleQueue()
        self.writer = threading.Thread(target=self.write_replies, name="mf-websocket-writer", daemon=True)
        limit_send_time(connection.socket)

    def serve(self) -> None:
        """Read requests until the connection ends, on the calling thread."""
        self.writer.start()
        try:
            for frame in self.connection:
                self.take(frame)
        except ENDED:
            pass  # gone without a word
        finally:
            self.finish(SEND_SECONDS)

    def finish(self, seconds: float) -> None:
        """Write what is left to be written, for so long at most; nothing is written after that."""
        self.replies.put(None)
        self.writer.join(seconds)

    def take(self, frame: Frame) -> None:
        """One request."""
        try:
            request = parse_request(frame)
        except MalformedRequest as error:
            self.write(text_of(Outcome(error=error), NO_ID))
            return
        try:
            call = self.hand_over(request)
        except RPCError as error:
            self.write(text_of(Outcome(error=error), request.id))
            return
        if call is not None and call.answered is not None:
            self.wait_for(call.answered)

    def hand_over(self, request: WebSocketRequest) -> WebSocketCall | None:
        """Give a request to its target's workers; answer at once what asks about targets.

        Raises:
            MethodNotFound: There is no such target.
            ServiceBusy: Too many calls are under way.
        """
        if request.command not in self.manager.targets:
            outcome = Outcome(self.manager.answer(request.command, request.args, request.kwargs))
            self.write(text_of(outcome, request.id))
            return None
        route = self.manager.find(request.command)
        if not self.room.acquire(blocking=False):
            raise ServiceBusy("too many calls of this connection are under way; wait for some of them, then try again")
        if not self.admission.admit():
            self.room.release()
            raise ServiceBusy("too many calls are under way, or the service is stopping; try again later")
        call = WebSocketCall(self, request)
        route.submit(call)
        return call

    def wait_for(self, answered: threading.Event) -> None:
        """Wait until a call is answered, or nobody is left to answer to."""
        while not answered.wait(1.0):
            if self.connection.protocol.state.name == "CLOSED":
                return

    def write_replies(self) -> None:
        """The writing thread: every reply in turn."""
        while (reply := self.replies.get()) is not None:
            call, text = reply
            self.write(text)
            self.room.release()
            if call.answered is not None:
                call.answered.set()

    def write(self, text: str) -> None:
        """Send a text, if there still is a connection."""
        try:
            self.connection.send(text)
        except ENDED:
            drop(self.connection)


def text_of(outcome: Outcome, identity: Any) -> str:
    """A reply as text; a result that cannot be sent is an error."""
    try:
        return reply_text(outcome, identity)
    except Exception:
        logger.exception("a result of type %s cannot be sent", type(outcome.result).__name__)
        return reply_text(Outcome(error=UnserializableValueError(outcome.result)), identity)


def limit_send_time(connected: socket.socket) -> None:
    """Let a write fail that makes no progress; without that, who reads nothing would hold a thread for ever."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))


def drop(connection: ServerConnection) -> None:
    """Cut a connection; its reading thread finds out."""
    quietly(lambda: connection.socket.shutdown(socket.SHUT_RDWR))


def quietly(action: Callable[[], object]) -> None:
    """Do something about a socket that may be closed already."""
    try:
        action()
    except OSError:
        pass
