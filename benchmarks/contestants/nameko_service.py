"""The contestant Nameko, 2.14.1 or 3.0.0rc11 by the environment it runs in."""

import eventlet

eventlet.monkey_patch()

import signal  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import nameko  # noqa: E402
from callers import BATCH, Callers, fresh_payload  # noqa: E402
from nameko.events import EventDispatcher, event_handler  # noqa: E402
from nameko.rpc import rpc  # noqa: E402
from nameko.runners import ServiceRunner  # noqa: E402
from nameko.standalone.rpc import ClusterRpcProxy  # noqa: E402
from tally import Tally, counting, read_order  # noqa: E402
from work import work_of  # noqa: E402

__all__ = ["main"]


def consuming(order: dict[str, Any]) -> type:
    handled, work = counting(order), work_of(order)

    class Bench:
        name = "bench"

        @event_handler("source", "tick")
        def handle(self, payload: dict[str, Any]) -> None:
            handled(payload["id"], work())

    for number in range(order.get("more_routes", 0)):
        setattr(Bench, f"more_{number}", event_handler("source", f"more_{number}")(another(f"more_{number}")))
    return Bench


def another(name: str) -> Callable[..., None]:
    """A method that nothing is sent to."""

    def method(self: Any, payload: Any) -> None: ...

    method.__name__ = name
    return method


def publishing(order: dict[str, Any]) -> type:
    callers = Callers(order)

    class Source:
        name = "source"
        dispatch = EventDispatcher()

        @event_handler("control", "go")
        def go(self, mode: str) -> None:
            if mode == "once":
                self.dispatch("tick", fresh_payload(order["size"]))
            else:
                # Nameko cannot pipeline: `many` is a loop, as a user of Nameko would write it.
                callers.run(self.dispatch_each, BATCH if mode == "many" else 1)

        def dispatch_each(self, payloads: list[dict[str, Any]]) -> None:
            for payload in payloads:
                self.dispatch("tick", payload)

    return Source


def serving(order: dict[str, Any]) -> type:
    handled = Tally(order).handled

    class Bench:
        name = "bench"

        @rpc
        def echo(self, payload: dict[str, Any]) -> dict[str, Any]:
            handled(payload["id"])
            return payload

    return Bench


def call(order: dict[str, Any]) -> None:
    """A proxy, and so a connection, for each caller: Nameko's standalone proxies are for one thread each."""
    callers = Callers(order)

    def caller() -> None:
        with proxy(order["uri"]) as cluster:
            callers.run_calls(cluster.bench.echo)

    threads = [eventlet.spawn(caller) for _ in range(order["callers"])]
    for thread in threads:
        thread.wait()


def proxy(uri: str) -> Any:
    if hasattr(nameko, "config"):
        nameko.config.setup({"AMQP_URI": uri})
        return ClusterRpcProxy()
    return ClusterRpcProxy({"AMQP_URI": uri})


def runner(config: dict[str, Any]) -> ServiceRunner:
    """Nameko 3 has one global configuration, Nameko 2 hands it around."""
    if hasattr(nameko, "config"):
        nameko.config.setup(config)
        return ServiceRunner()
    return ServiceRunner(config)


def main() -> None:
    order = read_order()
    if order["role"] == "call":
        call(order)
        return
    service = {"consume": consuming, "publish": publishing, "serve": serving}[order["role"]](order)
    workers = order["workers"]
    services = runner({"AMQP_URI": order["uri"], "max_workers": workers, "PREFETCH_COUNT": workers})
    services.add_service(service)
    services.start()
    signal.signal(signal.SIGTERM, lambda *_: eventlet.spawn_n(services.stop))  # as `nameko run` does in effect
    services.wait()


if __name__ == "__main__":
    main()
