"""Nameko services that write down what they get, with context data and call id stack (2.14.1 and 3.0.0rc11)."""

import time

from nameko.events import EventDispatcher, event_handler
from nameko.extensions import DependencyProvider
from nameko.rpc import rpc

LOG = []


class WorkerContext(DependencyProvider):
    """Hands the worker context to the service instance."""

    def get_dependency(self, worker_ctx):
        return worker_ctx


def note(handler, context, payload):
    # In 3.x the context data holds the stack as well, in 2.x it does not.
    data = {key: value for key, value in context.data.items() if key != "call_id_stack"}
    LOG.append({"handler": handler, "payload": payload, "context": data, "stack": list(context.call_id_stack)})


class Witness:
    """Hears everything and tells the tests."""

    name = "witness"
    context = WorkerContext()

    @event_handler("middle", "passed")
    def on_passed(self, payload):
        note("passed", self.context, payload)

    @event_handler("relay", "hopped")
    def on_hopped(self, payload):
        note("hopped", self.context, payload)

    @event_handler("source", "seen")
    def on_seen(self, payload):
        note("seen", self.context, payload)

    @event_handler("source", "typed")
    def on_typed(self, payload):
        note("typed", self.context, {key: repr(value) for key, value in payload.items()})

    @rpc
    def log(self):
        return LOG


class Relay:
    """Passes on what it hears, as Nameko does: with all context data."""

    name = "relay"
    dispatch = EventDispatcher()

    @event_handler("ours", "hop")
    def on_hop(self, payload):
        self.dispatch("hopped", payload)


class Pooled:
    """Shares its queues with a service of ours that has the same name and methods."""

    name = "pooled"
    context = WorkerContext()

    @event_handler("source", "shared")
    def handle(self, payload):
        note("shared", self.context, payload)

    @event_handler("source", "held")
    def hold(self, payload):
        if payload["blocks"] == "nameko":
            time.sleep(60)
        note("held", self.context, payload)

    @rpc
    def log(self):
        return LOG
