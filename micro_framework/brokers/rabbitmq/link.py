"""One connection that looks after itself: a thread that connects, reads, and connects again; writes from any thread.

The rule that everything here serves: any thread may write, one at a time and in one order; one thread, the link's own,
reads, or while it waits for input an idle worker in its place (see `sharing`); and no call that waits for an answer is
made on any other thread.

Writing: whoever has something to say leaves it with the link's owner (a list of settled deliveries, a queue of
publications) and calls `Link.flush`. One of the callers gets the gate and writes for all, everything in one send; the
others leave at once, their words already on the way. Nobody waits inside: what the kernel does not take is sent by the
reader when there is room (see `transport`), and until then the gate stays shut. The reader itself, whose callbacks
settle and publish too, handles all that it has read first: it writes right before it sleeps, wherever that is, so that
a read costs it one write, and nothing is left unwritten while it sleeps.

Reading: `run` polls the socket and a waker; jobs (cancel, declare) are handed to it by `call`, or set for later.
"""

import heapq
import logging
import os
import weakref
from collections import deque
from collections.abc import Callable
from itertools import count
from math import inf
from threading import Condition, Event, Lock, Thread, current_thread, get_ident
from time import monotonic
from typing import Protocol

from micro_framework.brokers.port import DoorEvents
from micro_framework.brokers.rabbitmq.connection import Interrupted, LinkConnection, Waker
from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.reconnection import Reconnection
from micro_framework.brokers.rabbitmq.refusals import readable, refusal_for
from micro_framework.brokers.rabbitmq.transport import PlainTransport, TLSTransport
from micro_framework.exceptions import BrokerError, BrokerRefused

__all__ = ["Link", "LinkFor", "LinkOwner", "LinkedDoor"]

logger = logging.getLogger(__name__)

USUAL_FRAME_MAX = 131072
"""What RabbitMQ offers by default (3.10 to 4.3)."""
SETUP_SECONDS = 20.0
"""Longest time for declaring everything after a connect; of a consumer, for each of its queues."""
ALARM = "a memory or disk alarm, see its log"
"""Why the broker takes no messages, beside its own words (``low on disk``)."""
STANDSTILL_SECONDS = 5.0
"""Within which a connection must be lost after a standstill for that to be the reason."""
CLOSE_SECONDS = 5.0
"""Longest wait for the broker's answer to a polite close."""


LONGEST_TURN = 90.0
"""Seconds that the reading thread may need to come around: one attempt to connect, with all its waits, is shorter."""


def nothing() -> None:
    """What `Link.turns` gives the thread to do."""


class LinkOwner(Protocol):
    """What a link asks of the door it belongs to."""

    def set_up(self, connection: LinkConnection) -> None:
        """Open channels, declare, consume; on the reading thread, after each connect. An error ends the attempt."""

    def has_output(self) -> bool:
        """Whether there is anything to write."""

    def take_output(self) -> bytes:
        """What to write next, in one piece; called by one thread at a time."""

    def output_written(self) -> None:
        """What was taken has been sent."""

    def lost(self, error: BaseException) -> None:
        """The connection is gone; nothing is written until `set_up` has been called again."""

    def ended(self, refusal: BrokerRefused | None) -> None:
        """The link will not connect again: stopped, or refused."""


