"""A Nameko service, as `micro-framework migrate check` and `migrate rewrite` read it; it is not run here."""

from nameko.events import EventDispatcher, event_handler
from nameko.rpc import RpcProxy, rpc
from nameko.timer import timer


class Shop:
    name = "shop"

    dispatch = EventDispatcher()
    payments = RpcProxy("payments")

    @rpc
    def order(self, customer, items):
        charge = self.payments.charge(customer, len(items))
        self.dispatch("ordered", {"customer": customer, "charge": charge})
        return charge

    @event_handler("payments", "refunded", requeue_on_error=True)
    def refunded(self, payload):  # the whole order
        self.dispatch("cancelled", payload)

    @timer(interval=60)
    def report(self):
        print("still open")
