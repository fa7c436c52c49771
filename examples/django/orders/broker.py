"""The clients of this process, for all its threads; they connect when they are first used."""

from django.conf import settings

from micro_framework.standalone import EventProducer, RPCClient

rpc = RPCClient(settings.AMQP_URI, timeout=5)
dispatch = EventProducer("shop", settings.AMQP_URI)