class Job:
    """Something to do on the reading thread."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.done = Event()

    def run(self) -> None:
        try:
            self.work()
        finally:
            self.done.set()


class Link:
    """See the module's text.

    Args:
        kind: ``consumer``, ``publisher``, ``duplex`` or ``browser``, part of the thread's name.
        name: The rest of it, and of the connection's name in the broker's list.
        endpoints: Where to connect.
        owner: Whose link it is.
    """

    def __init__(self, kind: str, name: str, endpoints: Endpoints, owner: LinkOwner) -> None:
        self.title = f"{kind} {name!r}"
        self.thread_name = f"mf-{kind}-{name}"
        self._endpoints = endpoints
        self._owner = owner
        self._events = DoorEvents()
        self._reconnection = Reconnection()
        self.gate = Lock()  # while it is held nobody else writes
        self._jobs: deque[Job] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._changed = Condition()
        self.connection: LinkConnection | None = None
        self._writable: PlainTransport | TLSTransport | None = None
        self._thread: Thread | None = None
        self._reader = 0  # the thread's identity, once it runs
        self._waker: Waker | None = None
        self._stop_at: float | None = None
        self.started = False
        self.finished = False
        """Its thread has ended, or will never begin."""
        self.frame_max = USUAL_FRAME_MAX
        """The largest frame of the connection, in bytes; without one, of the last."""
        self._refusal: BrokerRefused | None = None
        self.ready = False
        self.blocked = False
        self.blocked_by = ALARM
        self.trouble = "not connected yet"
        self._standstill: tuple[float, float] | None = None  # of the connection that was lost last
        self.forked = False
        self._pulse: Job | None = None
        self._pulse_at = 0.0
        open_links.add(self)

    # What any thread may ask.

    def start(self, events: DoorEvents) -> None:
        """Begin connecting.

        Raises:
            BrokerError: It was started or stopped before.
        """
        with self._changed:
            if self._thread is not None or self.finished:
                raise BrokerError(f"{self.title} was started before; take a new one from the broker")
            self._events = events
            self._waker = Waker()
            self._thread = Thread(target=self._run, name=self.thread_name, daemon=True)
            self.started = True
            self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it was stopped or refused."""
        return self.finished or self._stop_at is not None

    @property
    def address(self) -> str:
        """The host it is connected to, or tries next; without a password."""
        return str(self._endpoints.current)

    def connect_apart(self, name: str) -> LinkConnection:
        """Another connection to the same host, for the reading thread to use and to close.

        Args:
            name: What the broker lists it as.

        Raises:
            Exception: Whatever went wrong.
        """
        return self._endpoints.connect_apart(name)

    @property
    def turns(self) -> bool:
        """Whether its thread gets through its work: what it was given to do the last time this was asked is done.

        It is while it connects again; only a thread that has ended by mistake, or done nothing for `LONGEST_TURN`
        seconds, does not turn.
        """
        if self._thread is None or self.over:
            return True
        if self._pulse is None or self._pulse.done.is_set():
            self._pulse_at = monotonic()
            self._pulse = self.post(nothing)
        return self._thread.is_alive() and monotonic() - self._pulse_at < LONGEST_TURN

    def wait_ready(self, deadline: float, complete: Callable[[], bool] = lambda: True) -> bool:
        """Wait until ready, refused, stopped, or the deadline.

        Args:
            deadline: ``time.monotonic()`` seconds.
            complete: What the owner asks for beside the connection; looked at again whenever it calls `tell_ready`.
        """
        with self._changed:
            ready = self._changed.wait_for(
                lambda: (self.ready and complete()) or self.over, max(0.0, deadline - monotonic())
            )
            return ready and self.ready and complete()

    def flush(self) -> None:
        """Write what the owner has, or leave it to the thread that is writing just now.

        On the reading thread it is left to that thread's next poll.
        """
        if get_ident() != self._reader:
            self._write_for_all()

    def _write_for_all(self) -> None:
        owner, gate = self._owner, self.gate
        while gate.acquire(blocking=False):
            try:
                written = self._write()
            finally:
                gate.release()
            if not owner.has_output():
                return
            # The reader flushes when it can be written again. Has that happened behind this thread's back, then the
            # reader has found the gate shut, and it is left to this thread.
            if not written and self._stream_to_write() is None:
                return

    def _write_before_sleep(self) -> None:
        if self._owner.has_output():
            self._write_for_all()

    def _stream_to_write(self) -> PlainTransport | TLSTransport | None:
        stream = self._writable
        if stream is None or not stream.connected or self.blocked or stream.unsent:
            return None
        return stream

    def _write(self) -> bool:
        transport = self._stream_to_write()
        if transport is None:
            return False
        if data := self._owner.take_output():
            transport.send(data)
        self._owner.output_written()
        return True

    def post(self, work: Callable[[], None]) -> Job:
        """Have something done on the reading thread; what it raises ends the connection."""
        job = Job(work)
        self._jobs.append(job)
        self._wake()
        return job

    def call_later(self, seconds: float, work: Callable[[], None]) -> None:
        """Have something done in so many seconds, if the connection lasts until then; on the reading thread only."""
        heapq.heappush(self._later, (monotonic() + seconds, next(self._order), work))

    def call(self, work: Callable[[], None], deadline: float) -> bool:
        """Have something done on the reading thread, now if this is it, and wait for that.

        Returns:
            Whether it was done by the deadline.
        """
        if current_thread() is self._thread:
            work()
            return True
        job = self.post(work)
        if self._thread is None or self.finished:  # in this order: the last jobs are run after `finished` was set
            return job.done.is_set()
        return job.done.wait(max(0.0, deadline - monotonic()))

    def tell_ready(self) -> None:
        """Tell that the owner has what it lacked when the connection was set up; on the reading thread."""
        with self._changed:
            self._changed.notify_all()
        self._tell(self._events.on_ready)

    def tell_overdue(self, seconds: float | None) -> None:
        """Tell that the broker took back what was not settled within so many seconds, None for a time that is not
        known; on the reading thread.
        """
        self._tell(lambda: self._events.on_overdue(seconds))

    def stop(self, deadline: float) -> None:
        """Close the connection and end the thread, without waiting beyond the deadline. Idempotent."""
        with self._changed:
            if self._stop_at is None:
                self._stop_at = deadline
            never_started = self._thread is None and not self.finished
            self.finished = self.finished or self._thread is None
            self._changed.notify_all()
        if never_started:
            self._owner.ended(None)
        self._wake()
        if self._thread is not None and self._thread is not current_thread() and not self.forked:
            self._thread.join(max(0.0, deadline - monotonic()))

    def abandon(self) -> None:
        """In a forked child: forget the connection, which is the parent's. Locks may be held by threads left behind."""
        self._changed, self.gate = Condition(), Lock()
        if self._thread is None or self.finished:
            return
        self.forked = self.finished = True
        self.ready = False
        connection, self.connection, self._writable = self.connection, None, None
        if connection is not None:
            connection.abandon()
        if self._waker is not None:
            self._waker.close()

    def _wake(self) -> None:
        if self._waker is not None:
            self._waker.wake()

    # The reading thread.

    def _run(self) -> None:
        self._reader = get_ident()
        try:
            while not self._stopping():
                error = self._session()
                if error is not None and not self._stopping() and not self._goes_on_after(error):
                    break
        finally:
            self._finish()

    def _stopping(self) -> bool:
        return self._stop_at is not None

    def _session(self) -> Exception | None:
        """Connect, serve until the connection ends; what ended it, None for a stop."""
        try:
            self._connect()
            self._serve()
            self._close_politely()
        except Interrupted:
            return None
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next connection comes after it
            return error
        finally:
            self._disconnect()
        return None

    def _connect(self) -> None:
        assert self._waker is not None
        connection = self._endpoints.connect(
            f"{self.thread_name} ({os.getpid()})", self._waker, self._stopping, self._on_blocked, self._on_unblocked
        )
        self.connection = connection
        with connection.within(SETUP_SECONDS):
            self._owner.set_up(connection)
        connection.interrupted = None  # from here on `_serve` sees that it is to stop, and closes politely
        connection.before_sleep = self._write_before_sleep
        self.frame_max = int(connection.frame_max)
        self._writable = connection.stream
        self._reconnection.connected(monotonic())
        logger.info("%s is connected to %s", self.title, self._endpoints.current)
        self._set_ready(True)
        self._tell(self._events.on_ready)

    def _serve(self) -> None:
        connection = self.connection
        assert connection is not None
        while True:
            if self._jobs:
                self._run_jobs()
            if self._later:
                self._run_due()
            # Looked at last: a job that waits for an answer takes every wake-up meanwhile.
            if self._stop_at is not None:
                return
            connection.serve(self._later[0][0] if self._later else inf)

    def _run_jobs(self) -> None:
        while self._jobs:
            self._jobs.popleft().run()

    def _run_due(self) -> None:
        while self._later and self._later[0][0] <= monotonic():
            heapq.heappop(self._later)[2]()

    def _close_politely(self) -> None:
        connection, deadline = self.connection, self._stop_at
        assert connection is not None
        assert deadline is not None
        self._run_jobs()
        while self._owner.has_output() and self._stream_to_write() is None and monotonic() < deadline:
            connection.serve(deadline)  # until the kernel, or the broker, takes more
        self._write_the_last()
        with connection.within(min(CLOSE_SECONDS, deadline - monotonic())):
            connection.close()

    def _write_the_last(self) -> None:
        # Waits for whoever writes just now, with what others left to it in its hands: behind the goodbye to the broker
        # nothing is heard any more.
        with self.gate:
            while self._owner.has_output() and self._write():
                pass
            self._writable = None

    def _disconnect(self) -> None:
        with self.gate:
            self._writable = None
        self.blocked = False
        self._later.clear()
        connection, self.connection = self.connection, None
        if connection is not None:
            self._standstill = connection.standstill
            connection.drop()

    def _goes_on_after(self, error: Exception) -> bool:
        address = self._endpoints.current
        was_ready = self.ready
        self.trouble = readable(error)
        self._set_ready(False)
        self._owner.lost(error)
        if was_ready:
            self._tell(lambda: self._events.on_lost(error))
            self._tell_standstill()
        refusal = refusal_for(error, address)
        if self._reconnection.is_final(refusal is not None, monotonic()):
            self._refusal = refusal
            return False
        if was_ready and self._reconnection.was_stable(monotonic()):
            self._endpoints.succeeded()
        pause = self._reconnection.next_pause(monotonic()) if self._endpoints.move_on() else 0.0
        what = "lost its connection to" if was_ready else "cannot connect to"
        logger.warning("%s %s %s: %s; next try in %.1f s", self.title, what, address, self.trouble, pause)
        self._rest(pause)
        return True

    def _tell_standstill(self) -> None:
        """Tell, if the connection was lost right after this process had stood still."""
        if self._standstill is not None and monotonic() - self._standstill[1] < STANDSTILL_SECONDS:
            began, ended = self._standstill
            self._tell(lambda: self._events.on_standstill(began, ended))

    def _rest(self, seconds: float) -> None:
        assert self._waker is not None
        until = monotonic() + seconds
        self._run_jobs()  # without a pause as well: they were meant for the connection that is lost
        while not self._stopping() and (left := until - monotonic()) > 0:
            self._waker.wait(left)
            self._run_jobs()

    def _finish(self) -> None:
        with self._changed:
            self.finished = True
            self.ready = False
            self._changed.notify_all()
        self._owner.ended(self._refusal)
        self._run_jobs()
        assert self._waker is not None
        self._waker.close()
        refusal = self._refusal
        if refusal is not None:
            self._tell(lambda: self._events.on_refused(refusal))

    def _tell(self, event: Callable[[], None]) -> None:
        try:
            event()
        except Exception:  # it must not raise; if it does, the connection is none the worse
            logger.exception("an event handler of %s raised, and handlers must not", self.title)

    def _set_ready(self, ready: bool) -> None:
        with self._changed:
            self.ready = ready
            self._changed.notify_all()

    def _on_blocked(self, reason: str) -> None:
        self.blocked_by = f"{reason} ({ALARM})" if reason else ALARM
        self.blocked = True
        logger.warning("%s: %s takes no messages for now: %s", self.title, self._endpoints.current, self.blocked_by)

    def _on_unblocked(self) -> None:
        self.blocked = False
        logger.info("%s: %s takes messages again", self.title, self._endpoints.current)


LinkFor = Callable[[LinkOwner], Link]
"""Gives a door its link: one of its own, or the one that it shares."""


class LinkedDoor:
    """What every door at RabbitMQ has in common (`micro_framework.brokers.port.Door`): it is ready when its link is."""

    _link: Link

    def start(self, events: DoorEvents) -> None:
        """Begin connecting on a thread of its own.

        Raises:
            BrokerError: It was started or stopped before.
        """
        self._link.start(events)

    @property
    def ready(self) -> bool:
        return self._link.ready

    @property
    def blocked(self) -> bool:
        return self._link.blocked

    @property
    def turns(self) -> bool:
        return self._link.turns

    def wait_ready(self, deadline: float) -> bool:
        return self._link.wait_ready(deadline)

    def stop(self, deadline: float) -> None:
        """Close the connection, and end the thread."""
        self._link.stop(deadline)


open_links: weakref.WeakSet[Link] = weakref.WeakSet()


def abandon_links() -> None:
    """Two processes on one connection would garble it; only the one that opened it keeps it."""
    for link in list(open_links):
        link.abandon()


os.register_at_fork(after_in_child=abandon_links)
