"""`RPCListener`: targets that other services call; on the wire it is Nameko's ``rpc``.

All RPC targets of a service share one queue and one connection, `RPCServer`. A request's routing key names the target;
a worker runs it, writes the reply on the same connection and is free; the broker's confirm of the reply releases the
acknowledgement of the request. A reply that is not confirmed leaves its request unacknowledged, and the broker delivers
it again.

A request that no target can take is answered with a named error where it says who is to be told, and is acknowledged:
it would be no better the next time. Nothing in a request can end the process.
"""

import logging
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from micro_framework.amqp.arguments import called_with, kind_problems, listed
from micro_framework.amqp.arriving import arriving
from micro_framework.amqp.doors import ConsumerDoor, counted
from micro_framework.amqp.lanes import Lane, LaneRequest, lane_queue, moved_key
from micro_framework.amqp.parking import copy_of
from micro_framework.amqp.rollout import Rollout, rollout_problem
from micro_framework.amqp.topology import described_queue
from micro_framework.backoff import attempt_from_headers, attempt_to_headers
from micro_framework.brokers.port import Delivery, Duplex, Publication, Subscription, Verdict
from micro_framework.brokers.serializers import RAW_TYPES, Encoded
from micro_framework.calls import FIRST_ATTEMPT, Attempt, Call, Outcome
from micro_framework.config.kinds import LARGEST_PREFETCH
from micro_framework.entrypoints import Entrypoint, RouteHandle
from micro_framework.exceptions import (
    IncorrectSignature,
    MalformedRequest,
    MessageTooLarge,
    MethodNotFound,
    PublishError,
    PublishTimeout,
    RPCError,
    UndecodableMessage,
    UnserializableValueError,
)
from micro_framework.extensions import Host
from micro_framework.retry import is_exception_class
from micro_framework.rpc.manager import GET_TARGET, LIST_TARGETS, RPCManager
from micro_framework.wire.headers import deadline_from
from micro_framework.wire.messages import (
    JSON_CONTENT_TYPE,
    Request,
    parse_request,
    reply_body,
    reply_properties,
)
from micro_framework.wire.naming import rpc_exchange, rpc_queue, rpc_routing_key
from micro_framework.wire.takeover import PROBE, Names

__all__ = ["RPCListener", "RPCServer"]

logger = logging.getLogger(__name__)

LONGEST_NAME = 255
"""Bytes of a routing key: AMQP 0-9-1 sends it as a short string."""

CLOCK_SKEW = 5.0
"""Seconds by which the clocks of two machines may differ: so much after its deadline a request is still served."""


class CallerGone(RPCError):
    """Whoever made the call has given up."""


class StrayRequest(RPCError):
    """The request names no target."""


