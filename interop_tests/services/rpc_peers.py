"""Nameko services that call others by RPC, ours among them (2.14.1 and 3.0.0rc11)."""

import datetime as dt
import decimal
import time
import uuid

from nameko.events import event_handler
from nameko.exceptions import deserialize_to_instance, serialize
from nameko.extensions import DependencyProvider
from nameko.rpc import RpcProxy, rpc

TYPED = {
    "dt": dt.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC),
    "naive": dt.datetime(2020, 1, 2, 3, 4, 5),
    "date": dt.date(2020, 1, 2),
    "dec": decimal.Decimal("1.10"),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "tuple": (1, 2),
    "text": "caf\u00e9",
}
OUTCOMES = []


@deserialize_to_instance
class Shared(Exception):
    """Registered on both sides."""


class WorkerContext(DependencyProvider):
    """Hands the worker context to the service instance."""

    def get_dependency(self, worker_ctx):
        return worker_ctx


class Typist:
    """Sends and shows values of every type."""

    name = "typist"
    ours = RpcProxy("ours")

    @rpc
    def show(self, value):
        return {key: repr(each) for key, each in value.items()}

    @rpc
    def send(self):
        return self.ours.show(TYPED)

    @rpc
    def send_bytes(self, hexadecimal):
        return self.ours.show({"bytes": bytes.fromhex(hexadecimal)})

    @rpc
    def give(self):
        return TYPED

    @rpc
    def give_bytes(self, hexadecimal):
        return bytes.fromhex(hexadecimal)

    @rpc
    def fetch(self):
        return self.show(self.ours.give())

    @rpc
    def fetch_bytes(self, hexadecimal):
        return repr(self.ours.give_bytes(hexadecimal))


class Raising:
    """Raises what is registered on both sides, and catches what ours raises."""

    name = "raising"
    ours = RpcProxy("ours")

    @rpc
    def fail(self, *args):
        raise Shared(*args)

    @rpc
    def catch(self, *args):
        try:
            self.ours.fail(*args)
        except Exception as exc:
            return {"is_shared": type(exc) is Shared, "args": exc.args, "error": serialize(exc)}


class Through:
    """Passes a call on to `target`, with whatever becomes of it."""

    name = "through"
    target = RpcProxy("target")
    nosuch = RpcProxy("nosuch")

    @rpc
    def pass_on(self, proxy, method, args):
        return getattr(getattr(self, proxy), method)(*args)


class Hop:
    """In a chain of calls, as `own_services.Hop`."""

    name = "theirs"
    ours = RpcProxy("ours")
    theirs = RpcProxy("theirs")
    ctx = WorkerContext()

    @rpc
    def hop(self, chain):
        called = getattr(self, chain[0])
        return called.context() if len(chain) == 1 else called.hop(chain[1:])

    @rpc
    def context(self):
        # In 3.x the context data holds the stack as well, in 2.x it does not.
        data = {key: value for key, value in self.ctx.data.items() if key != "call_id_stack"}
        return {"data": data, "stack": list(self.ctx.call_id_stack)}


class Waiting:
    """Calls ours when it hears an event, and waits; tells what became of it."""

    name = "waiting"
    working = RpcProxy("working")

    @event_handler("control", "call")
    def on_call(self, payload):
        try:
            OUTCOMES.append({"result": getattr(self.working, payload["method"])(*payload["args"])})
        except Exception as exc:
            OUTCOMES.append({"error": serialize(exc)})

    @rpc
    def outcomes(self):
        return OUTCOMES


class Busy:
    """Under load: calls ours, and is called by it."""

    name = "theirs"
    ours = RpcProxy("ours")

    @rpc
    def square(self, n):
        return n * n

    @rpc
    def fourth_power(self, n):
        return self.ours.square(self.square(n))

    @rpc
    def ask_many(self, numbers):
        replies = [self.ours.fourth_power.call_async(n) for n in numbers]
        return [reply.result() for reply in replies]

    @rpc
    def slow(self, seconds):
        time.sleep(seconds)
        return seconds
