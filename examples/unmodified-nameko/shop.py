"""Two ordinary Nameko services, as in any Nameko project: no word of micro_framework, and eventlet in use."""

import eventlet
from nameko.events import EventDispatcher, event_handler
from nameko.rpc import RpcProxy, rpc
from nameko.timer import timer


class Stock:
    name = "stock"

    @rpc
    def price(self, article):
        eventlet.sleep(0.1)
        return {"tea": 4, "milk": 1, "sugar": 2}[article]


class Shop:
    name = "shop"

    stock = RpcProxy("stock")
    dispatch = EventDispatcher()

    @timer(interval=2, eager=True)
    def buy(self):
        pool = eventlet.GreenPool()
        prices = list(pool.imap(self.stock.price, ["tea", "milk", "sugar"]))
        self.dispatch("bought", {"prices": prices, "total": sum(prices)})

    @event_handler("shop", "bought")
    def bought(self, payload):
        print("bought for", payload["total"], flush=True)