class RPCServer(ConsumerDoor):
    """The connection on which a service is called. See the module's text."""

    door: Duplex
    closing = False
    most_workers = 0
    for_strays: RouteHandle
    """Whose workers answer the requests that are for no target: those of the largest context."""
    strays_context = ""
    """That context."""
    takeover: Names | None = None
    """Where the service takes over from a Nameko process; it is told before `setup`."""

    def __str__(self) -> str:
        return f"RPC connection of service {self.host.service!r}"

    def sharing_key(self, host: Host) -> Hashable:
        """One per service: its methods share a queue."""
        return host.service

    def make_door(self) -> Duplex:
        """The door: it consumes, and publishes the replies."""
        return counted(self.source.broker.duplex(f"rpc-{self.host.service}"), self.host.tallies)

    def setup(self) -> None:
        """Make the door."""
        super().setup()
        self.exchange = rpc_exchange(self.host.settings.rpc_exchange)
        self.manager: RPCManager[RouteHandle] = RPCManager(self.host.service)
        self.routes: dict[str, RouteHandle] = {}  # by the routing key of their requests
        self.prefetch: dict[str, int] = {}  # by context
        self.contexts: dict[str, str] = {}  # by routing key
        self.lanes: dict[str, Lane] = {}  # by context, where there are several
        self.rollouts: dict[str, Rollout] = {}  # by routing key
        self.queue = self.takeover.new_queue() if self.takeover else rpc_queue(self.host.service, self.exchange)
        self.door.declare((self.exchange,))

    def offer(self, route: RouteHandle, host: Host) -> str:
        """Make a target callable. Call in ``setup``.

        Returns:
            The routing key of its requests.
        """
        key = rpc_routing_key(host.service, route.method)
        self.manager.add(route.method, route)
        self.serve(route)
        self.routes[key] = route
        self.prefetch[host.context] = host.prefetch
        self.contexts[key] = host.context
        if host.workers > self.most_workers:
            self.most_workers, self.for_strays, self.strays_context = host.workers, route, host.context
        self.used = True
        return key

    def start(self) -> None:
        """Consume the service's queue, as many requests at once as all contexts that serve it take."""
        if self.used:
            prefetch = min(sum(self.prefetch.values()), LARGEST_PREFETCH)
            self.subscribe(Subscription(self.queue, prefetch, self.on_request))
        if len(self.prefetch) > 1:
            self.open_lanes()
        super().start()

    def open_lanes(self) -> None:
        """Give each context its share, and a queue for what goes beyond that."""
        for context, share in self.prefetch.items():
            lane = self.lanes[context] = Lane(lane_queue(self.host.service, context), share)
            self.subscribe(Subscription(lane.queue, share, self.on_moved))

    def expect_delays(self, key: str, delays: Sequence[int]) -> None:
        """Be ready to put requests off. Call in ``setup``.

        Args:
            key: The routing key that they have, and come back with.
            delays: The milliseconds to be expected.
        """
        self.door.expect_delays(self.queue, delays, exchange=self.exchange.name, routing_key=key)

    def delay(self, request: Delivery, key: str, headers: Mapping[str, Any], delay: int) -> None:
        """Have a request come back to the service after ``delay`` milliseconds; waits for the confirm.

        Args:
            request: The request.
            key: The routing key that it comes back with.
            headers: Further headers.
            delay: Milliseconds.

        Raises:
            PublishError: The copy is not certain to be there.
        """
        copy = copy_of(request, headers)
        pending = self.door.delay(
            copy, queue=self.queue.name, delay=delay, exchange=self.exchange.name, routing_key=key
        )
        pending.wait(time.monotonic() + self.host.settings.publish_timeout)

    def give_back(self, request: Delivery) -> None:
        """Have a request delivered again that was not run.

        Where its queue counts what comes back (quorum) it is sent once more instead: RabbitMQ from 4.0 on drops a
        message that came back 20 times.
        """
        if not self.counts(request.queue):
            request.settle(Verdict.REQUEUE)
            return
        copy = copy_of(request, {})
        if request.queue == self.queue.name:  # its key says what is called; in a lane's queue a header does
            copy = replace(copy, exchange=self.exchange.name, routing_key=request.routing_key)
        try:
            confirmation = self.door.publish(copy)
        except PublishError:
            request.settle(Verdict.REQUEUE)
        else:
            self.acknowledge_after(request, confirmation)

    def stop(self) -> None:
        """Wait for the confirms of answers, acknowledge, close."""
        self.closing = True
        super().stop()

    def on_request(self, request: Delivery) -> None:
        """Hand a request to its target's route; a stray one to another's workers, who answer it all the same."""
        key = request.routing_key
        if self.rollouts and (rollout := self.rollouts.get(key)) is not None and not rollout.keeps(request):
            self.pass_on(request, rollout)
        elif not self.lanes:
            self.route_for(key).submit(request)
        else:
            self.on_request_of_lane(request, key)

    def on_request_of_lane(self, request: Delivery, key: str) -> None:
        """Hand a request to its target's route, if its context has room for it."""
        lane = self.lanes[self.contexts.get(key, self.strays_context)]
        if lane.enter():
            self.route_for(key).submit(LaneRequest(request, key, lane))
        else:
            self.move(request, lane)

    def route_for(self, key: str) -> RouteHandle:
        """The route of a routing key; for a stray one, the route with the most workers."""
        return self.routes.get(key, self.for_strays)

    def move(self, request: Delivery, lane: Lane) -> None:
        """Move a request to the queue of its context, which has no room for it now. Never waits."""
        try:
            confirmation = self.door.publish(lane.moved(request))
        except PublishError:  # closed: the broker takes it back
            return
        confirmation.add_done_callback(partial(self.when_moved, request))

    def when_moved(self, request: Delivery, error: BaseException | None) -> None:
        """The broker has the copy; or it never will, and the request is run beyond its context's share."""
        if error is None:
            request.settle(Verdict.ACK)
        elif not self.closing:
            logger.warning("%s could not be moved to the queue of its context: %s", about(request), error)
            self.route_for(request.routing_key).submit(request)

    def pass_on(self, request: Delivery, rollout: Rollout) -> None:
        """Have the old side of a takeover run a request. Never waits."""
        try:
            confirmation = self.door.publish(rollout.passed_on(request))
        except PublishError:  # closed: the broker takes it back
            return
        confirmation.add_done_callback(partial(self.when_passed_on, request))

    def when_passed_on(self, request: Delivery, error: BaseException | None) -> None:
        """The broker has the copy; or the old side has no queue any more, and the request runs here."""
        if error is None:
            request.settle(Verdict.ACK)
            if self.host.tallies is not None:
                self.host.tallies.passed_on_requests(self.host.service, request.routing_key).mine()[0] += 1
        elif not self.closing:
            logger.warning("%s could not be passed on to the old side, and runs here: %s", about(request), error)
            self.route_for(request.routing_key).submit(request)

    def on_moved(self, request: Delivery) -> None:
        """A request that was moved has its turn."""
        key = moved_key(request)
        self.route_for(key).submit(LaneRequest(request, key, None))

    def reply(self, request: Delivery, outcome: Outcome) -> None:
        """Answer a request; it is acknowledged once the broker has the answer. Never waits."""
        properties = request.properties
        if not properties.reply_to:
            request.settle(Verdict.ACK)
            return
        encoded = self.encoded(request, outcome)
        reply = Publication(
            self.exchange.name,
            properties.reply_to,
            encoded.body,
            reply_properties(
                properties.correlation_id,
                content_type=encoded.content_type,
                content_encoding=encoded.content_encoding,
            ),
        )
        try:
            confirmation = self.door.publish(reply)
        except PublishError as error:
            self.delivered_again(request, error)
            return
        confirmation.add_done_callback(partial(self.on_replied, request, outcome))

    def on_replied(self, request: Delivery, outcome: Outcome, error: BaseException | None) -> None:
        """The broker has the answer, or never will; on the connection's thread."""
        if error is None:
            request.settle(Verdict.ACK)
        elif isinstance(error, PublishTimeout) or self.closing:
            self.delivered_again(request, error)
        elif isinstance(error, MessageTooLarge) and not isinstance(outcome.error, MessageTooLarge):
            logger.error("the answer to %s is too large, and its caller is told so: %s", about(request), error)
            self.reply(request, Outcome(error=error))
        else:
            logger.error("the answer to %s is lost, for the broker refused it: %s", about(request), error)
            request.settle(Verdict.ACK)

    def delivered_again(self, request: Delivery, error: BaseException) -> None:
        """The connection is closed, so the broker takes back what is not acknowledged."""
        logger.warning("the answer to %s was not sent, so the request is delivered again: %s", about(request), error)

    def encoded(self, request: Delivery, outcome: Outcome) -> Encoded:
        """The body of an answer, in the content type of the request; a result that cannot be sent is an error."""
        encode, content_type = self.source.serializers.encode_as, request.content_type
        error = outcome.error
        try:
            return encode(reply_body(outcome.result, error), content_type)
        except Exception:  # the serializer may be the user's
            what = ("result", outcome.result) if error is None else ("error", error)
            logger.exception("the %s of %s, a %s, cannot be sent", what[0], about(request), type(what[1]).__name__)
        unsendable = reply_body(error=UnserializableValueError(outcome.result if error is None else error))
        try:
            return encode(unsendable, content_type)
        except Exception:
            logger.exception("nor can an error that says so, as %s; it goes out as JSON", content_type)
        return self.source.serializers.encode(unsendable, "json")


