"""The contestant Celery: one task, acknowledged late; a pool of threads, or of processes where it computes."""

import signal
import threading
from typing import Any

from callers import Callers, fresh_payload
from celery import Celery
from celery.signals import worker_ready
from tally import counting, read_order
from work import work_of

__all__ = ["main"]

order = read_order()
app = Celery("bench", broker=order["uri"], backend="rpc://" if order["role"] in ("serve", "call") else None)
app.conf.update(
    task_default_queue="tasks",
    task_acks_late=True,
    task_ignore_result=order["role"] not in ("serve", "call"),
    worker_prefetch_multiplier=1,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)
handled = counting(order) if order["role"] in ("consume", "serve") else None
work = work_of(order)
write_report = signal.getsignal(signal.SIGUSR1)


@worker_ready.connect
def report_when_asked(**_: Any) -> None:
    """Celery takes the signal for itself when it starts."""
    signal.signal(signal.SIGUSR1, write_report)


@app.task(name="handle")
def handle(payload: dict[str, Any]) -> None:
    handled(payload["id"], work())


@app.task(name="echo")
def echo(payload: dict[str, Any]) -> dict[str, Any]:
    handled(payload["id"])
    return payload


def serve() -> None:
    pool = "prefork" if order.get("copies") else "threads"
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    app.worker_main(["worker", "--pool", pool, "--concurrency", str(order["workers"]), *options])


def send(payloads: list[dict[str, Any]]) -> None:
    for payload in payloads:
        handle.apply_async((payload,), task_id=payload["id"])


def in_threads(target: Any, *arguments: Any) -> None:
    threads = [threading.Thread(target=target, args=arguments) for _ in range(order["callers"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    if order["role"] in ("consume", "serve"):
        serve()
    elif order["role"] == "call":
        in_threads(Callers(order).run_calls, lambda payload: echo.delay(payload).get(timeout=30))
    elif order["mode"] == "once":
        send([fresh_payload(order["size"])])
    else:
        in_threads(Callers(order).run, send)


if __name__ == "__main__":
    main()
