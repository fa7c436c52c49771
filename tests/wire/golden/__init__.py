"""What real Nameko services declared and sent, captured from nameko 2.14.1 and 3.0.0rc11 on RabbitMQ 3.10.8.

``golden.json`` was decoded from the AMQP frames (declarations, messages) and from RabbitMQ's management API (topology).
What is new in every run is a placeholder there: ``<uuid-N>``, equal within a scenario where the values were equal,
``<uuid-hex>``, ``<addr>``.

The services were: ``source`` (dispatcher, publishers), ``target`` (handlers of all types, consumers, RPC methods),
``caller`` (calls ``target``), ``web`` and ``ticker`` (dispatchers).
"""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

VERSIONS: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())["versions"]

NAMEKO, RAW_CLIENT = "nameko", "raw-client"
TIMER_MESSAGES = "published_at_start(timer eager=True dispatching None)"


def scenarios(version: str) -> list[dict[str, Any]]:
    """All scenarios of a version, the messages sent at start as one of them."""
    at_start = {"scenario": "timer at start", "messages": VERSIONS[version][TIMER_MESSAGES]}
    return [*VERSIONS[version]["scenarios"], at_start]


def all_messages(sender: str) -> list[tuple[str, dict[str, Any]]]:
    """Every message of a sender in both versions, each with a name to show."""
    return [
        (f"{version}: {scenario['scenario']}", message)
        for version in VERSIONS
        for scenario in scenarios(version)
        for message in scenario["messages"]
        if message.get("sender", NAMEKO) == sender
    ]


def body_of(message: dict[str, Any]) -> bytes:
    """The message's body as it was on the wire."""
    return b64decode(message["body_base64"]) if "body_base64" in message else message["body"].encode()


def is_reply(message: dict[str, Any]) -> bool:
    return message["routing_key"].startswith("<uuid")


def is_request(message: dict[str, Any]) -> bool:
    return message["exchange"] == "nameko-rpc" and not is_reply(message)


def replies(sender: str = NAMEKO) -> list[tuple[str, dict[str, Any]]]:
    """Every RPC reply, with its decoded body."""
    return [(name, json.loads(body_of(found))) for name, found in all_messages(sender) if is_reply(found)]
