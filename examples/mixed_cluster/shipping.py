"""Stock, which Nameko calls, and shipping, which hears and calls Nameko, on micro_framework."""

from arrows import arrow

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener


class Stock:
    name = "stock"

    me = ["stock", "micro_framework"]

    @RPCListener()
    def reserve(self, order):
        return self.me

    @RPCListener()
    def price(self, order):
        return self.me


class Shipping:
    name = "shipping"

    orders = RPCProxy("orders")
    books = RPCProxy("books")
    dispatch = Producer()

    me = ["shipping", "micro_framework"]

    @EventListener("payments", "paid")
    def ship(self, payload):
        order = payload["order"]
        arrow("event", "paid", order, payload["sender"], self.me)
        arrow("call", "address", order, self.me, self.orders.address(order))
        arrow("call", "invoice", order, self.me, self.books.invoice(order))
        self.dispatch("shipped", {"order": order, "sender": self.me})
