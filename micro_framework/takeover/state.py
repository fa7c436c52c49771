"""What a takeover finds in the broker, and what is wrong with it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from micro_framework.takeover.management import Management
from micro_framework.takeover.operations import Binding
from micro_framework.wire.takeover import Names

__all__ = ["QueueSeen", "State", "read_state"]

ALTERNATE = "alternate-exchange"
TESTED_FROM = (3, 10)
"""The oldest version of RabbitMQ that takeovers were measured on."""
HARMLESS_ARGUMENTS = frozenset({"x-queue-type", "x-queue-version"})


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A queue.

    Args:
        messages: How many it holds, those that are out with consumers included.
        consumers: How many consume it.
        row: All that the HTTP API says.
    """

    messages: int
    consumers: int
    row: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """A virtual host at one moment, with the eyes of one takeover.

    Args:
        names: The takeover.
        queues: By name.
        exchanges: The exchanges by name, as the HTTP API describes them.
        bindings: All but those of the default exchange.
        policies: By name, as the HTTP API describes them.
    """

    names: Names
    queues: Mapping[str, QueueSeen]
    exchanges: Mapping[str, Mapping[str, Any]]
    bindings: frozenset[Binding]
    policies: Mapping[str, Mapping[str, Any]]

    def with_consumers(self, consumers: Mapping[str, int]) -> "State":
        """The same with other numbers of consumers.

        Args:
            consumers: By queue.
        """
        known = {name: replace(self.queue(name), consumers=count) for name, count in consumers.items()}
        return replace(self, queues={**self.queues, **known})

    @property
    def direct(self) -> Binding:
        """What Nameko binds at each start: the main exchange to the old queue."""
        return Binding(self.names.main, self.names.all_methods, self.names.old)

    @property
    def by_policy(self) -> bool:
        """Whether the main exchange leads to the gate by policy."""
        return self.alternate_of(self.names.main) == self.names.entry

    @property
    def by_binding(self) -> bool:
        """Whether a binding leads from the main exchange to the gate."""
        return Binding(self.names.main, self.names.all_methods, self.names.gate, to_queue=False) in self.bindings

    @property
    def prepared(self) -> bool:
        """Whether calls can come to the gate."""
        return self.names.gate in self.exchanges and (self.by_policy or self.by_binding)

    @property
    def cut_over(self) -> bool:
        """Whether calls come to the gate, and nowhere else."""
        return self.prepared and self.direct not in self.bindings

    @property
    def keys(self) -> Sequence[str]:
        """The keys that the gate leads to the new side, sorted."""
        gate, new = self.names.gate, self.names.new
        return sorted(each.key for each in self.bindings if each.source == gate and each.destination == new)

    @property
    def others(self) -> Sequence[str]:
        """Other services that have run on this broker."""
        found = set()
        for each in self.bindings:
            if each.source == self.names.main and each.to_queue and each.destination.startswith("rpc-"):
                service = each.key.removesuffix(".*")
                if each.key.endswith(".*") and service not in ("", self.names.service, "*", "#"):
                    found.add(service)
        return sorted(found)

    def alternate_of(self, exchange: str) -> str | None:
        """The alternate exchange that a policy gives an exchange."""
        policy = self.policies.get(self.exchanges.get(exchange, {}).get("policy") or "", {})
        found: str | None = policy.get("definition", {}).get(ALTERNATE)
        return found

    def queue(self, name: str) -> QueueSeen:
        """A queue, an empty one where there is none."""
        return self.queues.get(name, QueueSeen(0, 0, {}))

    def problems(self) -> Iterator[str]:
        """What no command goes on with."""
        yield from self.queue_problems()
        yield from self.policy_problems()
        yield from self.link_problems()

    def queue_problems(self) -> Iterator[str]:
        """The old queue is not as Nameko declares it, or leads from elsewhere."""
        names, found = self.names, self.queues.get(self.names.old)
        if found is None:
            yield f"there is no queue {names.old}: has {names.service} ever run on this broker? Is the name right?"
            return
        odd = set(found.row.get("arguments") or {}) - HARMLESS_ARGUMENTS
        if odd or not found.row.get("durable") or found.row.get("auto_delete"):
            yield f"{names.old} is not declared as Nameko does it (durable, no arguments); Nameko could not start"
        ours = {names.main, names.side, names.rest}
        for each in sorted(self.bindings, key=str):
            if each.destination != names.old or not each.to_queue:
                continue
            if each.source not in ours or each.key != names.all_methods:
                yield f"the binding {each} is neither Nameko's nor ours; calls would pass the gate by: remove it first"

    def policy_problems(self) -> Iterator[str]:
        """Another alternate exchange, or a policy that ours would push aside."""
        names = self.names
        if ALTERNATE in (self.exchanges.get(names.main, {}).get("arguments") or {}):
            yield f"{names.main} is declared with an alternate exchange of its own; Nameko would not start with that"
        for exchange, wanted in ((names.main, names.entry), (names.side, names.main)):
            policy = self.exchanges.get(exchange, {}).get("policy")
            if policy and self.alternate_of(exchange) != wanted:
                yield (
                    f"the policy {policy!r} holds for {exchange}, and an exchange has one policy alone; add "
                    f'"{ALTERNATE}": "{wanted}" to it, or narrow its pattern'
                )

    def link_problems(self) -> Iterator[str]:
        """Links between the main and the side exchange that let calls of the service through."""
        names = self.names
        for each in sorted(self.bindings, key=str):
            if {each.source, each.destination} == {names.main, names.side} and matches(each.key, names.service):
                yield (
                    f"the binding {each} also carries calls of {names.service}, which then run on both sides or on the "
                    "wrong one: remove it"
                )

    def process_problems(self) -> Iterator[str]:
        """Why the old side's processes are not as they must be for a method to move."""
        names = self.names
        for other in self.hosted_along:
            bound = Binding(names.side, f"{other}.*", f"rpc-{other}")
            yield (
                f"a process with rpc_exchange: {names.side} also hosts {other} ({bound}): prepare that too (migrate "
                f"prepare {other}), or give that process the old configuration and remove this binding"
            )
        if self.by_binding and self.alternate_of(names.side) != names.main:
            unlinked = [other for other in self.others if self.way_out(other) not in self.bindings]
            if unlinked:
                yield (
                    f"the old {names.service} could not call {', '.join(unlinked)}, which came to this broker after "
                    f"'migrate prepare': run micro-framework migrate prepare {names.service} --entry binding again"
                )

    @property
    def hosted_along(self) -> Sequence[str]:
        """Services that have run with the new configuration of the old side, and are not in a takeover."""
        found = set()
        for each in self.bindings:
            if each.source == self.names.side and each.to_queue and each.destination != self.names.old:
                service = each.key.removesuffix(".*")
                if each.destination == f"rpc-{service}" and Names(service, self.names.main).gate not in self.exchanges:
                    found.add(service)
        return sorted(found)

    def using_side(self) -> list[str]:
        """Queues that get calls of other services by the side exchange, or answers for a process that still runs."""
        names = self.names
        return [
            f"{each.destination} is bound to it"
            for each in sorted(self.bindings, key=str)
            if each.source == names.side and each.to_queue and each.destination != names.old
            # A reply queue whose process is gone waits five minutes for its own end.
            if each.key.endswith(".*") or self.queue(each.destination).consumers
        ]

    def way_out(self, service: str) -> Binding:
        """What carries the old side's calls of another service to the main exchange."""
        return Binding(self.names.side, f"{service}.*", self.names.main, to_queue=False)

    def warnings(self, version: Sequence[int]) -> Iterator[str]:
        """What is no reason to refuse, and good to know.

        Args:
            version: The broker's.
        """
        names, old = self.names, self.queue(self.names.old)
        if tuple(version[:2]) < TESTED_FROM:
            yield (
                f"this is RabbitMQ {'.'.join(map(str, version))}; takeovers are tested on "
                f"{'.'.join(map(str, TESTED_FROM))} and newer"
            )
        if self.cut_over and self.keys and old.messages:
            yield (
                f"about {old.messages} calls that came before are in {names.old} and run on the old side; to have "
                "those that wait run on the new side: migrate move --waiting"
            )

    def unhealed(self) -> list[str]:
        """What follows from there being no new side, as far as the management API knows."""
        names = self.names
        if names.healing not in self.queues or self.queue(names.new).consumers:
            return []
        waits = f"nobody consumes {names.new}: calls of moved methods wait"
        stray = "nothing takes the binding away of an old replica that starts with the old configuration"
        return [f"{waits}, and {stray}; start the new side"]

    def policy_name(self, exchange: str) -> str:
        """What our policy for an exchange is called."""
        return f"{exchange}.takeover"

    def has(self, *bindings: Binding) -> bool:
        """Whether there are these bindings."""
        return self.bindings.issuperset(bindings)

    def alternates(self) -> Sequence[tuple[str, str]]:
        """The exchanges that get an alternate one by policy, with it."""
        return ((self.names.side, self.names.main), (self.names.main, self.names.entry))


