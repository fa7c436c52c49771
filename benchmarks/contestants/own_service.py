"""The contestant micro_framework: classes that handle events, publish them, are called; and a client that calls."""

import threading
from typing import Any

from callers import BATCH, Callers, fresh_payload
from tally import Tally, read_order

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.runner import Runner
from micro_framework.standalone import RPCClient

__all__ = ["main"]


def consuming(order: dict[str, Any]) -> type:
    handled = Tally(order).handled

    class Bench:
        name = "bench"

        @EventListener("source", "tick")
        def handle(self, payload: dict[str, Any]) -> None:
            handled(payload["id"])

    return Bench


def publishing(order: dict[str, Any]) -> type:
    callers = Callers(order)

    class Source:
        name = "source"
        dispatch = Producer()

        @EventListener("control", "go")
        def go(self, mode: str) -> None:
            if mode == "once":
                self.dispatch("tick", fresh_payload())
            elif mode == "many":
                callers.run(lambda payloads: self.dispatch.many(("tick", payload) for payload in payloads), BATCH)
            else:
                callers.run(lambda payloads: self.dispatch("tick", payloads[0]))

    return Source


def serving(order: dict[str, Any]) -> type:
    handled = Tally(order).handled

    class Bench:
        name = "bench"

        @RPCListener()
        def echo(self, payload: dict[str, Any]) -> dict[str, Any]:
            handled(payload["id"])
            return payload

    return Bench


def call(order: dict[str, Any]) -> None:
    callers = Callers(order)
    with RPCClient(order["uri"]) as rpc:
        echo = rpc.bench.echo
        threads = [threading.Thread(target=callers.run_calls, args=(echo,)) for _ in range(order["callers"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main() -> None:
    order = read_order()
    if order["role"] == "call":
        call(order)
        return
    service = {"consume": consuming, "publish": publishing, "serve": serving}[order["role"]](order)
    Runner([service], {"AMQP_URI": order["uri"], "MAX_WORKERS": order["workers"], "WORKER_MODE": "thread"}).start()


if __name__ == "__main__":
    main()
