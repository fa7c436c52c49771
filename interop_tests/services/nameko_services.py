"""Nameko services that the interop tests talk to; they run on Nameko 2.14.1 and 3.0.0rc11."""

import datetime as dt
import decimal
import time
import uuid

from kombu import Exchange, Queue
from nameko.events import (
    BROADCAST,
    SERVICE_POOL,
    SINGLETON,
    EventDispatcher,
    EventHandler,
    event_handler,
)
from nameko.exceptions import deserialize_to_instance, serialize
from nameko.extensions import DependencyProvider
from nameko.messaging import Publisher, consume
from nameko.rpc import RpcProxy, rpc
from nameko.timer import timer
from nameko.web.handlers import http
from nameko.web.websocket import WebSocketHubProvider, rpc as ws_rpc

RAW_EXCHANGE = Exchange("raw.exchange", type="direct", durable=True)
RAW_QUEUE = Queue("raw.queue", exchange=RAW_EXCHANGE, routing_key="raw.key", durable=True)
LOG = []


class Ctx(DependencyProvider):
    """Hands the worker context to the service instance."""

    def get_dependency(self, worker_ctx):
        return worker_ctx


class StableBroadcast(EventHandler):
    """BROADCAST + reliable delivery needs a fixed identifier."""

    broadcast_identifier = "stable-id"


stable_broadcast = StableBroadcast.decorator


class Boom(Exception):
    pass


@deserialize_to_instance
class Known(Exception):
    pass


class BadStr(Exception):
    def __str__(self):
        raise ValueError("no str for you")


class Source:
    name = "source"
    dispatch = EventDispatcher()
    dispatch_fast = EventDispatcher(use_confirms=False, delivery_mode=1, priority=5)
    publish = Publisher(exchange=RAW_EXCHANGE, declare=[RAW_QUEUE])
    publish_default = Publisher()
    ctx = Ctx()

    @rpc
    def emit(self, event_type, data):
        self.dispatch(event_type, data)

    @rpc
    def emit_fast(self, event_type, data):
        self.dispatch_fast(event_type, data)

    @rpc
    def emit_typed(self):
        self.dispatch(
            "typed",
            {
                "dt": dt.datetime(2020, 1, 2, 3, 4, 5, 678000),
                "date": dt.date(2020, 1, 2),
                "dec": decimal.Decimal("1.10"),
                "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
                "tuple": (1, 2),
                "text": "caf\u00e9",
            },
        )

    @rpc
    def raw(self, payload, options=None):
        self.publish(payload, **dict({"routing_key": "raw.key"}, **(options or {})))

    @rpc
    def raw_default(self, payload, options):
        self.publish_default(payload, **options)


