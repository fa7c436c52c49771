"""Services of ours, some with the methods of Nameko's; they run in the tests' process or by the command line."""

import datetime as dt
import decimal
import os
import time
import uuid
from pathlib import Path
from typing import Any

from micro_framework.amqp.calls import ClusterRPCProxy, RPCProxy
from micro_framework.amqp.serving import RPCListener
from micro_framework.dependencies import CallContext
from micro_framework.rpc import register_exception


class Boom(Exception):
    __module__ = "nameko_services"  # so that its path is the same on the wire as that of Nameko's


@register_exception
class Known(Exception):
    __module__ = "nameko_services"


class BadStr(Exception):
    __module__ = "nameko_services"

    def __str__(self) -> str:
        raise ValueError("no str for you")


class Target:
    name = "target"
    ctx = CallContext()

    @RPCListener()
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return {"args": args, "kwargs": kwargs}

    @RPCListener()
    def add(self, a, b=1):
        return a + b

    @RPCListener()
    def nothing(self) -> None:
        return None

    @RPCListener()
    def context(self) -> Any:
        call = self.ctx
        return {
            "data": dict(call.data),
            "stack": list(call.call_id_stack),
            "call_id": call.call_id,
            "origin": call.origin_call_id,
            "parent": call.immediate_parent_call_id,
        }

    @RPCListener(expected_exceptions=Known)
    def fail(self, kind: str) -> Any:
        if kind == "boom":
            raise Boom("a", 1, {"k": [1, decimal.Decimal("2.5")]}, None)
        if kind == "known":
            raise Known("x", 2)
        if kind == "keyerror":
            raise KeyError("missing")
        if kind == "noargs":
            raise ValueError()
        if kind == "badstr":
            raise BadStr("hidden")
        if kind == "unicode":
            raise Boom("caf\u00e9")
        if kind == "typeerror":
            return 1 + "a"  # type: ignore[operator]
        return None

    @RPCListener()
    def unserializable(self) -> Any:
        return object()

    @RPCListener()
    def typed(self) -> Any:
        return {
            "dt": dt.datetime(2020, 1, 2, 3, 4, 5),
            "dec": decimal.Decimal("1.10"),
            "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
            "tuple": (1, 2),
        }

    @RPCListener()
    def typed_bytes(self) -> bytes:
        return b"\x00\xffabc"

    @RPCListener()
    def slow(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    @RPCListener()
    def process(self) -> int:
        """Which of several processes answers."""
        return os.getpid()


class Hop:
    """In the middle of a chain of calls: calls the next service with what is left of the chain."""

    name = "ours"
    rpc = ClusterRPCProxy()
    ctx = CallContext()

    @RPCListener()
    def hop(self, chain: list[str]) -> Any:
        """Call ``hop`` of the first service of a chain with the rest of it, or ``context`` of the last one."""
        if len(chain) == 1:
            return self.rpc[chain[0]].context()
        return self.rpc[chain[0]].hop(chain[1:])

    @RPCListener()
    def context(self) -> Any:
        call = self.ctx
        return {"data": dict(call.data), "stack": list(call.call_id_stack)}


class Through:
    """Passes a call on to `target`, with whatever becomes of it."""

    name = "through"
    target = RPCProxy("target")
    nosuch = RPCProxy("nosuch")

    @RPCListener()
    def pass_on(self, proxy: str, method: str, args: list[Any]) -> Any:
        return getattr(getattr(self, proxy), method)(*args)


class Working:
    """Notes each run of a call in a file, so that a test sees in which processes it ran, and how often."""

    name = "working"

    @RPCListener()
    def work(self, number: int, folder: str) -> int:
        """Note the run and be done."""
        note_run(number, folder)
        return number

    @RPCListener()
    def hold(self, number: int, folder: str) -> int:
        """Note the run, and be done when there is a file ``go``."""
        note_run(number, folder)
        until = time.monotonic() + 60
        while not (Path(folder) / "go").exists() and time.monotonic() < until:
            time.sleep(0.01)
        return number


def note_run(number: int, folder: str) -> None:
    line = f"{number} {os.getpid()}\n".encode()
    descriptor = os.open(Path(folder) / "runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line)
    os.close(descriptor)


class Busy:
    """Under load: calls Nameko's `theirs`, and is called by it."""

    name = "ours"
    theirs = RPCProxy("theirs")

    @RPCListener()
    def square(self, n: int) -> int:
        return n * n

    @RPCListener()
    def fourth_power(self, n: int) -> Any:
        return self.theirs.square(self.square(n))

    @RPCListener()
    def ask_many(self, numbers: list[int]) -> list[Any]:
        calls = [self.theirs.fourth_power.call_async(n) for n in numbers]
        return [call.result() for call in calls]
