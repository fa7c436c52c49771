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
from collections.abc import Hashable, Sequence
from functools import cached_property, partial
from typing import Any

from micro_framework.amqp.arguments import kind_problems
from micro_framework.amqp.doors import ConsumerDoor
from micro_framework.amqp.topology import described_queue
from micro_framework.brokers.port import Delivery, Duplex, Publication, Subscription, Verdict
from micro_framework.brokers.serializers import Encoded
from micro_framework.calls import FIRST_ATTEMPT, Call, CallIdentity, Outcome
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
from micro_framework.identifiers import new_identifier
from micro_framework.redaction import shown_arguments
from micro_framework.retry import is_exception_class
from micro_framework.rpc.manager import GET_TARGET, LIST_TARGETS, RPCManager
from micro_framework.wire.headers import (
    deadline_from,
    decode_context,
    grow_stack,
    immediate_parent_call_id,
    new_call_id,
    origin_call_id,
)
from micro_framework.wire.messages import Request, parse_request, reply_body, reply_properties
from micro_framework.wire.naming import rpc_exchange, rpc_queue, rpc_routing_key

__all__ = ["RPCListener", "RPCServer"]

logger = logging.getLogger(__name__)

CLOCK_SKEW = 5.0
"""Seconds by which the clocks of two machines may differ: so much after its deadline a request is still served."""


class CallerGone(RPCError):
    """Whoever made the call has given up."""


class StrayRequest(RPCError):
    """The request names no target."""


class RPCServer(ConsumerDoor):
    """The connection on which a service is called. See the module's text."""

    door: Duplex

    def __str__(self) -> str:
        return f"RPC connection of service {self.host.service!r}"

    def sharing_key(self, host: Host) -> Hashable:
        """One per service: its methods share a queue."""
        return host.service

    def make_door(self) -> Duplex:
        """The door: it consumes, and publishes the replies."""
        return self.source.broker.duplex(f"rpc-{self.host.service}")

    def setup(self) -> None:
        """Make the door."""
        super().setup()
        self.exchange = rpc_exchange(self.host.settings.rpc_exchange)
        self.manager: RPCManager[RouteHandle] = RPCManager(self.host.service)
        self.routes: dict[str, RouteHandle] = {}  # by the routing key of their requests
        self.prefetch: dict[str, int] = {}  # by context
        self.door.declare((self.exchange,))

    def offer(self, route: RouteHandle, host: Host) -> str:
        """Make a target callable. Call in ``setup``.

        Returns:
            The routing key of its requests.
        """
        key = rpc_routing_key(host.service, route.method)
        self.manager.add(route.method, route)
        self.routes[key] = route
        self.prefetch[host.context] = host.prefetch
        self.used = True
        return key

    def start(self) -> None:
        """Consume the service's queue, as many requests at once as all contexts that serve it take."""
        if self.used:
            queue = rpc_queue(self.host.service, self.exchange)
            self.subscribe(Subscription(queue, sum(self.prefetch.values()), self.on_request))
        super().start()

    def on_request(self, request: Delivery) -> None:
        """Hand a request to its target's route; a stray one to some route's workers, who answer it all the same."""
        route = self.routes.get(request.routing_key)
        if route is None:
            route = next(iter(self.routes.values()))
        route.submit(request)

    def reply(self, request: Delivery, outcome: Outcome) -> None:
        """Answer a request; it is acknowledged once the broker has the answer. Never waits."""
        properties = request.properties
        if not properties.reply_to:
            request.settle(Verdict.ACK)
            return
        encoded = self.encoded(outcome, properties.content_type)
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
        except PublishError as error:  # closed: the broker takes the request back
            logger.warning(
                "the answer to %s cannot be sent, so the request is delivered again: %s", about(request), error
            )
            return
        confirmation.add_done_callback(partial(self.on_replied, request))

    def on_replied(self, request: Delivery, error: BaseException | None) -> None:
        """The broker has the answer, or never will; on the connection's thread."""
        if error is None:
            request.settle(Verdict.ACK)
        elif isinstance(error, MessageTooLarge):
            self.reply(request, Outcome(error=error))
        elif isinstance(error, PublishTimeout):
            pass  # not known, and the connection ends: unacknowledged, the request is delivered again
        else:
            logger.error("the answer to %s is lost, for the broker refused it: %s", about(request), error)
            request.settle(Verdict.ACK)

    def encoded(self, outcome: Outcome, content_type: str | None) -> Encoded:
        """The body of an answer, in the content type of the request; a result that cannot be sent is an error.

        Does not raise: the request would come back, and its target run again, for ever.
        """
        serializers, error = self.source.serializers, outcome.error
        if error is None:
            try:
                return serializers.encode_as(reply_body(outcome.result), content_type)
            except Exception:  # the serializer may be the user's
                logger.exception("a result of type %s cannot be sent", type(outcome.result).__name__)
                error = UnserializableValueError(outcome.result)
        try:
            return serializers.encode_as(reply_body(error=error), content_type)
        except Exception:
            logger.exception("the serializer for %s does not take errors, so this one is sent as JSON", content_type)
            return serializers.encode(reply_body(error=error), "json")


