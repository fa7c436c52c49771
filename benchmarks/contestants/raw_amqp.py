"""The contestant raw py-amqp: one thread, no kombu, no timeout for each read; calls without confirms, one at a time."""

import json
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
from callers import Callers, fresh_payload
from tally import Tally, read_order

__all__ = ["main"]

QUEUE = "evt-source-tick--bench.handle"
RPC_EXCHANGE, RPC_QUEUE = "nameko-rpc", "rpc-bench"
JSON = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}


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
        **JSON,
        "application_headers": {"nameko.call_id_stack": [f"source.go.{uuid.uuid4()}"]},
    }

    def send(payloads: list[dict[str, Any]]) -> None:
        channel.basic_publish_confirm(amqp.Message(json.dumps(payloads[0]), **properties), "source.events", "tick")

    if order["mode"] == "once":
        send([fresh_payload(order["size"])])
    else:
        Callers(order).run(send)


def serve(order: dict[str, Any], channel: amqp.Channel) -> None:
    handled = Tally(order).handled

    def answer(message: amqp.Message) -> None:
        (payload,) = json.loads(message.body)["args"]
        handled(payload["id"])
        body = json.dumps({"result": payload, "error": None})
        reply = amqp.Message(body, correlation_id=message.properties["correlation_id"], **JSON)
        channel.basic_publish(reply, RPC_EXCHANGE, message.properties["reply_to"])
        channel.basic_ack(message.delivery_tag)

    channel.exchange_declare(RPC_EXCHANGE, "topic", durable=True, auto_delete=False)
    channel.queue_declare(RPC_QUEUE, durable=True, auto_delete=False)
    channel.queue_bind(RPC_QUEUE, RPC_EXCHANGE, "bench.*")
    channel.basic_qos(0, order["workers"], False)
    channel.basic_consume(RPC_QUEUE, callback=answer)
    while True:
        channel.connection.drain_events()


def call(order: dict[str, Any], channel: amqp.Channel) -> None:
    reply_to = str(uuid.uuid4())
    queue = f"rpc.reply-raw-{reply_to}"
    headers = {"nameko.call_id_stack": [f"raw.call.{uuid.uuid4()}"]}
    answers: list[amqp.Message] = []
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-expires": 300_000})
    channel.queue_bind(queue, RPC_EXCHANGE, reply_to)
    channel.basic_consume(queue, callback=answers.append)

    def echo(payload: dict[str, Any]) -> Any:
        body = json.dumps({"args": [payload], "kwargs": {}})
        properties = {"correlation_id": str(uuid.uuid4()), "reply_to": reply_to, "application_headers": headers, **JSON}
        channel.basic_publish(amqp.Message(body, **properties), RPC_EXCHANGE, "bench.echo", mandatory=True)
        while not answers:
            channel.connection.drain_events()
        answer = answers.pop()
        channel.basic_ack(answer.delivery_tag)
        return json.loads(answer.body)["result"]

    Callers(order).run_calls(echo)
    channel.queue_delete(queue)


def main() -> None:
    order = read_order()
    with connect(order["uri"], confirm=order["role"] == "publish") as connection:
        roles = {"consume": consume, "publish": publish, "serve": serve, "call": call}
        roles[order["role"]](order, connection.channel())


if __name__ == "__main__":
    main()
