"""`ReplyDoor`: where calls of other services go out and their replies come in.

One connection and one reply queue per process, shared by all threads without a lock around the round trip: a caller
writes its request and waits for its own future; the connection's thread takes a reply, finds the future by the
correlation id and goes on. The reply ends a call, or the return of its request, or its deadline; nobody waits for the
request's confirm.

The queue is Nameko's: durable, not exclusive, gone five minutes after its last consumer. So replies that come while the
connection is lost wait there. Should the queue itself be lost, every call that waits is told at once.
"""

import logging
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from micro_framework.amqp.doors import CLOSE_BUDGET, SharedDoor, counted
from micro_framework.brokers.port import Delivery, Duplex, Publication, Subscription, Verdict
from micro_framework.calls import Outcome
from micro_framework.exceptions import (
    BrokerError,
    PublishError,
    ReplyQueueLost,
    RPCTimeout,
    UndecodableMessage,
    UnknownService,
    Unroutable,
    WireError,
)
from micro_framework.extensions import Host
from micro_framework.identifiers import new_identifier
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.pending import PendingCalls
from micro_framework.tracing import calling
from micro_framework.wire.errors import to_exception
from micro_framework.wire.headers import DEADLINE, encode_context
from micro_framework.wire.messages import parse_reply, request_body, request_properties
from micro_framework.wire.naming import reply_queue, rpc_exchange, rpc_routing_key

__all__ = ["ReplyDoor"]

logger = logging.getLogger(__name__)

PREFETCH = 1000
"""Replies under way at once; each is acknowledged as soon as it is read."""


