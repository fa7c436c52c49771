"""The contestant raw py-amqp: one thread, no kombu, no timeout for each read."""

import json
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
from callers import Callers, fresh_payload
from tally import Tally, read_order

__all__ = ["main"]

QUEUE = "evt-source-tick--bench.handle"


def connect(uri: str, confirm: bool) -> amqp.Connection:
    parts = urlsplit(uri)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}",
        userid=parts.username,
        password=parts.password,
        virtual_host=unquote(parts.path[1:]),
        confirm_publish=confirm,
    )
    connection.connect()
    return connection


def consume(order: dict[str, Any], channel: amqp.Channel) -> None:
    handled = Tally(order).handled
    acknowledge = channel.basic_ack

    def handle(message: amqp.Message) -> None:
        handled(json.loads(message.body)["id"])
        acknowledge(message.delivery_tag)

    channel.basic_qos(0, order["workers"], False)
    channel.basic_consume(QUEUE, callback=handle)
    while True:
        channel.connection.drain_events()


def publish(order: dict[str, Any], channel: amqp.Channel) -> None:
    properties = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "application_headers": {"nameko.call_id_stack": [f"source.go.{uuid.uuid4()}"]},
    }

    def send(payloads: list[dict[str, Any]]) -> None:
        channel.basic_publish_confirm(amqp.Message(json.dumps(payloads[0]), **properties), "source.events", "tick")

    if order["mode"] == "once":
        send([fresh_payload()])
    else:
        Callers(order).run(send)


def main() -> None:
    order = read_order()
    with connect(order["uri"], confirm=order["role"] == "publish") as connection:
        {"consume": consume, "publish": publish}[order["role"]](order, connection.channel())


if __name__ == "__main__":
    main()
