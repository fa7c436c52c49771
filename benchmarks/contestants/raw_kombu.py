"""The contestant raw kombu: one thread, decode, acknowledge, nothing else, driven as ``ConsumerMixin`` drives it."""

import contextlib
import socket
import uuid
from typing import Any

from callers import Callers, fresh_payload
from kombu import Connection, Consumer, Exchange, Producer, Queue
from tally import Tally, read_order

__all__ = ["main"]

EXCHANGE = Exchange("source.events", type="topic", durable=True)
QUEUE = Queue("evt-source-tick--bench.handle", exchange=EXCHANGE, routing_key="tick", durable=True)


def consume(order: dict[str, Any], connection: Connection) -> None:
    handled = Tally(order).handled

    def handle(payload: dict[str, Any], message: Any) -> None:
        handled(payload["id"])
        message.ack()

    with Consumer(connection, [QUEUE], callbacks=[handle], accept=["json"], prefetch_count=order["workers"]):
        while True:
            with contextlib.suppress(socket.timeout):
                connection.drain_events(timeout=1)


def publish(order: dict[str, Any], connection: Connection) -> None:
    producer = Producer(connection, exchange=EXCHANGE, serializer="json")
    headers = {"nameko.call_id_stack": [f"source.go.{uuid.uuid4()}"]}

    def send(payloads: list[dict[str, Any]]) -> None:
        producer.publish(payloads[0], routing_key="tick", headers=headers, delivery_mode=2)

    if order["mode"] == "once":
        send([fresh_payload(order["size"])])
    else:
        Callers(order).run(send)


def main() -> None:
    order = read_order()
    with Connection(order["uri"], transport_options={"confirm_publish": order["role"] == "publish"}) as connection:
        {"consume": consume, "publish": publish}[order["role"]](order, connection)


if __name__ == "__main__":
    main()
