"""An order that is placed, charged and shipped, as one trace on the console."""

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.entrypoints import TimeEntrypoint

provider = TracerProvider(resource=Resource.create({"service.name": "traced-shop"}))
exporter = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))  # in production: BatchSpanProcessor(OTLPSpanExporter())
trace.set_tracer_provider(provider)

tracer = trace.get_tracer(__name__)


class Shop:
    name = "traced_shop"
    bank = RPCProxy("traced_bank")
    dispatch = Producer()

    @TimeEntrypoint(interval=10, eager=True)
    def buy(self):
        with tracer.start_as_current_span("fill the basket"):
            price = 3 + 4
        self.bank.charge(price)
        self.dispatch("paid", {"price": price})


class Bank:
    name = "traced_bank"

    @RPCListener()
    def charge(self, price):
        with tracer.start_as_current_span("look at the account"):
            return price


class Stock:
    name = "traced_stock"

    @EventListener("traced_shop", "paid")
    def ship(self, payload):
        with tracer.start_as_current_span("pack"):
            return payload
