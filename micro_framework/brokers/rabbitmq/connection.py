"""py-amqp's connection and channel, made fit for one reading thread (see `sharing`) and many writing ones.

What differs from py-amqp 5.4, and why:

- `blocking_read`, through which py-amqp reads everything, polls; it never sets a timeout on the socket, which the
  writers share, and a read that ran out of time has lost no byte.
- Every wait inside a `within` block ends at its deadline.
- Heartbeats are sent and watched wherever the connection waits. Bytes count, not frames: a frame that takes long to
  arrive is a sign of life.
- Deliveries, returns and confirms do not go through py-amqp's decoding but to the channel's ``on_...`` hooks.
- What the broker says when it blocks the connection (``low on disk``) is passed on.
- A channel that the broker closes stays closed. py-amqp opens it again behind the caller's back, without confirm mode:
  later publishes are never confirmed.
"""

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from time import monotonic
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import ConnectionForced, UnexpectedFrame, error_for_code

from micro_framework.brokers.rabbitmq.frames import (
    ACK,
    CONTENT_BODY,
    CONTENT_HEADER,
    DELIVER,
    DELIVERY,
    GET_EMPTY,
    GET_OK,
    HEARTBEAT_FRAME,
    METHOD,
    NACK,
    RETURN,
    FrameBuffer,
    body_size,
    unpack_confirm,
)
from micro_framework.brokers.rabbitmq.sharing import SharedReading
from micro_framework.brokers.rabbitmq.transport import PlainTransport, TLSTransport
from micro_framework.lookout import Lookout

__all__ = ["Got", "Interrupted", "LinkChannel", "LinkConnection", "Waker"]

POLL_SECONDS = 60.0
CONTENT_METHODS = (DELIVER, RETURN, GET_OK)

Got = tuple[bytes, bytes, bytes]
"""The payloads of a method and of a content header, and a body."""


class Interrupted(Exception):
    """The connection was to stop while it waited."""


class Waker:
    """Wakes the thread that polls. Thread safe."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self.number = self._receiver.fileno()
        """What to poll."""
        self._signalled = False

    def wake(self) -> None:
        """Let the next or the present poll return at once."""
        if not self._signalled:
            self._signalled = True
            try:
                self._sender.send(b"\0")
            except OSError:
                pass  # closed: nobody polls any more

    def clear(self) -> None:
        """Take the signals; look for what they stood for only afterwards."""
        try:
            self._receiver.recv(4096)
        except BlockingIOError:
            pass
        # In this order: who finds the flag still set has left its errand before, and it is looked for after this.
        self._signalled = False

    def wait(self, seconds: float) -> None:
        """Wait for a signal."""
        poll = select.poll()
        poll.register(self._receiver, select.POLLIN)
        if poll.poll(max(0.0, seconds) * 1000):
            self.clear()

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


class LinkChannel(amqp.Channel):  # type: ignore[misc]  # py-amqp has no types
    """A channel whose owner hears of everything through hooks, on the reading thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.on_deliver: Callable[[bytes, bytes, bytes], None] = ignore_content
        self.on_return: Callable[[bytes, bytes, bytes], None] = ignore_content
        self.on_confirm: Callable[[int, bool, bool], None] = ignore_confirm
        # Once it returns, nobody may write on the channel any more.
        self.on_closed: Callable[[Exception], None] = ignore_closed
        self.answers: list[Got | None] = []  # to basic.get
        self.waiting = 0
        super().__init__(*args, **options)

    def wait(self, *args: Any, **options: Any) -> Any:
        """As py-amqp's; remembers that somebody waits, who then gets the error if the broker closes the channel."""
        self.waiting += 1
        try:
            return super().wait(*args, **options)
        finally:
            self.waiting -= 1

    def get_several(self, queue: str, count: int) -> list[Got]:
        """Ask for so many messages of a queue in one go, and wait for all answers; fewer where it has fewer."""
        self.waiting += 1
        try:
            for _ in range(count):
                self.send_method(spec.Basic.Get, "Bsb", (0, queue, False))
            while len(self.answers) < count:
                self.connection.blocking_read()
        finally:
            self.waiting -= 1
        found = [got for got in self.answers if got is not None]
        self.answers.clear()
        return found

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        if self.is_closing:
            self.send_method(spec.Channel.CloseOk)
            return
        error = error_for_code(reply_code, reply_text, (class_id, method_id), amqp.ChannelError)
        if self.waiting:
            self._agree_to_close()
            raise error
        # In this order: until we agree the broker ignores what other threads still write on the channel, after that
        # one frame would cost the connection (504, expected 'channel.open'). The owner ends the writing first.
        try:
            self.on_closed(error)
        finally:
            self._agree_to_close()

    def _agree_to_close(self) -> None:
        self.send_method(spec.Channel.CloseOk)
        self.collect()