class ReplyDoor(SharedDoor):
    """See the module's text. `send` may be called from any thread."""

    door: Duplex

    def __str__(self) -> str:
        return "connection for RPC calls"

    def sharing_key(self, host: Host) -> Hashable:
        """One per process."""
        return "process"

    def setup(self) -> None:
        """Make the door, with a reply queue of its own."""
        settings = self.host.settings
        exchange = rpc_exchange(settings.rpc_exchange)
        self.exchange = exchange.name
        self.timeout = settings.rpc_timeout
        self.serializers = self.source.serializers
        self.identifier = new_identifier()
        self.queue = reply_queue(self.host.service, self.identifier, exchange)
        self.pending = PendingCalls("rpc", self.decode, self.give_up)
        process = self.host.process
        door = self.source.broker.duplex(f"rpc-client of {process}" if process else "rpc-client")
        self.door = counted(door, self.host.tallies)
        self.door.declare((exchange,))
        self.door.subscribe(
            Subscription(self.queue, PREFETCH, self.on_reply, on_lost=self.on_lost, delete_at_stop=True)
        )

    def use(self) -> None:
        """Connect once started. Call in ``setup``."""
        self.used = True

    def stop(self) -> None:
        """Close; calls that still wait are told so, and their requests are not sent any more if they have not been."""
        self.end("was given up when its client was stopped")
        super().stop()
        self.end("was given up when its client was stopped")  # calls that came meanwhile
        self.pending.stop(time.monotonic() + CLOSE_BUDGET)

    def refused(self, error: BrokerError) -> None:
        """No connection comes any more, and so no answer."""
        super().refused(error)
        self.end(f"cannot be reached any more ({error})")

    def send(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,
        *,
        waited_for: bool,
        context: Mapping[str, Any],
        stack: Sequence[str],
        deadline: float | None,
    ) -> RPCFuture:
        """Send a request.

        Args:
            service: The service's name.
            method: The method's name.
            args: Positional arguments.
            kwargs: Keyword arguments.
            timeout: Seconds to wait for the answer; None: ``RPC_TIMEOUT``.
            waited_for: Whether the calling thread is going to wait for the answer at once.
            context: Context data to go with it.
            stack: The caller's call id stack.
            deadline: When the caller's own caller gives up, in seconds since 1970; None for never.

        Raises:
            RPCTimeout: The caller's own deadline has passed.
            PublishError: It cannot be sent.
            TypeError, ValueError: The arguments cannot be encoded.
        """
        now = time.time()
        seconds = self.seconds_for(service, method, timeout, math.inf if deadline is None else deadline - now)
        encoded = self.serializers.encode(request_body(args, kwargs))
        headers = encode_context(context, stack)
        if seconds < math.inf:
            headers[DEADLINE] = int((now + seconds) * 1000)
        span = calling(service, method, headers)
        call = self.new_call(service, method, seconds)
        properties = request_properties(
            headers,
            correlation_id=call.correlation_id,
            reply_to=self.identifier,
            content_type=encoded.content_type,
            content_encoding=encoded.content_encoding,
        )
        request = Publication(self.exchange, rpc_routing_key(service, method), encoded.body, properties, mandatory=True)
        try:
            self.publish(request, call, waited_for=waited_for)
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        if span is not None:
            span.follow(call)
        return call

    def new_call(self, service: str, method: str, seconds: float) -> RPCFuture:
        """A call, counted where things are counted."""
        tallies = self.host.tallies
        if tallies is None:
            return RPCFuture(service, method, new_identifier(), seconds, self.pending)
        from micro_framework.rpc.measured import CountingKeeper, count_end

        cells = tallies.rpc_method(service, method)
        call = RPCFuture(service, method, new_identifier(), seconds, CountingKeeper(self.pending, cells))
        count_end(call, cells)
        return call

    def seconds_for(self, service: str, method: str, timeout: float | None, left: float) -> float:
        """How long to wait: as asked for, and no longer than whoever waits for the caller."""
        if left <= 0:
            raise RPCTimeout(service, method, 0, "it was not called, for whoever called its caller has given up by now")
        return min(self.timeout if timeout is None else timeout, left)

    def publish(self, request: Publication, call: RPCFuture, *, waited_for: bool) -> None:
        """Publish a call's request; what becomes of that comes to the call."""
        pending = self.pending
        pending.add(call)
        if not waited_for:
            pending.watch(call)
        try:
            call.confirmation = self.door.publish(request)
        except BaseException:
            pending.forget(call)
            raise
        call.confirmation.add_done_callback(partial(self.on_sent, call.correlation_id))
        if call.done():
            self.give_up(call)  # it may have ended before there was a confirmation to give up

    def on_sent(self, correlation_id: str, error: BaseException | None) -> None:
        """The broker has the request, or it never will; on the connection's thread."""
        if error is not None:
            self.pending.fail(correlation_id, partial(not_sent, error))

    def on_reply(self, reply: Delivery) -> None:
        """A reply came; on the connection's thread."""
        reply.settle(Verdict.ACK)
        if not self.pending.answer(reply.properties.correlation_id, reply):
            logger.debug("a reply came too late: nobody waits for correlation id %s", reply.properties.correlation_id)

    def on_lost(self) -> None:
        """The reply queue is gone, and the replies in it; on the connection's thread.

        It has been declared again, so calls whose requests have not been sent yet can go on.
        """
        self.pending.fail_all(self.answer_lost, may_be_sent)

    def answer_lost(self, call: RPCFuture) -> ReplyQueueLost:
        """The error of a call whose answer was lost with the reply queue."""
        self.give_up(call)
        return ReplyQueueLost(call.service_name, call.method, self.queue.name)

    def end(self, why: str) -> None:
        """End every call: there is nowhere for answers to come to.

        Args:
            why: What became of the reply queue.
        """

        def error(call: RPCFuture) -> Exception:
            sent = was_sent(call)
            known = self.give_up(call)
            if sent:
                return ReplyQueueLost(call.service_name, call.method, self.queue.name, why)
            what = f"{call.service_name}.{call.method} was not called: the reply queue {self.queue.name!r} {why}"
            return PublishError(f"{what}; {known}")

        self.pending.fail_all(error)

    def give_up(self, call: RPCFuture) -> str:
        """Keep a call's request from being sent, if it has not been; what is known of it."""
        if call.confirmation is None:
            return "its request was not sent, and will not be"
        try:
            call.confirmation.wait(0.0)
        except PublishError as error:
            return str(error)
        return "its request is in the service's queue or being worked on, or the answer was lost on its way"

    def decode(self, reply: Delivery) -> Outcome:
        """The outcome that a reply tells of."""
        try:
            body = self.serializers.decode(
                reply.body, reply.content_type, reply.content_encoding, reply.headers.get("compression")
            )
            result, error = parse_reply(body)
        except (UndecodableMessage, WireError) as unreadable:
            return Outcome(error=unreadable)
        return Outcome(result) if error is None else Outcome(error=to_exception(error))


def was_sent(call: RPCFuture) -> bool:
    """Whether a call's request may be on its way."""
    return call.confirmation is not None and bool(call.confirmation.written)


def may_be_sent(call: RPCFuture) -> bool:
    """Whether a call's request may be on its way; also in the moment in which it is written but not noted yet."""
    return call.confirmation is None or was_sent(call)


def not_sent(error: BaseException, call: RPCFuture) -> BaseException:
    """What a caller gets where its request was not delivered."""
    if isinstance(error, Unroutable):
        unknown = UnknownService(call.service_name)
        unknown.__cause__ = error
        return unknown
    return error
