"""The contestant FastStream: one subscriber, as many calls at once as the channel's prefetch."""

import asyncio
from typing import Any

from callers import Callers, fresh_payload
from faststream import FastStream
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from tally import counting, read_order
from work import work_of

__all__ = ["main"]

EXCHANGE = RabbitExchange("source.events", ExchangeType.TOPIC, durable=True)
QUEUE = RabbitQueue("evt-source-tick--bench.handle", durable=True, routing_key="tick")
CALLS = RabbitQueue("rpc-bench", durable=True)


def broker_of(order: dict[str, Any]) -> RabbitBroker:
    channel = Channel(prefetch_count=order.get("workers", 10), publisher_confirms=True)
    return RabbitBroker(order["uri"], default_channel=channel, logger=None)


async def consume(order: dict[str, Any]) -> None:
    broker, handled, work, pause = broker_of(order), counting(order), work_of(order), order.get("pause")

    @broker.subscriber(QUEUE, EXCHANGE)
    async def handle(payload: dict[str, Any]) -> None:
        if pause:
            await asyncio.sleep(pause)
            handled(payload["id"])
        else:
            handled(payload["id"], work())

    await FastStream(broker, logger=None).run()


async def publish(order: dict[str, Any]) -> None:
    async with broker_of(order) as broker:

        async def send(payloads: list[dict[str, Any]]) -> None:
            for payload in payloads:
                await broker.publish(payload, exchange=EXCHANGE, routing_key="tick", persist=True)

        if order["mode"] == "once":
            await send([fresh_payload(order["size"])])
        else:
            callers = Callers(order)
            await asyncio.gather(*(callers.run_async(send) for _ in range(order["callers"])))


async def serve(order: dict[str, Any]) -> None:
    broker, handled = broker_of(order), counting(order)

    @broker.subscriber(CALLS)
    async def echo(payload: dict[str, Any]) -> dict[str, Any]:
        handled(payload["id"])
        return payload

    await FastStream(broker, logger=None).run()


async def call(order: dict[str, Any]) -> None:
    callers = Callers(order)
    async with broker_of(order) as broker:

        async def echo(payload: dict[str, Any]) -> Any:
            answer = await broker.request(payload, CALLS, timeout=30, persist=True)
            return await answer.decode()

        await asyncio.gather(*(callers.run_calls_async(echo) for _ in range(order["callers"])))


def main() -> None:
    order = read_order()
    roles = {"consume": consume, "publish": publish, "serve": serve, "call": call}
    asyncio.run(roles[order["role"]](order))


if __name__ == "__main__":
    main()
