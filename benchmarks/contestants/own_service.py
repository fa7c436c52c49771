"""The contestant micro_framework: one class that handles events, one that publishes them."""

from typing import Any

from callers import BATCH, Callers, fresh_payload
from tally import Tally, read_order

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.runner import Runner

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


def main() -> None:
    order = read_order()
    service = {"consume": consuming, "publish": publishing}[order["role"]](order)
    Runner([service], {"AMQP_URI": order["uri"], "MAX_WORKERS": order["workers"], "WORKER_MODE": "thread"}).start()


if __name__ == "__main__":
    main()
