"""Payments on micro_framework. It shares the queue of its event with the Nameko service of the same name."""

from arrows import arrow

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener


class Payments:
    name = "payments"

    stock = RPCProxy("stock")
    dispatch = Producer()

    me = ["payments", "micro_framework"]

    @EventListener("orders", "placed")
    def charge(self, payload):
        order = payload["order"]
        arrow("event", "placed", order, payload["sender"], self.me)
        arrow("call", "price", order, self.me, self.stock.price(order))
        self.dispatch("paid", {"order": order, "sender": self.me})
