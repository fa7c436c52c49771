"""The Nameko service that is taken over, and one that it calls and is called by (2.14.1 and 3.0.0rc11).

A call is a path and an identifier: whoever runs it notes the identifier in the file. A call that a call makes has the
identifier of that one with an ending of its own.
"""

from nameko.events import EventDispatcher, event_handler
from nameko.rpc import RpcProxy, rpc


def note(call):
    path, _, identifier = call.rpartition("|")
    with open(path, "a") as executed:
        executed.write(f"{identifier}\n")
    return "old"


class Orders:
    """What the new class takes over."""

    name = "orders"
    orders = RpcProxy("orders")
    billing = RpcProxy("billing")
    dispatch = EventDispatcher()

    @rpc
    def alpha(self, call):
        return note(call)

    @rpc
    def beta(self, call):
        self.dispatch("made", f"{call}.made")
        return note(call)

    @rpc
    def itself(self, call):
        note(call)
        return self.orders.alpha(f"{call}.inner")

    @rpc
    def chain(self, call):
        note(call)
        return self.billing.charge(f"{call}.inner")

    @event_handler("shop", "paid")
    def on_paid(self, call):
        note(call)


class Billing:
    """The third service."""

    name = "billing"
    orders = RpcProxy("orders")

    @rpc
    def charge(self, call):
        note(call)
        return "charged"

    @rpc
    def through(self, call):
        note(call)
        return self.orders.alpha(f"{call}.inner")

    @event_handler("orders", "made")
    def on_made(self, call):
        note(call)
