"""OpenTelemetry: spans for what is consumed, published and called, and the trace in the headers.

Tracing is on where the application has set up an OpenTelemetry SDK (a tracer provider): nothing is imported for it here
before the application has done so, and without it a message pays for one look into a dict.

The trace travels as W3C Trace Context, under two names. ``traceparent`` is what other instrumentations read and write.
``nameko.traceparent`` is context data to a Nameko service, which sends it on with everything that it sends; so a trace
survives services that know nothing of it. Of a message that carries both, the first counts: whoever wrote it is the
nearer one.

Names follow the semantic conventions for messaging and RPC as of 2026 (``messaging.operation.name``, ``rpc.method``).
"""

import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from micro_framework.calls import Call
from micro_framework.wire.headers import CONTEXT_PREFIX

__all__ = ["TRACE_HEADERS", "Spans", "calling", "inject", "sending", "spans", "within"]

TRACE_HEADERS = ("traceparent", "tracestate")
SCOPE = "micro_framework"
SYSTEM = {"messaging.system": "rabbitmq"}
RPC_SYSTEM = {"rpc.system.name": "nameko"}

API = "opentelemetry.trace"
"""The module that every application with an SDK has imported."""


class Ended(Protocol):
    """A call that will have an outcome."""

    def add_done_callback(self, fn: Any) -> None:
        """Call ``fn`` with the call once it has ended, on a thread that may wait."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What it ended with."""