def ignore_content(method: bytes, header: bytes, body: bytes) -> None:
    """The default of `LinkChannel.on_deliver` and ``on_return``."""


def ignore_confirm(tag: int, multiple: bool, confirmed: bool) -> None:
    """The default of `LinkChannel.on_confirm`."""


def ignore_closed(error: Exception) -> None:
    """The default of `LinkChannel.on_closed`."""


class Content:
    """A message of which not every frame has come yet."""

    __slots__ = ("header", "method", "missing", "parts")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header = b""
        self.missing = 0
        self.parts: list[bytes | memoryview] = []


def content_frames(connection: "LinkConnection", on_method: Callable[..., Any]) -> Callable[[Any], bool]:
    """What py-amqp calls a frame handler: puts methods and contents together and passes them on.

    The function it returns takes a frame and says whether that completed anything.
    """
    unfinished: dict[int, Content] = {}

    def on_frame(frame: tuple[int, int, Any]) -> bool:
        kind, number, payload = frame
        if kind == DELIVERY:
            if (channel := connection.channels.get(number)) is not None:
                channel.on_deliver(*payload)
            return True
        if kind == METHOD:
            return on_method_frame(number, payload)
        if kind in (CONTENT_HEADER, CONTENT_BODY):
            return on_content_frame(kind, number, payload)
        return False  # a heartbeat

    def on_method_frame(number: int, payload: bytes) -> bool:
        method = payload[:4]
        if method in CONTENT_METHODS:
            unfinished[number] = Content(payload)
            return False
        channel = connection.channels.get(number)
        if channel is None:
            return False  # closed meanwhile; the broker did not know yet
        if method in (ACK, NACK):
            tag, multiple = unpack_confirm(payload)
            channel.on_confirm(tag, multiple, method == ACK)
        elif method == GET_EMPTY:
            channel.answers.append(None)
        else:
            on_method(number, (payload[0] << 8 | payload[1], payload[2] << 8 | payload[3]), payload, None)
        return True

    def on_content_frame(kind: int, number: int, payload: Any) -> bool:
        content = unfinished.get(number)
        if content is None:
            raise UnexpectedFrame(f"the broker sent content on channel {number} without a method before it")
        if kind == CONTENT_HEADER:
            content.header = payload
            content.missing = body_size(payload)
        else:
            content.parts.append(payload)
            content.missing -= len(payload)
        if content.missing > 0:
            return False
        del unfinished[number]
        hand_over(connection.channels.get(number), content)
        return True

    return on_frame


def hand_over(channel: LinkChannel | None, content: Content) -> None:
    if channel is None:
        return
    body = b"".join(content.parts)
    if content.method[:4] == DELIVER:
        channel.on_deliver(content.method, content.header, body)
    elif content.method[:4] == GET_OK:
        channel.answers.append((content.method, content.header, body))
    else:
        channel.on_return(content.method, content.header, body)


def nothing_to_write() -> None:
    """The default of `LinkConnection.before_sleep`."""


