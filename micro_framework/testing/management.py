"""A broker somebody else runs, asked through its management plugin's HTTP API.

Serves test runs that were given an `AMQP_URI`: each test still gets a virtual host of its own, made and
deleted here with the credentials of that URI, whose user must be an administrator. Message counts are asked for
with `disable_stats` and `enable_queue_totals`, which reads the queues themselves; the API's statistics, from
which consumers come, are up to 5 s old. Which connections there are it knows at once, and what they call themselves
only from the statistics, so these are waited for.
"""

import base64
import json
import secrets
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from micro_framework.testing.broker_state import (
    BindingState,
    BrokerStateError,
    ConnectionState,
    ExchangeState,
    QueueState,
    VHost,
)

__all__ = ["ManagementAdmin"]

MANAGEMENT_PORT = 15672
REQUEST_SECONDS = 10
STATISTICS_SECONDS = 5.0
"""How often a broker gathers them if nobody has configured it."""
POLL_SECONDS = 0.05
NOT_FOUND = 404


class ManagementAdmin:
    """Questions and orders to a running broker (`BrokerAdmin`). Safe to use from several threads.

    Args:
        amqp_uri: Where the broker is, with the credentials of an administrator.
        management_uri: Where its HTTP API is; None: the host of `amqp_uri`, port 15672.
    """

    def __init__(self, amqp_uri: str, management_uri: str | None = None) -> None:
        parts = urlsplit(amqp_uri)
        self.host, self.port = parts.hostname or "localhost", parts.port or 5672
        self.user, self.password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        self.management_uri = (management_uri or f"http://{self.host}:{MANAGEMENT_PORT}").rstrip("/")

    def uri_of(self, vhost: str) -> str:
        """The AMQP URI of a virtual host, with the administrator's credentials."""
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"amqp://{credentials}@{self.host}:{self.port}/{quote(vhost, safe='')}"

    def add_vhost(self, name: str | None = None, default_queue_type: str | None = None) -> str:
        """Create a virtual host the administrator may do anything in, and return its name.

        Args:
            name: Its name; None: a new one.
            default_queue_type: The type of queues declared without one, ``classic`` or ``quorum``; None: the broker's.
        """
        vhost = name or f"test-{secrets.token_hex(4)}"
        # RabbitMQ 3.10 spells the key in one word; later ones take both.
        keys = ("defaultqueuetype", "default_queue_type")
        chosen = {} if default_queue_type is None else dict.fromkeys(keys, default_queue_type)
        self.ask("PUT", f"vhosts/{quote(vhost, safe='')}", chosen)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.ask("PUT", f"permissions/{quote(vhost, safe='')}/{quote(self.user, safe='')}", everything)
        return vhost

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with everything in it."""
        self.ask("DELETE", f"vhosts/{quote(name, safe='')}")

    def vhost(self, name: str | None = None, default_queue_type: str | None = None) -> VHost:
        """A handle on a new virtual host; delete it with `delete_vhost(handle.name)`."""
        return VHost(self, self.add_vhost(name, default_queue_type))

    def queues(self, vhost: str) -> Sequence[QueueState]:
        """Every queue of a virtual host."""
        where = quote(vhost, safe="")
        rows = self.ask("GET", f"queues/{where}?disable_stats=true&enable_queue_totals=true")
        consumers = Counter(row["queue"]["name"] for row in self.ask("GET", f"consumers/{where}"))
        return [queue_state(row, consumers[row["name"]]) for row in rows]

    def exchanges(self, vhost: str) -> Sequence[ExchangeState]:
        """Every exchange of a virtual host that a client declared."""
        names = ("name", "type", "durable", "auto_delete", "internal", "arguments")
        rows = self.ask("GET", f"exchanges/{quote(vhost, safe='')}")
        chosen = [row for row in rows if row["name"] and not row["name"].startswith("amq.")]
        return [ExchangeState(**{name: row[name] for name in names}) for row in chosen]

    def bindings(self, vhost: str) -> Sequence[BindingState]:
        """Every binding of a virtual host that a client made."""
        rows = self.ask("GET", f"bindings/{quote(vhost, safe='')}")
        return [binding_state(row) for row in rows if row["source"]]

    def delete_queue(self, vhost: str, name: str) -> None:
        """Delete a queue with what it holds, also under its consumers; no such queue: nothing happens.

        Raises:
            BrokerStateError: The broker refuses; an exclusive queue is its connection's to delete.
        """
        try:
            self.ask("DELETE", f"queues/{quote(vhost, safe='')}/{quote(name, safe='')}")
        except BrokerStateError as refusal:
            if getattr(refusal.__cause__, "code", None) != NOT_FOUND:
                raise

    def connections(self) -> Sequence[ConnectionState]:
        """Every client connection of the broker; of a new one, who it is comes with the next statistics: see above."""
        deadline = time.monotonic() + 2 * STATISTICS_SECONDS
        while True:
            described = {row["name"]: row for row in self.ask("GET", "connections") if "vhost" in row}
            there = [row["name"] for row in self.ask("GET", "connections?disable_stats=true")]
            if described.keys() >= set(there) or time.monotonic() > deadline:
                return [connection_state(described[name]) for name in there if name in described]
            time.sleep(POLL_SECONDS)

    def close_connection(self, name: str, reason: str = "closed by a test") -> None:
        """Close a connection from the broker's side; the client sees 320 CONNECTION_FORCED."""
        self.ask("DELETE", f"connections/{quote(name, safe='')}", headers={"X-Reason": reason})

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One request to the HTTP API, its JSON answer decoded.

        Raises:
            BrokerStateError: Nobody answers there, or the answer is a refusal.
        """
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.management_uri}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"} | dict(headers or {}),
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise BrokerStateError(f"{method} {path}: the broker's HTTP API says {error.code}") from error
        except OSError as error:
            raise BrokerStateError(
                f"no answer from the broker's HTTP API at {self.management_uri}: enable it on the broker "
                f"(rabbitmq-plugins enable rabbitmq_management), say where it is in MF_MANAGEMENT_URI, or "
                f"unset AMQP_URI to let the tests start a broker of their own ({error})"
            ) from error
        return json.loads(text) if text else None


def queue_state(row: Mapping[str, Any], consumers: int) -> QueueState:
    """A queue as the HTTP API describes it."""
    return QueueState(
        name=row["name"],
        durable=row["durable"],
        exclusive=row["exclusive"],
        auto_delete=row["auto_delete"],
        arguments=row["arguments"],
        ready=row.get("messages_ready", 0),
        unacknowledged=row.get("messages_unacknowledged", 0),
        consumers=consumers,
    )


def binding_state(row: Mapping[str, Any]) -> BindingState:
    """A binding as the HTTP API describes it."""
    return BindingState(
        source=row["source"],
        destination=row["destination"],
        kind=row["destination_type"],
        routing_key=row["routing_key"],
        arguments=row["arguments"],
    )


def connection_state(row: Mapping[str, Any]) -> ConnectionState:
    """A connection as the HTTP API describes it."""
    return ConnectionState(
        name=row["name"],
        client_name=row.get("client_properties", {}).get("connection_name", ""),
        vhost=row["vhost"],
        user=row["user"],
        state=row.get("state", ""),
        channels=row.get("channels", 0),
    )