class Spans:
    """Makes spans with one tracer provider. Thread safe.

    Args:
        provider: OpenTelemetry's ``TracerProvider``.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.trace = trace
        self.context = context
        self.propagator = TraceContextTextMapPropagator()
        self.tracer = provider.get_tracer(SCOPE)

    def arrived(self, context: Mapping[str, Any]) -> Any:
        """The trace that context data tells of, as OpenTelemetry's context."""
        told = {name: context[name] for name in TRACE_HEADERS if isinstance(context.get(name), str)}
        return self.propagator.extract(told, context=self.context.Context())

    def carried(self) -> dict[str, str]:
        """The running span as headers; empty where none runs."""
        told: dict[str, str] = {}
        self.propagator.inject(told)
        return told

    @contextmanager
    def running(self, call: Call, item: Any, *, served: bool) -> Iterator[Any]:
        """The span of a call: a server's for RPC, a consumer's for a message, else an internal one.

        What the call sends, and what runs it in another process, finds the span in the call's context data.

        Args:
            call: The call.
            item: What its entrypoint received.
            served: Whether a caller waits for its answer.
        """
        identity = call.identity
        exchange, queue = getattr(item, "exchange", None), getattr(item, "queue", None)
        own = {"micro_framework.call_id": identity.call_id, "micro_framework.retry_count": call.attempt.retry_count}
        if served:
            name = f"{identity.service}/{identity.method}"
            kind, about = self.trace.SpanKind.SERVER, {**RPC_SYSTEM, "rpc.method": name}
        elif isinstance(queue, str) and isinstance(exchange, str):
            destination = joined(exchange, getattr(item, "routing_key", ""), queue)
            name, kind = f"process {destination}", self.trace.SpanKind.CONSUMER
            about = {**SYSTEM, **operation("process"), "messaging.destination.name": destination}
            about |= routing_key(getattr(item, "routing_key", ""))
        else:
            name, kind, about = f"{identity.service}.{identity.method}", self.trace.SpanKind.INTERNAL, {}
        with self.tracer.start_as_current_span(
            name, context=self.arrived(call.context), kind=kind, attributes={**about, **own}
        ) as span:
            if isinstance(call.context, MutableMapping):
                replace_trace(call.context, self.carried())
            yield span

    def failed(self, span: Any, error: BaseException) -> None:
        """Note on a span what went wrong."""
        span.set_attribute("error.type", type(error).__qualname__)
        span.record_exception(error)
        span.set_status(self.trace.StatusCode.ERROR, type(error).__name__)

    @contextmanager
    def sending(self, exchange: str, key: str) -> Iterator[Any]:
        """The span of a publish, until the broker has confirmed it."""
        destination = joined(exchange, key)
        about = {**SYSTEM, **operation("send"), "messaging.destination.name": destination, **routing_key(key)}
        with self.tracer.start_as_current_span(
            f"send {destination}",
            kind=self.trace.SpanKind.PRODUCER,
            attributes=about,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                self.failed(span, error)
                raise

    def calling(self, service: str, method: str, headers: MutableMapping[str, Any]) -> "ClientSpan":
        """The span of an RPC call, which goes out in the headers."""
        name = f"{service}/{method}"
        about = {**RPC_SYSTEM, "rpc.method": name, **SYSTEM}
        span = self.tracer.start_span(name, kind=self.trace.SpanKind.CLIENT, attributes=about)
        told: dict[str, str] = {}
        self.propagator.inject(told, context=self.trace.set_span_in_context(span))
        put_trace(headers, told)
        return ClientSpan(self, span)

    @contextmanager
    def within(self, context: Mapping[str, Any]) -> Iterator[None]:
        """Let spans in the block belong to the trace that context data tells of."""
        token = self.context.attach(self.arrived(context))
        try:
            yield
        finally:
            self.context.detach(token)


class ClientSpan:
    """The span of an RPC call that is under way.

    Args:
        spans: Who made it.
        span: OpenTelemetry's span.
    """

    def __init__(self, spans: Spans, span: Any) -> None:
        self.spans = spans
        self.span = span

    def follow(self, call: Ended) -> None:
        """End it with a call."""
        call.add_done_callback(self.ended)

    def ended(self, call: Ended) -> None:
        """The call has ended."""
        try:
            error = call.exception(0)
        except BaseException as cancelled:  # noqa: BLE001 - it was cancelled, or cannot be decoded
            error = cancelled
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """End it."""
        if error is not None:
            self.spans.failed(self.span, error)
        self.span.end()


def joined(*parts: str) -> str:
    """A destination's name: exchange, routing key and queue, as far as they say something that is not said yet."""
    return ":".join(dict.fromkeys(part for part in parts if part)) or "amq.default"


def operation(kind: str) -> dict[str, str]:
    """The attributes for what is done with a message."""
    return {"messaging.operation.name": kind, "messaging.operation.type": kind}


def routing_key(key: str) -> dict[str, str]:
    """The attribute for a routing key, if there is one."""
    return {"messaging.rabbitmq.destination.routing_key": key} if key else {}


def replace_trace(context: MutableMapping[str, Any], told: Mapping[str, str]) -> None:
    """Put the running span into context data, in place of where it came from."""
    if told:
        for name in TRACE_HEADERS:
            context.pop(name, None)
        context.update(told)


def put_trace(headers: MutableMapping[str, Any], told: Mapping[str, str]) -> None:
    """Put a span into headers, under both names."""
    if told:
        for name in TRACE_HEADERS:
            headers.pop(CONTEXT_PREFIX + name, None)
        for name, value in told.items():
            headers[name] = headers[CONTEXT_PREFIX + name] = value


found: Spans | None = None
next_look = 0.0
LOOK_SECONDS = 1.0
"""How long an application with OpenTelemetry's API, but without an SDK, is taken to have none: a look costs 5 us."""
nothing: AbstractContextManager[None] = nullcontext()


def spans() -> Spans | None:
    """What makes spans; None while the application has set up no SDK, and up to a second longer. Thread safe."""
    global next_look
    if found is None and API in sys.modules and time.monotonic() >= next_look:
        next_look = time.monotonic() + LOOK_SECONDS
        look()
    return found


def look() -> None:
    """Find out whether there is an SDK by now."""
    global found
    api = sys.modules[API]
    if hasattr(api, "get_tracer_provider"):  # else it is being imported at this moment
        provider = api.get_tracer_provider()
        if not isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider)):
            found = Spans(provider)


def sending(exchange: str, key: str) -> AbstractContextManager[Any]:
    """The span of a publish, if there is tracing; see `Spans.sending`."""
    made = spans()
    return nothing if made is None else made.sending(exchange, key)


def inject(headers: MutableMapping[str, Any]) -> None:
    """Put the running span into the headers of a message, under both names, if there is tracing."""
    if (made := spans()) is not None:
        put_trace(headers, made.carried())


def calling(service: str, method: str, headers: MutableMapping[str, Any]) -> ClientSpan | None:
    """The span of an RPC call, if there is tracing; see `Spans.calling`."""
    made = spans()
    return None if made is None else made.calling(service, method, headers)


def within(context: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Let spans in the block belong to the trace that context data tells of, if there is tracing."""
    made = spans()
    return nothing if made is None else made.within(context)
