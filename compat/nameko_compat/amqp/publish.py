"""The error of a message that no queue is bound for."""

from micro_framework.exceptions import Unroutable as UndeliverableMessage

__all__ = ["UndeliverableMessage"]
