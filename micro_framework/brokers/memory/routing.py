"""Which queues a message goes to: AMQP's direct, fanout and topic exchanges.

A topic is a list of words between dots; in a pattern ``*`` stands for exactly one word, also an empty one, and ``#``
for any number of words. The empty topic has no words at all. The corner cases are RabbitMQ 3.10.8's, as published and
observed; ``tests/brokers/memory/test_routing.py`` has them as a table.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

__all__ = ["MATCHERS", "Routes", "topic_matches"]

REMEMBERED_KEYS = 4096


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Whether a topic binding's pattern takes a routing key."""
    words = topic_words(routing_key)
    reached = {0}  # how many words the pattern may have used up so far
    for part in topic_words(pattern):
        reached = after_part(part, reached, words)
        if not reached:
            return False
    return len(words) in reached


def after_part(part: str, reached: set[int], words: list[str]) -> set[int]:
    if part == "#":
        return set(range(min(reached), len(words) + 1))
    return {used + 1 for used in reached if used < len(words) and part in ("*", words[used])}


def topic_words(topic: str) -> list[str]:
    return topic.split(".") if topic else []


def takes_equal(binding_key: str, routing_key: str) -> bool:
    return binding_key == routing_key


def takes_all(_binding_key: str, _routing_key: str) -> bool:
    return True


MATCHERS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {"direct": takes_equal, "fanout": takes_all, "topic": topic_matches}
)
"""By exchange type: ``matches(binding key, routing key)``."""


class Routes:
    """The bindings of one exchange. Not thread safe: its owner holds a lock.

    What was found for a routing key is remembered until a binding comes or goes, so a message costs one look-up however
    many bindings there are.

    Args:
        exchange_type: A key of `MATCHERS`.
    """

    def __init__(self, exchange_type: str) -> None:
        self._matches = MATCHERS[exchange_type]
        self._bound: dict[tuple[str, str], None] = {}  # (queue, binding key), in order of binding
        self._found: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._bound)

    def bind(self, queue: str, binding_key: str) -> None:
        """Bind a queue by name; binding it twice with one key is binding it once."""
        self._bound[queue, binding_key] = None
        self._found.clear()

    def unbind(self, queue: str) -> None:
        """Remove every binding of a queue."""
        self._bound = {binding: None for binding in self._bound if binding[0] != queue}
        self._found.clear()

    def find(self, routing_key: str) -> tuple[str, ...]:
        """The names of the queues that take a routing key, each once."""
        found = self._found.get(routing_key)
        if found is None:
            found = self._search(routing_key)
            self._remember(routing_key, found)
        return found

    def _search(self, routing_key: str) -> tuple[str, ...]:
        taking = {queue: None for queue, binding_key in self._bound if self._matches(binding_key, routing_key)}
        return tuple(taking)

    def _remember(self, routing_key: str, found: tuple[str, ...]) -> None:
        if len(self._found) >= REMEMBERED_KEYS:  # keys made of ids would fill the memory
            self._found.clear()
        self._found[routing_key] = found