def about(request: Delivery) -> str:
    """A request as it is called in a log."""
    return f"request {request.properties.correlation_id!r:.80} for {request.routing_key!r}"


class RPCListener(Entrypoint):
    """Runs the target when another service calls it, and answers with what it returns or raises.

    Args:
        expected_exceptions: Classes that are part of the method's contract: logged as warnings, not as errors.
        sensitive_arguments: Arguments, or paths into them (``card.number``, ``items[0].secret``), that no log shows.
        rollout: On a class with `LegacyService`: the share of requests that runs here, 0 to 1; the rest runs on the old
            side. None: all of them run here.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """

    server = RPCServer()
    called_from_outside = True
    retryable = True

    def __init__(
        self,
        *,
        expected_exceptions: type[BaseException] | Sequence[type[BaseException]] = (),
        sensitive_arguments: str | Sequence[str] = (),
        rollout: float | None = None,
    ) -> None:
        self.expected_exceptions = listed(expected_exceptions)
        self.sensitive_arguments = listed(sensitive_arguments)
        self.rollout = rollout

    def problems(self) -> list[str]:
        """Arguments of a wrong kind, and names that cannot be called."""
        found = []
        for kind in self.expected_exceptions:
            if not is_exception_class(kind):
                found.append(f"{self}: expected_exceptions must hold exception classes, not {kind!r}")
        for path in self.sensitive_arguments:
            found += kind_problems(self, "names of arguments", str, sensitive_arguments=path)
        if self.rollout is not None and (wrong := rollout_problem(self.rollout, self.server.takeover)) is not None:
            found.append(f"{self}: {wrong}")
        return found + list(self.name_problems()) if hasattr(self, "route") else found

    def name_problems(self) -> Iterator[str]:
        """Names that cannot be called, or that AMQP has no room for."""
        method, key = self.route.method, rpc_routing_key(self.route.service, self.route.method)
        if method.startswith("__") and method.endswith("__"):
            yield (
                f"{self}: {method} cannot be called by RPC, names between double underscores are Python's and "
                f"the framework's own ({LIST_TARGETS}, {GET_TARGET}); give the method another name"
            )
        if (size := len(key.encode())) > LONGEST_NAME:
            yield (
                f"{self}: the routing key of its requests has {size} bytes and AMQP takes {LONGEST_NAME}; shorten the "
                "name of the service or the method"
            )

    def described(self) -> dict[str, Any]:
        """The service's queue, and the routing key of this method."""
        takeover = self.server.takeover
        queue = (
            takeover.new_queue()
            if takeover
            else rpc_queue(self.host.service, rpc_exchange(self.host.settings.rpc_exchange))
        )
        own = {"routing_key": rpc_routing_key(self.host.service, self.route.method), "prefetch": self.host.prefetch}
        if self.rollout is not None:
            own["rollout"] = self.rollout
        return {**super().described(), **described_queue(queue), **own}

    def claim(self) -> str | None:
        """A method name of a service belongs to one target."""
        return f"the RPC method {self.route.service}.{self.route.method}"

    def setup(self) -> None:
        """Become callable."""
        self.tracked = self.host.settings.parent_calls_tracked
        self.retries = self.route.retries
        self.key = self.server.offer(self.route, self.host)
        if self.route.retries:
            self.server.expect_delays(self.key, self.route.expected_delays)
        if self.rollout is not None and self.server.takeover is not None:
            self.server.rollouts[self.key] = Rollout(self.rollout, self.server.takeover)

    def stop(self) -> None:
        """Receive nothing more."""
        self.server.cancel()

    def to_call(self, item: Delivery) -> Call:
        """Decode body and headers.

        Raises:
            CallerGone: Its deadline passed `CLOCK_SKEW` ago.
            StrayRequest: It is for no target.
            Exception: It is no request; goes back to the caller.
        """
        headers = item.properties.headers
        deadline = self.deadline(headers)
        if item.routing_key != self.key:
            raise StrayRequest(item.routing_key)
        args, kwargs = self.request(item)
        context, identity = arriving(headers, self.route, self.tracked)
        attempt = attempt_from_headers(headers, self.route.max_retries) if self.retries else FIRST_ATTEMPT
        return Call(identity, args, kwargs, context, attempt, deadline)

    def deadline(self, headers: Mapping[str, Any]) -> float | None:
        """When the caller gives up, in seconds since 1970; None where it does not say.

        Raises:
            CallerGone: It has.
        """
        deadline = deadline_from(headers)
        if deadline is None or (late := time.time() - deadline) <= 0:
            return deadline
        if late > CLOCK_SKEW:
            raise CallerGone(f"its caller gave up {late:.0f} s ago")
        return deadline + CLOCK_SKEW  # the caller's clock is behind, perhaps: what is called inside gets its chance too

    def request(self, item: Delivery) -> Request:
        """The arguments that a request carries.

        Raises:
            MalformedRequest: It does not say what it is.
            Exception: It is something else than it says, or no request.
        """
        properties = item.properties
        if (content_type := properties.content_type) in RAW_TYPES:
            raise MalformedRequest(
                f"a request has a content type, {JSON_CONTENT_TYPE} for instance, and this one has "
                f"{content_type or 'none'}"
            )
        return parse_request(
            self.server.source.serializers.decode(
                item.body, content_type, properties.content_encoding, properties.headers.get("compression")
            )
        )

    def retry(self, item: Delivery, attempt: Attempt, delay: int) -> None:
        """Have the same request come back in ``delay`` milliseconds: its caller is answered once, at the end.

        Raises:
            PublishError: The copy is not certain to be there; the original is untouched.
        """
        self.server.delay(item, self.key, attempt_to_headers(attempt), delay)
        item.settle(Verdict.ACK)

    def settle(self, item: Delivery, outcome: Outcome) -> None:
        """Answer."""
        self.server.reply(item, outcome)

    def hand_back(self, item: Delivery) -> None:
        """The broker delivers it again."""
        self.server.give_back(item)

    def refuse(self, item: Delivery, error: BaseException) -> str:
        """Answer what cannot be run."""
        try:
            about(item)
        except Exception:  # noqa: BLE001 - whatever the client library stumbles on, it would do so for ever
            item.settle(Verdict.ACK)
            return f"dropped a request for {item.routing_key!r}, for its properties cannot be read"
        if isinstance(error, CallerGone):
            logger.info("%s was dropped: %s", about(item), error)
            item.settle(Verdict.ACK)
            return ""
        if isinstance(error, StrayRequest):
            outcome = self.answer_stray(item)
        elif isinstance(error, UndecodableMessage):
            outcome = Outcome(error=MalformedRequest(str(error)))
        else:
            outcome = Outcome(error=error)
        self.server.reply(item, outcome)
        return "" if isinstance(error, StrayRequest) else f"{about(item)} cannot be run, and is answered so"

    def answer_stray(self, item: Delivery) -> Outcome:
        """The answer to a request that is for no target."""
        service, name = self.route.service, item.routing_key.removeprefix(f"{self.route.service}.")
        try:
            args, kwargs = self.request(item) if name in (LIST_TARGETS, GET_TARGET) else ((), {})
            return Outcome(self.server.manager.answer(name, args, kwargs))
        except MethodNotFound as error:
            level = logging.DEBUG if name == PROBE else logging.WARNING  # the commands of a takeover ask so
            logger.log(level, "service %s was asked for %r, which it does not offer", service, name)
            return Outcome(error=error)
        except Exception as error:  # noqa: BLE001 - goes back to the caller
            return Outcome(error=error)

    def severity(self, error: BaseException) -> int:
        """Errors that the caller makes, or must expect, are warnings."""
        return logging.WARNING if isinstance(error, (*self.expected_exceptions, IncorrectSignature)) else logging.ERROR

    def shown(self, call: Call) -> str:
        """The arguments, without the sensitive ones."""
        return called_with(call, self.route, self.sensitive_arguments)
