"""Payments and books, ordinary services on Nameko 3.0.0rc11; payments.py is payments on micro_framework."""

from importlib.metadata import version

from arrows import arrow
from nameko.events import EventDispatcher, event_handler
from nameko.rpc import ServiceRpc, rpc

RUNTIME = f"Nameko {version('nameko')}"


class Payments:
    name = "payments"

    stock = ServiceRpc("stock")
    dispatch = EventDispatcher()

    me = ["payments", RUNTIME]

    @event_handler("orders", "placed")
    def charge(self, payload):
        order = payload["order"]
        arrow("event", "placed", order, payload["sender"], self.me)
        arrow("call", "price", order, self.me, self.stock.price(order))
        self.dispatch("paid", {"order": order, "sender": self.me})


class Books:
    name = "books"

    me = ["books", RUNTIME]

    @rpc
    def invoice(self, order):
        return self.me

    @event_handler("shipping", "shipped")
    def shipped(self, payload):
        arrow("event", "shipped", payload["order"], payload["sender"], self.me)
