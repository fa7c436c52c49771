"""What is done to a broker, one operation at a time: each is a line of a plan, and a request to the HTTP API."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from micro_framework.takeover.management import Management, ManagementRefused

__all__ = [
    "VHOST",
    "Binding",
    "Operation",
    "bind",
    "clear_policy",
    "declare_exchange",
    "declare_queue",
    "delete_exchange",
    "delete_queue",
    "quoted",
    "set_policy",
    "unbind",
]

NOT_FOUND = 404
VHOST = "{vhost}"
"""Stands for the virtual host in paths and in command lines."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding.

    Args:
        source: The exchange it leads from.
        key: The binding key.
        destination: What it leads to.
        to_queue: Whether that is a queue, and not an exchange.
    """

    source: str
    key: str
    destination: str
    to_queue: bool = True

    @property
    def path(self) -> str:
        """Where the HTTP API keeps it."""
        kind = "q" if self.to_queue else "e"
        return f"bindings/{{vhost}}/e/{quoted(self.source)}/{kind}/{quoted(self.destination)}"

    def __str__(self) -> str:
        return f"{self.source} --{self.key}--> {self.destination}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, done once or more with the same effect.

    Args:
        text: What it is, for people.
        method: The HTTP method.
        path: The path below ``/api/``.
        body: What is sent.
        for_operators: The same as a command line for somebody who may do more; empty where nobody needs that.
    """

    text: str
    method: str
    path: str
    body: Mapping[str, Any] | None = field(default=None, hash=False)
    for_operators: str = ""

    def perform(self, management: Management) -> None:
        """Do it; what is to be taken away and is not there is taken away already.

        Raises:
            BrokerError: It cannot be done.
        """
        try:
            management.ask(self.method, self.path, self.body)
        except ManagementRefused as refusal:
            if not (self.method == "DELETE" and refusal.status == NOT_FOUND):
                raise


def quoted(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def declare_exchange(name: str, arguments: Mapping[str, Any] | None = None) -> Operation:
    """Declare a durable topic exchange."""
    body = {"type": "topic", "durable": True, "auto_delete": False, "arguments": dict(arguments or {})}
    more = f"  ({', '.join(f'{key}: {value}' for key, value in arguments.items())})" if arguments else ""
    return Operation(f"declare exchange {name}{more}", "PUT", f"exchanges/{{vhost}}/{quoted(name)}", body)


def declare_queue(name: str, arguments: Mapping[str, Any] | None = None) -> Operation:
    """Declare a durable queue."""
    body = {"durable": True, "auto_delete": False, "arguments": dict(arguments or {})}
    return Operation(f"declare queue {name}", "PUT", f"queues/{{vhost}}/{quoted(name)}", body)


def bind(binding: Binding) -> Operation:
    """Bind."""
    return Operation(f"bind {binding}", "POST", binding.path, {"routing_key": binding.key, "arguments": {}})


def unbind(binding: Binding) -> Operation:
    """Unbind."""
    return Operation(f"unbind {binding}", "DELETE", f"{binding.path}/{quoted(binding.key)}")


def delete_queue(name: str, conditions: Sequence[str] = ()) -> Operation:
    """Delete a queue.

    Args:
        name: Its name.
        conditions: ``if-empty`` and ``if-unused``: the broker refuses otherwise.
    """
    query = f"?{'&'.join(f'{each}=true' for each in conditions)}" if conditions else ""
    more = f"  ({', '.join(conditions)})" if conditions else ""
    return Operation(f"delete queue {name}{more}", "DELETE", f"queues/{{vhost}}/{quoted(name)}{query}")


def delete_exchange(name: str) -> Operation:
    """Delete an exchange with its bindings."""
    return Operation(f"delete exchange {name}", "DELETE", f"exchanges/{{vhost}}/{quoted(name)}")


def set_policy(name: str, exchange: str, alternate: str) -> Operation:
    """Give an exchange an alternate exchange by policy."""
    pattern, definition = f"^{exchange.replace('.', '[.]')}$", {"alternate-exchange": alternate}
    command = f"rabbitmqctl set_policy -p {VHOST} --apply-to exchanges {name} '{pattern}' '{json.dumps(definition)}'"
    body = {"pattern": pattern, "definition": definition, "apply-to": "exchanges", "priority": 0}
    path = f"policies/{{vhost}}/{quoted(name)}"
    return Operation(f"set policy {name}: {exchange} --(no match)--> {alternate}", "PUT", path, body, command)


def clear_policy(name: str) -> Operation:
    """Take a policy away."""
    command = f"rabbitmqctl clear_policy -p {VHOST} {name}"
    return Operation(f"clear policy {name}", "DELETE", f"policies/{{vhost}}/{quoted(name)}", None, command)
