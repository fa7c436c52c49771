"""A Nameko service written for nameko-amqp-retry, as its users write them."""

import importlib.metadata

import nameko_amqp_retry
from kombu import Queue
from nameko.events import EventDispatcher
from nameko.messaging import Publisher
from nameko_amqp_retry import Backoff, entrypoint_retry
from nameko_amqp_retry.events import event_handler
from nameko_amqp_retry.messaging import consume
from nameko_amqp_retry.rpc import rpc

TRIES = {}


def count(what):
    TRIES[what] = TRIES.get(what, 0) + 1
    return TRIES[what]


class Soon(Backoff):
    schedule = (50, 100)
    random_sigma = 0
    limit = 3


class Retrying:
    name = "retrying"
    dispatch = EventDispatcher()
    publish = Publisher()

    @rpc
    def at_the_third(self, what):
        number = count(what)
        if number < 3:
            raise Soon()
        return number

    @rpc
    def never(self, what):
        count(what)
        raise Soon()

    @rpc(expected_exceptions=ValueError)
    @entrypoint_retry(retry_for=LookupError, limit=2, schedule=(50,), random_sigma=0)
    def decorated(self, what):
        number = count(what)
        if number < 2:
            raise KeyError(what)
        raise ValueError("not tried again")

    @rpc
    def order(self, what):
        self.dispatch("ordered", what)

    @event_handler("retrying", "ordered")
    def ordered(self, what):
        if count(f"event {what}") < 2:
            raise Soon()
        self.publish(what, routing_key="retrying-parcels")

    @consume(Queue("retrying-parcels"))
    def parcel(self, what):
        if count(f"parcel {what}") < 2:
            raise Soon()
        count(f"done {what}")

    @rpc
    def tries(self):
        return TRIES

    @rpc
    def whose(self):
        installed = [found.version for found in importlib.metadata.distributions(name="nameko-amqp-retry")]
        return [nameko_amqp_retry.__name__, installed]
