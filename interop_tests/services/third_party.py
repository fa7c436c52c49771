"""A Nameko service with third-party extensions, all of them as they were published; real Nameko is beside them."""

import logging
import sys

import eventlet
import nameko
from nameko.events import EventDispatcher, event_handler
from nameko.rpc import rpc
from nameko.timer import timer
from nameko.web.handlers import http
from nameko_prometheus import PrometheusMetrics
from nameko_redis import Redis
from nameko_sentry import SentryReporter
from nameko_sqlalchemy import Database, DatabaseSession
from nameko_tracer import Tracer
from sqlalchemy import Column, Integer, String
from sqlalchemy.orm import declarative_base

Base = declarative_base(name="Base")
TRACES = []
FAILURES = []


class Order(Base):
    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    article = Column(String)


class Keep(logging.Handler):
    def emit(self, record):
        TRACES.append([record.stage.value, record.worker_ctx.entrypoint.method_name, record.getMessage()])


logging.getLogger("nameko_tracer").addHandler(Keep())
logging.getLogger("nameko_tracer").setLevel("INFO")


class Shop:
    name = "shop"
    db = DatabaseSession(Base)
    database = Database(Base)
    metrics = PrometheusMetrics()
    tracer = Tracer()
    redis = Redis("main")
    sentry = SentryReporter()
    dispatch = EventDispatcher()

    @rpc
    def prepare(self):
        Base.metadata.create_all(self.db.get_bind())

    @rpc
    def order(self, article):
        order = Order(article=article)
        self.db.add(order)
        self.db.commit()
        self.dispatch("ordered", order.id)
        return order.id

    @rpc
    def orders(self):
        with self.database.get_session() as session:
            return [order.article for order in session.query(Order).order_by(Order.id)]

    @event_handler("shop", "ordered")
    def ordered(self, number):
        assert self.db.get(Order, number) is not None

    @http("GET", "/metrics")
    def expose(self, request):
        return self.metrics.expose_metrics(request)

    @rpc
    def remember(self, article):
        self.redis.incr(article)
        return int(self.redis.get(article))

    @rpc
    def fail(self, why):
        raise LookupError(why)

    @rpc
    def lose(self, what):
        self.dispatch("lost", what)

    @event_handler("shop", "lost")
    def lost(self, what):
        raise LookupError(what)

    @rpc
    def let_tick_fail(self, why):
        FAILURES.append(why)

    @timer(interval=0.1)
    def tick(self):
        if FAILURES:
            raise LookupError(FAILURES.pop())

    @rpc
    def traces(self):
        return TRACES

    @rpc
    def whose(self):
        return [nameko.__name__, eventlet.__name__, sorted(name for name in sys.modules if name == "greenlet")]
