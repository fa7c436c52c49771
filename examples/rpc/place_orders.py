"""Calls both services from outside: a script here, in a web application it is the same."""

import os

from micro_framework.exceptions import RemoteError, RPCTimeout, UnknownService
from micro_framework.rpc import discover
from micro_framework.standalone import RPCClient

URI = os.environ.get("AMQP_URI", "amqp://guest:guest@localhost:5672")
CARD = {"number": "4111 1111 1111 1111"}


def main():
    with RPCClient(URI, timeout=10, context_data={"user_id": 7}) as rpc:
        for target in discover(rpc.orders):
            print("orders offers", target.name, "-", target.doc)
        print(rpc.orders.create(7, ["book", "pen"], card=CARD))
        print(rpc.orders.create(7, ["yacht"], card=CARD))
        for attempt in (lambda: rpc.orders.create(7, ["unicorn"], CARD), rpc.invoices.list):
            try:
                attempt()
            except (RemoteError, UnknownService, RPCTimeout) as error:
                print(type(error).__name__, "-", error)


if __name__ == "__main__":
    main()
