"""A trace that passes through a Nameko process which knows nothing of tracing."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from interop_tests.nameko_process import Nameko
from micro_framework import tracing
from micro_framework.amqp.dependencies import RPCProxy
from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.testing.services import client_for, running
from tests.test_tracing import Spans


class First:
    """Ours: calls Nameko's `through`, which calls `target`, ours again."""

    name = "first"
    through = RPCProxy("through")

    @RPCListener()
    def begin(self, value: str) -> Any:
        return self.through.pass_on("target", "end", [value])


class Last:
    """Ours."""

    name = "target"

    @RPCListener()
    def end(self, value: str) -> str:
        return value


def test_a_trace_survives_a_nameko_service(nameko: Nameko, monkeypatch: pytest.MonkeyPatch, marker: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(traced := Spans()))
    monkeypatch.setattr(tracing, "found", tracing.Spans(provider))
    nameko.run("rpc_peers:Through")
    with running(First, Last, config={"AMQP_URI": nameko.vhost.uri}) as runner, client_for(runner, timeout=60) as rpc:
        assert rpc.first.begin(marker) == marker
        into_nameko = traced.one("through/pass_on", SpanKind.CLIENT)
        out_of_nameko = traced.one("target/end", SpanKind.SERVER)
    provider.shutdown()
    assert into_nameko.context.trace_id == out_of_nameko.context.trace_id
    assert out_of_nameko.parent is not None
    assert out_of_nameko.parent.span_id == into_nameko.context.span_id