class Target:
    name = "target"
    ctx = Ctx()

    @event_handler("source", "evt.pool", handler_type=SERVICE_POOL)
    def on_pool(self, data):
        LOG.append(("pool", data))

    @event_handler("source", "evt.pool", handler_type=SERVICE_POOL)
    def on_pool_second(self, data):
        LOG.append(("pool2", data))

    @event_handler("source", "evt.pool.unreliable", reliable_delivery=False)
    def on_pool_unreliable(self, data):
        LOG.append(("pool-unreliable", data))

    @event_handler("source", "evt.single", handler_type=SINGLETON)
    def on_single(self, data):
        LOG.append(("single", data))

    @event_handler("source", "evt.bcast", handler_type=BROADCAST, reliable_delivery=False)
    def on_bcast(self, data):
        LOG.append(("bcast", data))

    @stable_broadcast("source", "evt.bcast.stable", handler_type=BROADCAST, reliable_delivery=True)
    def on_bcast_stable(self, data):
        LOG.append(("bcast-stable", data))

    @event_handler("source", "evt.fail")
    def on_fail(self, data):
        LOG.append(("fail", data))
        raise Boom("event handler failed")

    @event_handler("source", "evt.requeue", requeue_on_error=True)
    def on_requeue(self, data):
        n = sum(1 for x in LOG if x[0] == "requeue")
        LOG.append(("requeue", data))
        if n < 2:
            raise Boom("requeue me")

    @event_handler("source", "evt.*")
    def on_wildcard(self, data):
        LOG.append(("wild", data))

    @consume(RAW_QUEUE)
    def on_raw(self, body):
        LOG.append(("raw", repr(body)))

    @consume(Queue("raw.requeue", exchange=RAW_EXCHANGE, routing_key="raw.requeue"), requeue_on_error=True)
    def on_raw_requeue(self, body):
        n = sum(1 for x in LOG if x[0] == "rawrequeue")
        LOG.append(("rawrequeue", body))
        if n < 1:
            raise Boom("raw requeue")

    @rpc
    def log(self):
        return [list(x) for x in LOG]

    @rpc
    def echo(self, *args, **kwargs):
        return {"args": args, "kwargs": kwargs}

    @rpc
    def add(self, a, b=1):
        return a + b

    @rpc
    def nothing(self):
        return None

    @rpc
    def context(self):
        w = self.ctx
        return {
            "data": dict(w.data),
            "stack": w.call_id_stack,
            "call_id": w.call_id,
            "origin": w.origin_call_id,
            "parent": w.immediate_parent_call_id,
        }

    @rpc(expected_exceptions=(Known,))
    def fail(self, kind):
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
            return 1 + "a"

    @rpc
    def unserializable(self):
        return object()

    @rpc
    def typed(self):
        return {
            "dt": dt.datetime(2020, 1, 2, 3, 4, 5),
            "dec": decimal.Decimal("1.10"),
            "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
            "tuple": (1, 2),
        }

    @rpc
    def typed_bytes(self):
        return b"\x00\xffabc"

    @rpc
    def slow(self, seconds):
        time.sleep(seconds)
        return "slept"


class Caller:
    name = "caller"
    target = RpcProxy("target")
    missing = RpcProxy("nosuch")
    ctx = Ctx()

    @rpc
    def relay(self, method, args=(), kwargs=None):
        try:
            return {"ok": getattr(self.target, method)(*args, **(kwargs or {}))}
        except Exception as exc:
            return {
                "error": serialize(exc),
                "mro": [c.__module__ + "." + c.__name__ for c in type(exc).__mro__],
                "vars": {k: repr(v) for k, v in vars(exc).items()},
                "str": str(exc),
            }

    @rpc
    def call_missing(self):
        try:
            return self.missing.anything(1)
        except Exception as exc:
            return {"error": serialize(exc), "str": str(exc)}

    @rpc
    def fan_out(self, n):
        replies = [self.target.add.call_async(i, b=1) for i in range(n)]
        return [r.result() for r in replies]

    @rpc
    def mutate(self):
        self.ctx.data["added"] = "later"
        self.ctx.data["nothing"] = None
        return self.target.context()


class Web:
    name = "web"
    hub = WebSocketHubProvider()
    dispatch = EventDispatcher()
    target = RpcProxy("target")
    ctx = Ctx()

    @http("GET", "/get/<int:value>")
    def get_value(self, request, value):
        return "value=%d" % value

    @http("POST,PUT", "/post")
    def post(self, request):
        return 201, {"X-Thing": "1"}, request.get_data(as_text=True)

    @http("GET", "/two")
    def two(self, request):
        return 202, "accepted"

    @http("GET", "/bad")
    def bad(self, request):
        return {"not": "a string"}

    @http("GET", "/err/<kind>", expected_exceptions=(Known,))
    def err(self, request, kind):
        raise Known("expected") if kind == "known" else Boom("unexpected")

    @http("GET", "/stack")
    def stack(self, request):
        return str(self.target.context())

    @ws_rpc
    def subscribe(self, socket_id, channel):
        self.hub.subscribe(socket_id, channel)
        return "subscribed to %s" % channel

    @ws_rpc
    def shout(self, socket_id, channel, text):
        self.hub.broadcast(channel, "shouted", {"text": text})
        return self.hub.get_subscriptions(socket_id)

    @ws_rpc
    def whisper(self, socket_id, text):
        return self.hub.unicast(socket_id, "whispered", text)

    @ws_rpc
    def ws_boom(self, socket_id):
        raise Boom("ws")


class Ticker:
    name = "ticker"
    dispatch = EventDispatcher()

    @timer(interval=3600, eager=True)
    def tick(self):
        self.dispatch("ticked", None)