class LinkConnection(amqp.Connection):  # type: ignore[misc]  # py-amqp has no types
    """A connection that one thread reads and any thread writes.

    Whoever owns it may set `before_sleep`: called before each poll, which is the only place where the reading thread
    waits, so whatever the frames handled until then gave rise to can be written in one piece, and never too late.

    Args:
        waker: What ends the reading thread's poll.
        interrupted: Whether to stop waiting, asked after each wake-up; then `Interrupted` is raised. None: never.
        options: As for `amqp.Connection`.
    """

    Channel = LinkChannel
    _transport: Any
    _METHODS = {**amqp.Connection._METHODS, spec.Connection.Blocked: spec.method(spec.Connection.Blocked, "s")}

    def __init__(self, *, waker: Waker, interrupted: Callable[[], bool] | None = None, **options: Any) -> None:
        super().__init__(frame_handler=content_frames, **options)
        self.waker = waker
        self.interrupted = interrupted
        self.before_sleep: Callable[[], None] = nothing_to_write
        self._frames = FrameBuffer()
        self._poller: select.poll | None = None
        self._waits_for_room = False
        self._give_up_at = inf
        self._look_at = -inf  # when heartbeats are to be looked after again
        self._awake_at = inf  # when the reading thread is to run again
        self._sharing: SharedReading | None = None
        self.standstill: tuple[float, float] | None = None
        """From when to when this process last stood still for longer than the heartbeat's interval."""

    def Transport(  # noqa: N802 -- py-amqp's name
        self,
        host: str,
        connect_timeout: float | None,
        ssl: Any = False,
        read_timeout: Any = None,
        write_timeout: Any = None,
        socket_settings: Any = None,
        **options: Any,
    ) -> Any:
        """The socket; timeouts for single reads and writes have no meaning here."""
        self._poller = None  # it knows the socket before this one
        kind = TLSTransport if ssl else PlainTransport
        settings = {**WITHOUT_USER_TIMEOUT, **(socket_settings or {})}
        transport = kind(host, connect_timeout=connect_timeout, ssl=ssl, socket_settings=settings, **options)
        transport.wake_reader = self.waker.wake
        return transport

    def connect(self, callback: Any = None) -> Any:
        """Connect and shake hands, within the connect timeout each."""
        try:
            connected = super().connect(callback)
        except BaseException:
            self.drop()
            raise
        self._look_at = -inf  # the interval is known only now
        return connected

    def share(self, lookout: Lookout) -> None:
        """From now on let idle workers read while the reading thread waits for input, where the system can do that."""
        if self._sharing is None and isinstance(self._transport, PlainTransport):  # TLS keeps what epoll cannot see
            with suppress(OSError):
                self._sharing = SharedReading(
                    self._transport,
                    self._frames,
                    self._on_inbound_frame,
                    self.waker.wake,
                    self.waker.number,
                    lookout,
                )

    def drop(self) -> None:
        """Close the socket without a word. Only the reading thread may."""
        if self._transport is not None:
            self.collect()

    def collect(self) -> None:
        """py-amqp's: whoever closes the connection, and however, comes by here."""
        sharing, self._sharing = self._sharing, None
        if sharing is not None:
            sharing.end()
        super().collect()

    def abandon(self) -> None:
        """In a forked child: close its copy of the socket, which leaves the parent's connection alone."""
        transport, self._transport = self._transport, None
        if self._sharing is not None:
            self._sharing.abandon()
        if transport is not None and transport.sock is not None:
            transport.sock.close()

    @property
    def stream(self) -> PlainTransport | TLSTransport | None:
        """The socket, None once closed; py-amqp's property of another name would connect anew."""
        stream: PlainTransport | TLSTransport | None = self._transport
        return stream

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Every wait inside the block ends with TimeoutError once this much time has passed."""
        before = self._give_up_at
        self._give_up_at = min(before, monotonic() + seconds)
        try:
            yield
        finally:
            self._give_up_at = before

    def prolong(self, seconds: float) -> None:
        """Inside a `within` block: what follows has at least so long from now."""
        self._give_up_at = max(self._give_up_at, monotonic() + seconds)

    def blocking_read(self, timeout: float | None = None) -> bool:
        """Wait for a frame and handle it; what py-amqp's own waits go through.

        Returns:
            Whether it completed anything.
        """
        deadline = self._give_up_at if timeout is None else min(self._give_up_at, monotonic() + timeout)
        while (frame := self._frames.next()) is None:
            late = monotonic() >= deadline
            self.poll(deadline)  # even then: what has arrived is not late
            if late and not self._frames.has_frame:
                raise TimeoutError("the broker did not answer in time")
        return bool(self.on_inbound_frame(frame))

    def serve(self, until: float = inf) -> None:
        """Wait for input, a wake-up or a time (``time.monotonic()``), and handle every frame that has come."""
        if not self._frames.empty:  # a wait for some answer may have left others: poll knows nothing of them
            self._handle_frames()
        self.poll(until, self._sharing)
        self._handle_frames()

    def _handle_frames(self) -> None:
        # Not py-amqp's property of nearly that name, which connects anew where there is no connection.
        frames, handle = self._frames, self._on_inbound_frame
        while not frames.empty and (frame := frames.next()) is not None:
            handle(frame)

    def poll(self, deadline: float, sharing: SharedReading | None = None) -> None:
        """Wait for input, a wake-up, room for what is unsent or the deadline, and move bytes in both directions.

        Args:
            deadline: ``time.monotonic()`` seconds.
            sharing: Who may read meanwhile.
        """
        self.before_sleep()
        transport = self._transport
        if transport is None:
            raise ConnectionError("the connection is closed")
        now = monotonic()
        if now >= self._look_at or transport.unsent:
            self._look_at = self.look_after_heartbeats(transport, now)
        seconds = 0.0 if transport.has_buffered else max(0.0, min(deadline - now, self._look_at - now, POLL_SECONDS))
        self._awake_at = now + seconds
        if sharing is not None:
            events = sharing.sleep(seconds, room=bool(transport.unsent))
        else:
            poller = self._poller
            if poller is None or transport.unsent or self._waits_for_room:
                poller = self.poller_for(transport)
            events = poller.poll(seconds * 1000)
        for number, _ in events:
            if number == self.waker.number:
                self.waker.clear()
        if (now := monotonic()) > self._awake_at:
            self.note_standstill(now)  # at once: what comes next may find the connection broken by it
        if self.interrupted is not None and self.interrupted():
            raise Interrupted
        if transport.broken is not None:
            raise transport.broken
        if transport.unsent:
            transport.push()
        if data := transport.receive():
            self._frames.feed(data)

    def poller_for(self, transport: Any) -> select.poll:
        """What waits for the waker and for the socket: for room to write only where something is to be written.

        Where nothing is, there is always room, and poll would never wait.
        """
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self.waker.number, select.POLLIN)
        self._waits_for_room = bool(transport.unsent)
        self._poller.register(transport.sock, select.POLLIN | (select.POLLOUT if self._waits_for_room else 0))
        return self._poller

    def _on_blocked(self, reason: str) -> None:
        if self.on_blocked:
            self.on_blocked(reason)

    def note_standstill(self, now: float) -> None:
        """Note if this thread runs so much later than it wanted to that heartbeats have stayed out."""
        if self.heartbeat and now - self._awake_at > self.heartbeat:
            self.standstill = self._awake_at, now

    def look_after_heartbeats(self, transport: Any, now: float) -> float:
        """Send one if it is time to, give up a silent broker.

        Returns:
            When to look again.
        """
        interval = self.heartbeat
        if not interval:
            return inf
        self.note_standstill(now)
        # After a standstill it is not the broker that was silent: its signs are still to be read.
        stood_still_until = self.standstill[1] if self.standstill else -inf
        if now - max(transport.last_received, stood_still_until) > 2 * interval:
            raise ConnectionForced(f"the broker gave no sign of life for {now - transport.last_received:.0f} s")
        if now - transport.last_sent >= interval / 2 and not transport.unsent:
            transport.send(HEARTBEAT_FRAME)
        return float(now + min(interval / 2, 1.0) if transport.unsent else now + interval / 4)


# py-amqp lets the kernel break a connection whose peer has taken nothing for one second. A broker under a memory alarm
# stops reading on purpose; whether the peer lives is the heartbeat's question.
WITHOUT_USER_TIMEOUT = {socket.TCP_USER_TIMEOUT: 0} if hasattr(socket, "TCP_USER_TIMEOUT") else {}
