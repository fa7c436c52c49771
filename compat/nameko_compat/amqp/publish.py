"""The error of a message that no queue is bound for."""

from micro_framework.exceptions import Unroutable
from nameko_compat.absent import refusing

__all__ = ["UndeliverableMessage"]


class UndeliverableMessage(Unroutable):
    """A mandatory message for which no queue is bound."""

    __module__ = "nameko.amqp.publish"


__getattr__ = refusing(__name__)
