"""A service that a browser and an RPC caller ask for the same thing."""

from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.websocket.entrypoints import WebSocketListener


class UnknownFruit(Exception):
    pass


class Prices:
    name = "prices"

    prices = {"apple": 3, "pear": 4}

    @RPCListener()
    @WebSocketListener(expected_exceptions=[UnknownFruit])
    def price(self, fruit, count=1):
        if fruit not in self.prices:
            raise UnknownFruit(fruit)
        return {"fruit": fruit, "total": count * self.prices[fruit]}
