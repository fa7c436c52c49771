"""Who answers: questions to the replicas of both sides that run no user code.

A question is a request for a method that nobody has, or for the framework's own list of targets. Its answer tells which
exchange the replica publishes to, which is what its configuration says.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from micro_framework.rpc.manager import LIST_TARGETS
from micro_framework.takeover.management import Management
from micro_framework.takeover.operations import (
    Binding,
    bind,
    declare_exchange,
    declare_queue,
    delete_exchange,
    delete_queue,
    quoted,
)
from micro_framework.wire.takeover import PROBE, Names

__all__ = ["Answers", "arriving", "offered", "old_configurations"]

POLL_SECONDS = 0.05
AT_ONCE = 1000
SOON_GONE = {"x-expires": 60_000}


@dataclass(frozen=True, slots=True)
class Answers:
    """How the replicas of the old service are configured.

    Args:
        asked: How many questions there were.
        side: How many were answered on the side exchange: the replica has the new configuration.
        main: How many on the main one: it has not.
    """

    asked: int
    side: int
    main: int


@contextmanager
def listening(management: Management, sources: Sequence[str], key: str) -> Iterator[str]:
    """A queue of our own, bound to exchanges; gone afterwards."""
    queue = f"migrate-{uuid.uuid4()}"
    declare_queue(queue, SOON_GONE).perform(management)
    try:
        for source in sources:
            bind(Binding(source, key, queue)).perform(management)
        yield queue
    finally:
        delete_queue(queue).perform(management)


def publish(management: Management, exchange: str, key: str, reply_to: str) -> bool:
    """Publish a request without arguments; whether it reached a queue."""
    properties = {
        "delivery_mode": 1,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "correlation_id": str(uuid.uuid4()),
        "reply_to": reply_to,
        "priority": 0,
        "headers": {"nameko.call_id_stack": ["micro-framework.migrate"]},
    }
    body = {
        "properties": properties,
        "routing_key": key,
        "payload": json.dumps({"args": [], "kwargs": {}}),
        "payload_encoding": "string",
    }
    return bool(management.ask("POST", f"exchanges/{{vhost}}/{quoted(exchange)}/publish", body)["routed"])


def taken(management: Management, queue: str) -> list[dict[str, Any]]:
    """Take what waits in a queue."""
    body = {"count": AT_ONCE, "ackmode": "ack_requeue_false", "encoding": "auto"}
    found: list[dict[str, Any]] = management.ask("POST", f"queues/{{vhost}}/{quoted(queue)}/get", body)
    return found


def old_configurations(management: Management, names: Names, asked: int, seconds: float) -> Answers:
    """Ask the old side's replicas, all at once, through the side exchange.

    Args:
        management: The broker.
        names: The takeover.
        asked: How many questions; at least four for each replica.
        seconds: How long to wait for answers; a busy replica may not answer in time.
    """
    # Of two words: the links between the exchanges carry keys of one word alone.
    reply_to = f"mfprobe.{uuid.uuid4()}"
    with listening(management, (names.side, names.main), reply_to) as queue:
        for _ in range(asked):
            publish(management, names.side, names.key(PROBE), reply_to)
        found: Counter[str] = Counter()
        deadline = time.monotonic() + seconds
        while found.total() < asked and time.monotonic() < deadline:
            found.update(message["exchange"] for message in taken(management, queue))
            time.sleep(POLL_SECONDS)
    return Answers(asked, found[names.side], found[names.main])


def offered(management: Management, names: Names, seconds: float) -> frozenset[str] | None:
    """Ask the new side which methods it has; None where nobody answers in time."""
    way, reply_to = f"migrate-{uuid.uuid4()}", f"mfprobe.{uuid.uuid4()}"
    declare_exchange(way).perform(management)
    try:
        bind(Binding(way, names.all_methods, names.new)).perform(management)
        with listening(management, (names.main,), reply_to) as queue:
            publish(management, way, names.key(LIST_TARGETS), reply_to)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                for message in taken(management, queue):
                    result = json.loads(message["payload"]).get("result")
                    return frozenset(each["name"] for each in result or ())
                time.sleep(POLL_SECONDS)
        return None
    finally:
        delete_exchange(way).perform(management)


def arriving(management: Management, names: Names, seconds: float) -> Counter[str]:
    """Watch what the gate passes to the old side for so long: how many calls, by method."""
    with listening(management, (names.rest,), names.all_methods) as queue:
        time.sleep(seconds)
        found: Counter[str] = Counter()
        while messages := taken(management, queue):  # what comes meanwhile is no more than what came before
            found.update(message["routing_key"].removeprefix(f"{names.service}.") for message in messages)
            if len(messages) < AT_ONCE:
                break
    return found