def about(request: Delivery) -> str:
    """A request as it is called in a log."""
    return f"request {request.properties.correlation_id or '(without correlation id)'} for {request.routing_key!r}"


def has_readable_properties(request: Delivery) -> bool:
    """Whether they are what AMQP says; the broker hands on text that is not UTF-8 as it came."""
    try:
        return request.properties is not None
    except ValueError:
        return False


class RPCListener(Entrypoint):
    """Runs the target when another service calls it, and answers with what it returns or raises.

    Args:
        expected_exceptions: Classes that are part of the method's contract: logged as warnings, not as errors.
        sensitive_arguments: Arguments, or paths into them (``card.number``, ``items[0].secret``), that no log shows.

    Source of the conventions: nameko 2.14.1 and 3.0.0rc11 rpc.py; seen on the wire.
    """

    server = RPCServer()
    called_from_outside = True

    def __init__(
        self,
        *,
        expected_exceptions: type[BaseException] | Sequence[type[BaseException]] = (),
        sensitive_arguments: str | Sequence[str] = (),
    ) -> None:
        # One alone is taken as a list of one.
        kinds = [expected_exceptions] if isinstance(expected_exceptions, type) else expected_exceptions
        paths = [sensitive_arguments] if isinstance(sensitive_arguments, str) else sensitive_arguments
        self.expected_exceptions = tuple(kinds)
        self.sensitive_arguments = tuple(paths)

    def problems(self) -> list[str]:
        """Arguments of a wrong kind, and names that cannot be called."""
        found = []
        for kind in self.expected_exceptions:
            if not is_exception_class(kind):
                found.append(f"{self}: expected_exceptions must hold exception classes, not {kind!r}")
        for path in self.sensitive_arguments:
            found += kind_problems(self, "names of arguments", str, sensitive_arguments=path)
        method = self.route.method if hasattr(self, "route") else ""
        if method.startswith("__") and method.endswith("__"):
            found.append(
                f"{self}: {method} cannot be called by RPC, names between double underscores are Python's and "
                f"the framework's own ({LIST_TARGETS}, {GET_TARGET}); give the method another name"
            )
        return found

    def described(self) -> dict[str, Any]:
        """The service's queue, and the routing key of this method."""
        queue = rpc_queue(self.host.service, rpc_exchange(self.host.settings.rpc_exchange))
        own = {"routing_key": rpc_routing_key(self.host.service, self.route.method), "prefetch": self.host.prefetch}
        return {**super().described(), **described_queue(queue), **own}

    def claim(self) -> str | None:
        """A method name of a service belongs to one target."""
        return f"the RPC method {self.route.service}.{self.route.method}"

    def setup(self) -> None:
        """Become callable."""
        self.tracked = self.host.settings.parent_calls_tracked
        self.key = self.server.offer(self.route, self.host)

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
        headers = item.headers
        deadline = deadline_from(headers)
        if deadline is not None and time.time() > deadline + CLOCK_SKEW:
            raise CallerGone(f"its caller gave up {time.time() - deadline:.0f} s ago")
        if item.routing_key != self.key:
            raise StrayRequest(item.routing_key)
        args, kwargs = self.request(item)
        context, parents = decode_context(headers)
        service, method = self.route.service, self.route.method
        stack = grow_stack(parents, new_call_id(service, method, new_identifier()), self.tracked)
        identity = CallIdentity(service, method, stack, origin_call_id(parents), immediate_parent_call_id(parents))
        return Call(identity, args, kwargs, context, FIRST_ATTEMPT, deadline)

    def request(self, item: Delivery) -> Request:
        """The arguments that a request carries."""
        return parse_request(
            self.server.source.serializers.decode(
                item.body, item.content_type, item.content_encoding, item.headers.get("compression")
            )
        )

    def settle(self, item: Delivery, outcome: Outcome) -> None:
        """Answer."""
        self.server.reply(item, outcome)

    def hand_back(self, item: Delivery) -> None:
        """The broker delivers it again."""
        item.settle(Verdict.REQUEUE)

    def refuse(self, item: Delivery, error: BaseException) -> str:
        """Answer what cannot be run."""
        if not has_readable_properties(item):
            item.settle(Verdict.ACK)
            return f"dropped a request from queue {item.queue!r} whose properties cannot be read, so nobody is answered"
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
            logger.warning("service %s was asked for %r, which it does not offer", service, name)
            return Outcome(error=error)
        except Exception as error:  # noqa: BLE001 - goes back to the caller
            return Outcome(error=error)

    def severity(self, error: BaseException) -> int:
        """Errors that the caller makes, or must expect, are warnings."""
        return logging.WARNING if isinstance(error, (*self.expected_exceptions, IncorrectSignature)) else logging.ERROR

    def shown(self, call: Call) -> str:
        """The arguments, without the sensitive ones."""
        arguments = shown_arguments(
            call.args, call.kwargs, names=self.parameter_names, sensitive=self.sensitive_arguments
        )
        return f", called with {arguments}"

    @cached_property
    def parameter_names(self) -> list[str]:
        """The names of the target's parameters, in order."""
        return [str(each["name"]) for each in self.route.describe()["parameters"]]
