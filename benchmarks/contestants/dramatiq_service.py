"""The contestant Dramatiq: one actor; threads of one process, or processes of one thread each where it computes."""

import json
import os
import signal
import sys
import threading
from typing import Any

import dramatiq
from callers import Callers, fresh_payload
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from tally import counting, read_order
from work import work_of

__all__ = ["handle", "main"]

VARIABLE = "MF_BENCH_ORDER"
"""Processes of Dramatiq's own command line import this module and find the order here."""

order: dict[str, Any] = json.loads(os.environ[VARIABLE]) if VARIABLE in os.environ else read_order()
dramatiq.set_broker(RabbitmqBroker(url=order["uri"], confirm_delivery=True))
handled = counting(order) if order["role"] == "consume" else None
work = work_of(order)


@dramatiq.actor(queue_name="tasks", max_retries=0)
def handle(payload: dict[str, Any]) -> None:
    handled(payload["id"], work())


def consume() -> None:
    if copies := order.get("copies"):
        os.environ[VARIABLE] = json.dumps(order)
        threads = str(max(1, order["workers"] // copies))
        command = ["-m", "dramatiq", "dramatiq_service", "--processes", str(copies), "--threads", threads]
        os.execv(sys.executable, [sys.executable, *command, "--path", os.path.dirname(__file__)])
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    worker = dramatiq.Worker(dramatiq.get_broker(), worker_threads=order["workers"])
    worker.start()
    stopped.wait()
    worker.stop()
    worker.broker.close()


def send(payloads: list[dict[str, Any]]) -> None:
    for payload in payloads:
        message = handle.message(payload)
        handle.broker.enqueue(message.copy(message_id=payload["id"]))


def main() -> None:
    if order["role"] == "consume":
        consume()
    elif order["mode"] == "once":
        send([fresh_payload(order["size"])])
    else:
        callers = Callers(order)
        threads = [threading.Thread(target=callers.run, args=(send,)) for _ in range(order["callers"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
