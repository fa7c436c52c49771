"""The queues that delayed messages come back to: of which type they are, and which delays are to be expected."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import amqp

from micro_framework.brokers.rabbitmq.declarations import Declarer
from micro_framework.brokers.rabbitmq.delays import Holding, Way, delay_arguments, delay_queue_name, rounded_up
from micro_framework.wire.naming import Queue

__all__ = ["Target", "Targets", "certain_holding", "holding_for", "type_in_refusal", "type_of"]

RELAXED_SINCE = (3, 11, 16)
"""From this version on a broker can be told to take "classic" for an answer when a quorum queue is declared again
(``quorum_queue.property_equivalence.relaxed_checks_on_redeclaration``)."""

# Not compiled here, as those in `blame`.
CURRENT_TYPE = r"inequivalent arg 'x-queue-type'.* current is (?:the value )?'?(\w+)'?"


@dataclass(slots=True)
class Target:
    """A queue that messages will be delayed for.

    Args:
        queue: As its consumer declares it.
        ways: How messages come back to it, each with the milliseconds to be expected.
        holding: What has to hold its messages back, None while that is not known.
    """

    queue: Queue
    ways: dict[Way, set[int]] = field(default_factory=dict)
    holding: Holding | None = None

    def delay_queues(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The names and arguments of the queues that are kept for the delays to be expected: those of quorum queues."""
        if self.holding is Holding.QUORUM:
            for way, delays in self.ways.items():
                for milliseconds in sorted(delays - {0}):
                    name = delay_queue_name(way, milliseconds, self.holding)
                    yield name, delay_arguments(way, milliseconds, self.holding)


class Targets:
    """Every queue that messages will be delayed for.

    Args:
        plugin: Whether the broker's plugin holds messages back.
    """

    def __init__(self, *, plugin: bool) -> None:
        self.plugin = plugin
        self._by_name: dict[str, Target] = {}

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self._by_name.values()))

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def expect(self, queue: Queue, way: Way, delays: Sequence[int]) -> None:
        """Note what is to be expected."""
        target = self._by_name.setdefault(queue.name, Target(queue, holding=certain_holding(queue)))
        target.ways.setdefault(way, set()).update(map(rounded_up, delays))

    def holding(self, queue: str) -> Holding:
        """What has to hold back the messages of a queue, by its name. Where its type is not known: what is always safe.

        The plugin's exchange cannot be bound to a queue of another connection alone, so a queue holds those.
        """
        target = self._by_name.get(queue)
        if self.plugin and not (target and target.queue.exclusive):
            return Holding.PLUGIN
        return (target and target.holding) or Holding.QUORUM

    def unsure(self) -> Iterable[Target]:
        """Those whose type only the broker knows; asked again on each connection."""
        return [target for target in self if certain_holding(target.queue) is None]


def certain_holding(queue: Queue) -> Holding | None:
    """What a queue's declaration says of its type, None if the broker decides.

    A queue that is not shared and lasting can only be classic.
    """
    if queue.exclusive or queue.auto_delete or not queue.durable:
        return Holding.CLASSIC
    return holding_for(str(queue.arguments["x-queue-type"])) if "x-queue-type" in queue.arguments else None


def holding_for(queue_type: str | None) -> Holding:
    """What has to hold back the messages of a queue of this type."""
    return Holding.CLASSIC if queue_type == "classic" else Holding.QUORUM


def type_of(queue: Queue, declarer: Declarer, server_properties: Mapping[str, Any]) -> str | None:
    """The type of a lasting queue that was declared without one: what its virtual host has as default, or had.

    The protocol has no question for it. So the queue is declared, and then again with a type: the broker agrees, or
    says in its refusal what the type is.

    Args:
        queue: The queue; it is declared if it is not there, without its bindings.
        declarer: Declares.
        server_properties: Of the connection.

    Returns:
        ``classic``, ``quorum``, or whatever the broker says; None where it says nothing that is understood.
    """
    asked = "quorum" if may_be_relaxed(server_properties) else "classic"
    try:
        declare(queue, declarer)
        declare(queue, declarer, {"x-queue-type": asked})
    except amqp.PreconditionFailed as error:
        return type_in_refusal(error.reply_text or "")
    return asked


def declare(queue: Queue, declarer: Declarer, more: Mapping[str, Any] | None = None) -> None:
    arguments = {**queue.arguments, **(more or {})}
    declarer.channel.queue_declare(queue.name, durable=True, auto_delete=False, arguments=arguments)


def type_in_refusal(text: str) -> str | None:
    """The type that a queue has, as the broker says it when it refuses another one; None where it does not."""
    match = re.search(CURRENT_TYPE, text)
    if match is None:
        return None
    return "classic" if match[1] == "none" else match[1]


def may_be_relaxed(server_properties: Mapping[str, Any]) -> bool:
    """Whether this broker may agree to "classic" for a quorum queue."""
    numbers = [int(part) for part in re.findall(r"\d+", str(server_properties.get("version", "")))[:3]]
    return not numbers or tuple(numbers) >= RELAXED_SINCE
