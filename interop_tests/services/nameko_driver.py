"""Runs in Nameko's environment: does what its standard input asks, one JSON object a line, and answers likewise.

Requests: ``{"do": "call", "service", "method", "args", "kwargs", "context"}``, ``{"do": "fan_out", "service", "method",
"arguments"}`` and ``{"do": "dispatch", "service", "event", "payload"}``. Answers: ``{"result": ...}`` or
``{"error": {"type", "text", "exc_type", "value"}}``. The first line written is ``{"result": "ready"}``.
"""

import json
import sys
from typing import Any

import nameko.standalone.events as standalone_events
import nameko.standalone.rpc as standalone_rpc

__all__ = ["Driver", "main"]

IS_VERSION_2 = not hasattr(standalone_rpc, "ClusterRpcClient")


class Driver:
    """Nameko's standalone RPC client and event dispatcher, of whichever version is installed."""

    def __init__(self, uri: str, timeout: float) -> None:
        self.config = {"AMQP_URI": uri}
        self.timeout = timeout
        self.dispatchers: dict[str, Any] = {}

    def rpc(self, context: dict[str, Any] | None) -> Any:
        if IS_VERSION_2:
            return standalone_rpc.ClusterRpcProxy(self.config, context_data=context, timeout=self.timeout)
        client = standalone_rpc.ClusterRpcClient
        return client(context_data=context, timeout=self.timeout, uri=self.config["AMQP_URI"])

    def do_call(
        self, service: str, method: str, args: list[Any], kwargs: dict[str, Any], context: dict[str, Any] | None
    ) -> Any:
        with self.rpc(context) as rpc:
            return getattr(rpc[service], method)(*args, **kwargs)

    def do_fan_out(self, service: str, method: str, arguments: list[list[Any]]) -> list[Any]:
        with self.rpc(None) as rpc:
            called = getattr(rpc[service], method)
            replies = [called.call_async(*args) for args in arguments]
            return [reply.result() for reply in replies]

    def do_dispatch(self, service: str, event: str, payload: Any) -> None:
        if "dispatch" not in self.dispatchers:
            self.dispatchers["dispatch"] = self.dispatcher()
        self.dispatchers["dispatch"](service, event, payload)

    def dispatcher(self) -> Any:
        if IS_VERSION_2:
            return standalone_events.event_dispatcher(self.config)
        return standalone_events.event_dispatcher(uri=self.config["AMQP_URI"])

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        action = getattr(self, f"do_{request.pop('do')}")
        try:
            return {"result": action(**request)}
        except Exception as error:
            return {"error": describe(error)}


def describe(error: Exception) -> dict[str, Any]:
    """An exception as the other side can compare it; `exc_type` and `value` are those of Nameko's `RemoteError`."""
    return {
        "type": type(error).__name__,
        "text": str(error),
        "exc_type": getattr(error, "exc_type", None),
        "value": getattr(error, "value", None),
    }


def write(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer, default=lambda value: {"repr": repr(value)}) + "\n")
    sys.stdout.flush()


def main() -> None:
    driver = Driver(sys.argv[1], float(sys.argv[2]))
    write({"result": "ready"})
    for line in sys.stdin:
        write(driver.answer(json.loads(line)))


if __name__ == "__main__":
    main()