def matches(key: str, service: str) -> bool:
    """Whether a binding key of a topic exchange matches a call of a service."""
    words = [{"*": r"[^.]*", "#": r".*"}.get(word, re.escape(word)) for word in key.split(".")]
    if "#" not in key.split("."):
        return re.fullmatch(r"\.".join(words), f"{service}.x") is not None
    return any(word in ("#", "*", service) for word in key.split("."))


def read_state(management: Management, names: Names) -> State:
    """Ask for everything.

    Raises:
        BrokerError: No answer, or no permission.
    """
    consumers = Counter(row["queue"]["name"] for row in management.ask("GET", "consumers/{vhost}"))
    rows = management.ask("GET", "queues/{vhost}?disable_stats=true&enable_queue_totals=true")
    queues = {
        row["name"]: QueueSeen(
            row.get("messages_ready", 0) + row.get("messages_unacknowledged", 0), consumers[row["name"]], row
        )
        for row in rows
    }
    bindings = {
        Binding(row["source"], row["routing_key"], row["destination"], row["destination_type"] == "queue")
        for row in management.ask("GET", "bindings/{vhost}")
        if row["source"]
    }
    exchanges = {row["name"]: row for row in management.ask("GET", "exchanges/{vhost}")}
    policies = {row["name"]: row for row in management.ask("GET", "policies/{vhost}")}
    return State(names, queues, exchanges, frozenset(bindings), policies)
