"""Traces through services, with the SDK of OpenTelemetry."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from micro_framework import tracing
from micro_framework.amqp.dependencies import Producer, Publisher, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.dependencies import CallContext
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.testing import client_for, producer_for, running
from tests.outside import memory_uri
from tests.processes import ServiceProcess

ROOT = Path(__file__).resolve().parent.parent
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


SECONDS = 30.0


class Spans(SpanExporter):
    """The spans that have ended; more can be waited for."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []
        self.changed = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self.changed:
            self.ended += spans
            self.changed.notify_all()
        return SpanExportResult.SUCCESS

    def named(self, name: str, count: int = 1, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """So many spans of a name, in the order in which they ended."""

        def found() -> list[ReadableSpan]:
            return [span for span in self.ended if span.name == name and kind in (None, span.kind)]

        with self.changed:
            enough = self.changed.wait_for(lambda: len(found()) >= count, SECONDS)
            assert enough, f"no {count} x {name!r} in {[span.name for span in self.ended]}"
            return found()

    def one(self, name: str, kind: SpanKind | None = None) -> ReadableSpan:
        (span,) = self.named(name, kind=kind)
        return span


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Tracing as if the application had set it up; the process's own provider cannot be taken back."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans := Spans()))
    monkeypatch.setattr(tracing, "found", tracing.Spans(provider))
    yield spans
    provider.shutdown()


class Shop:
    name = "shop"
    bank = RPCProxy("bank")
    dispatch = Producer()
    publish = Publisher(routing_key="nowhere")
    context = CallContext()

    @RPCListener()
    def buy(self, price: int) -> Any:
        self.publish({})
        answer = self.bank.charge(price)
        self.dispatch("bought", {"price": price})
        return answer


class Bank:
    name = "bank"
    context = CallContext()

    @RPCListener()
    def charge(self, price: int) -> Any:
        if price < 0:
            raise ValueError("no money")
        return dict(self.context.data)


class Stock:
    name = "stock"
    retry = BackOffData()
    context = CallContext()

    @route(EventListener("shop", "bought"), backoff=AsyncBackOff(max_retries=1, interval=1))
    def ship(self, payload: Any) -> None:
        if self.retry.retry_count == 0:
            raise LookupError("not yet")


BOUGHT = "process shop.events:bought:evt-shop-bought--stock.ship"


def test_one_trace_through_calls_events_and_retries(traced: Spans) -> None:
    config = {"AMQP_URI": memory_uri()}
    with running(Shop, Bank, Stock, config=config) as runner, client_for(runner) as rpc:
        rpc.shop.buy(7)
        # A retry comes back through the default exchange.
        attempts = [traced.one(BOUGHT), traced.one("process evt-shop-bought--stock.ship")]
        outermost = traced.one("shop/buy", SpanKind.CLIENT)
        served = traced.one("shop/buy", SpanKind.SERVER)
        client = traced.one("bank/charge", SpanKind.CLIENT)
        server = traced.one("bank/charge", SpanKind.SERVER)
    sent = traced.one("send shop.events:bought")
    published = traced.one("send nowhere")
    children = {served: outermost, client: served, server: client, sent: served, published: served}
    assert [child.parent and child.parent.span_id for child in children] == [
        parent.context.span_id for parent in children.values()
    ]
    assert [attempt.parent.span_id for attempt in attempts if attempt.parent] == [sent.context.span_id] * 2
    assert [attempt.attributes["micro_framework.retry_count"] for attempt in attempts if attempt.attributes] == [0, 1]
    assert attempts[0].attributes is not None
    assert attempts[0].attributes["error.type"] == "LookupError"
    assert (attempts[0].status.is_ok, attempts[1].status.is_ok) == (False, True)
    assert len({span.context.trace_id for span in traced.ended}) == 1
    assert attempts[0].attributes is not None
    assert {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop.events:bought:evt-shop-bought--stock.ship",
        "messaging.rabbitmq.destination.routing_key": "bought",
    }.items() <= attempts[0].attributes.items()
    assert sent.kind is SpanKind.PRODUCER
    assert server.attributes is not None
    assert server.attributes["rpc.method"] == "bank/charge"


def test_a_failed_call_is_an_error_on_both_sides(traced: Spans) -> None:
    with running(Bank, config={"AMQP_URI": memory_uri()}) as runner, client_for(runner) as rpc:
        with pytest.raises(Exception, match="no money"):
            rpc.bank.charge(-1)
        spans = traced.named("bank/charge", 2)
    assert sorted(span.kind.name for span in spans) == ["CLIENT", "SERVER"]
    assert not any(span.status.is_ok for span in spans)


class Ticking:
    name = "ticking"

    @TimeEntrypoint(interval=3600, eager=True)
    def tick(self) -> None: ...


def test_a_tick_begins_a_trace(traced: Spans) -> None:
    with running(Ticking, config={}):
        span = traced.one("ticking.tick")
    assert (span.parent, span.kind) == (None, SpanKind.INTERNAL)


@pytest.mark.parametrize(
    "headers",
    [
        {"nameko.traceparent": PARENT},
        {"traceparent": PARENT},
        {"nameko.traceparent": PARENT.replace("4bf9", "0000"), "traceparent": PARENT},
        {"traceparent": PARENT, "nameko.traceparent": PARENT.replace("4bf9", "0000")},
    ],
)
def test_the_trace_arrives_in_both_spellings_and_the_plain_one_counts(traced: Spans, headers: dict[str, str]) -> None:
    from micro_framework.amqp.arriving import arriving
    from micro_framework.calls import Call

    class Handle:
        service, method = "stock", "ship"

    context, identity = arriving(headers, Handle(), 10)  # type: ignore[arg-type]
    assert tracing.found is not None
    with tracing.found.running(Call(identity, context=context), None, served=False):
        out: dict[str, Any] = {"nameko.traceparent": "old"}
        tracing.inject(out)
    assert out["traceparent"] == out["nameko.traceparent"] == context["traceparent"]
    assert TRACE in out["traceparent"]
    assert format(traced.one("stock.ship").context.trace_id, "032x") == TRACE


@pytest.mark.parametrize("odd", [7, None, b"\xff", "garbage", ["x"]])
def test_a_header_that_is_no_trace_begins_a_new_one(traced: Spans, odd: object) -> None:
    assert tracing.found is not None
    with tracing.found.within({"traceparent": odd}):
        headers: dict[str, Any] = {}
        tracing.inject(headers)
    assert headers == {}


def test_without_an_sdk_the_trace_is_passed_on_as_nameko_does() -> None:
    assert tracing.found is None
    with running(Shop, Bank, config={"AMQP_URI": memory_uri()}) as runner:
        with client_for(runner, context_data={"traceparent": PARENT}) as rpc:
            assert rpc.shop.buy(1)["traceparent"] == PARENT


def test_many_events_are_one_span(traced: Spans) -> None:
    with running(Stock, config={"AMQP_URI": memory_uri()}) as runner, producer_for(runner, "other") as dispatch:
        dispatch.many([("one", 1), ("two", 2)])
    assert len(traced.named("send other.events")) == 1


def test_without_an_sdk_nothing_of_opentelemetry_is_imported() -> None:
    script = PEERS + (
        "import sys\n"
        "from micro_framework.testing import running\n"
        "with running(Ticking, config={}): pass\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


PEERS = """
from micro_framework.entrypoints import TimeEntrypoint
class Ticking:
    name = "ticking"
    @TimeEntrypoint(interval=3600, eager=True)
    def tick(self): ...
"""


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_example_is_one_trace_in_threads_and_processes(amqp_uri: str, mode: str) -> None:
    options = ["--broker", amqp_uri, "-d", f"WORKER_MODE={mode}", "-d", "MAX_WORKERS=2"]
    process = ServiceProcess(
        ROOT / "examples" / "tracing", ["-m", "micro_framework", "run", "traced", *options], PYTHONDONTWRITEBYTECODE="1"
    )
    names = ("fill the basket", "look at the account", "pack", "traced_shop.buy", "send traced_shop.events:paid")
    try:
        for name in names:
            process.output.wait_for(f'"name": "{name}"')
        process.output.wait_for('"process traced_shop.events:paid:')
        spans = [json.loads(line) for line in process.output.lines if line.startswith("{")]
    finally:
        process.close()
    (root,) = [span for span in spans if span["name"] == "traced_shop.buy"][:1]
    mine = {span["name"]: span for span in spans if span["context"]["trace_id"] == root["context"]["trace_id"]}
    assert set(names) <= mine.keys()
    assert mine["fill the basket"]["parent_id"] == root["context"]["span_id"]
    (handled,) = [span for name, span in mine.items() if name.startswith("process traced_shop.events:paid:")]
    assert mine["pack"]["parent_id"] == handled["context"]["span_id"]
