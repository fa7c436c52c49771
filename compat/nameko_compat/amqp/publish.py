"""The error of a message that no queue is bound for."""

from micro_framework.exceptions import Unroutable as UndeliverableMessage
from nameko_compat.absent import refusing

__all__ = ["UndeliverableMessage"]

__getattr__ = refusing(__name__)
