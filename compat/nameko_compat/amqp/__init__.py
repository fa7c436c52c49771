"""What Nameko has of AMQP in packages of its own; here only what services and tests use."""

from nameko_compat.amqp.publish import UndeliverableMessage, get_connection, get_producer

__all__ = ["UndeliverableMessage", "get_connection", "get_producer"]
