"""Whether a broker has the plugin ``rabbitmq_delayed_message_exchange``: it is asked on a connection of its own.

There is no question for it either: an exchange of the plugin's type is declared and deleted. A broker without the
plugin refuses, and RabbitMQ 3.10 closes the whole connection with that refusal (seen: 503; 4.0 and 4.3 say 406 and
close the channel).
"""

from uuid import uuid4

import amqp

from micro_framework.brokers.rabbitmq.connection import LinkConnection
from micro_framework.brokers.rabbitmq.delays import DELAYED_TYPE
from micro_framework.exceptions import BrokerRefused

__all__ = ["require_plugin"]

PROBE_SECONDS = 10.0
NOT_IMPLEMENTED = 540


def require_plugin(connection: LinkConnection, where: str) -> None:
    """Find out, and close the connection.

    Args:
        connection: An open connection that nothing else uses.
        where: The broker, for the message.

    Raises:
        BrokerRefused: The broker does not have the plugin.
        Exception: It could not be found out.
    """
    name = f"mf.probe.{uuid4()}"
    try:
        with connection.within(PROBE_SECONDS):
            channel = connection.channel()
            channel.exchange_declare(name, DELAYED_TYPE, arguments={"x-delayed-type": "direct"})
            channel.exchange_delete(name)
            connection.close()
    except amqp.AMQPError as error:
        if "unknown exchange type" in (error.reply_text or "") or error.reply_code == NOT_IMPLEMENTED:
            raise BrokerRefused(absent(where, error)) from error
        raise
    finally:
        connection.drop()


def absent(where: str, error: amqp.AMQPError) -> str:
    return (
        f"RETRY_BACKEND is plugin, and the broker at {where} does not have rabbitmq_delayed_message_exchange (it said "
        f"{error.reply_text!r}); leave RETRY_BACKEND out, retries need no plugin then, or install it and run "
        "rabbitmq-plugins enable rabbitmq_delayed_message_exchange"
    )
