"""Services for worker processes on a broker; what their calls have to tell, they dispatch as events."""

import ctypes
import os
from typing import Any

from kombu import Queue

from micro_framework.amqp.dependencies import Producer, Publisher
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import CallContext
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route


class Shop:
    """Tells what became of its orders."""

    name = "shop"
    dispatch = Producer()
    context = CallContext()
    retry = BackOffData()

    @EventListener("web", "ordered")
    def order(self, payload: Any) -> None:
        self.context.data["seen_by"] = "shop"
        self.dispatch("accepted", {"order": payload, "pid": os.getpid()})

    @route(
        EventListener("web", "cancelled"),
        backoff=AsyncBackOff(max_retries=2, interval=10, exception_list=["builtins.TimeoutError"]),
        on_failure="not_cancelled",
    )
    def cancel(self, payload: Any) -> None:
        self.dispatch("tried", self.retry.retry_count)
        raise TimeoutError("the bank does not answer")

    def not_cancelled(self, payload: Any, exception: BaseException) -> None:
        self.dispatch("not_cancelled", [payload, str(exception), self.retry.retry_count])

    @EventListener("web", "broken")
    def die(self, payload: Any) -> None:
        if payload == "fatal":
            os._exit(1)
        self.dispatch("survived", payload)

    @EventListener("web", "searched")
    def search(self, payload: int) -> None:
        """Holds the interpreter for so many seconds, as a regular expression may."""
        self.dispatch("found", "searching")
        ctypes.PyDLL(None).sleep(payload)
        self.dispatch("found", "found")


class Stock:
    """Its publisher declares a queue."""

    name = "stock"
    publish = Publisher(declare=[Queue("jobs", durable=True)])

    @EventListener("web", "ordered")
    def order(self, payload: Any) -> None: ...
