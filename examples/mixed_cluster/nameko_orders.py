"""Orders, an ordinary service on Nameko 2.14.1: places an order twice a second while the shop is open."""

from importlib.metadata import version

from arrows import arrow
from nameko.events import EventDispatcher, event_handler
from nameko.rpc import RpcProxy, rpc
from nameko.timer import timer

ME = ["orders", f"Nameko {version('nameko')}"]


class Orders:
    name = "orders"

    stock = RpcProxy("stock")
    dispatch = EventDispatcher()

    is_open = False
    placed = 0

    @timer(interval=0.5)
    def place(self):
        if not Orders.is_open:
            return
        Orders.placed += 1
        order = Orders.placed
        arrow("call", "reserve", order, ME, self.stock.reserve(order))
        self.dispatch("placed", {"order": order, "sender": ME})

    @rpc
    def address(self, order):
        return ME

    @event_handler("shipping", "shipped")
    def shipped(self, payload):
        arrow("event", "shipped", payload["order"], payload["sender"], ME)

    @rpc
    def open(self):
        Orders.is_open = True

    @rpc
    def close(self):
        """No more orders; how many there were."""
        Orders.is_open = False
        return Orders.placed
