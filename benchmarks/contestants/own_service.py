"""The contestant micro_framework: classes that handle events, publish them, are called; and a client that calls."""

import threading
from collections.abc import Callable
from typing import Any

from callers import BATCH, Callers, fresh_payload
from tally import Tally, counting, read_order
from work import work_of

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.runner import Runner
from micro_framework.standalone import RPCClient

__all__ = ["main"]


def consuming(order: dict[str, Any]) -> type:
    handled, work = counting(order), work_of(order)

    class Bench:
        name = "bench"

        @EventListener("source", "tick")
        def handle(self, payload: dict[str, Any]) -> None:
            handled(payload["id"], work())

    for number in range(order.get("more_routes", 0)):
        setattr(Bench, f"more_{number}", EventListener("source", f"more_{number}")(another()))
    return Bench


def another() -> Callable[..., None]:
    """A method that nothing is sent to."""

    def method(self: Any, payload: Any) -> None: ...

    return method


def publishing(order: dict[str, Any]) -> type:
    callers = Callers(order)

    class Source:
        name = "source"
        dispatch = Producer()

        @EventListener("control", "go")
        def go(self, mode: str) -> None:
            if mode == "once":
                self.dispatch("tick", fresh_payload(order["size"]))
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
    config = {"AMQP_URI": order["uri"], "MAX_WORKERS": order["workers"], "WORKER_MODE": "thread"}
    if order.get("metrics"):
        config |= {"ENABLE_METRICS": True, "METRICS": {"HOST": "127.0.0.1", "PORT": 0}}
    Runner([service], config).start()


if __name__ == "__main__":
    main()
