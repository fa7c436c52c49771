import pytest

from micro_framework.brokers.memory.routing import REMEMBERED_KEYS, Routes, topic_matches

# Seen on RabbitMQ 3.10.8: each routing key was published to a topic exchange with one queue for each pattern.
PATTERNS = (
    "", "#", "*", "*.*", "*.x", "a.#.b", "a.#", "#.b", "#.#", "a.*", "a..b", ".", "*.#", "#.*", "a.*.#.b", "a.b", "**",
    "#a", "a.#.#.b", "*.", ".#",
)  # fmt: skip
TAKEN_BY = {
    "": {"", "#", "#.#"},
    "a": {"#", "*", "a.#", "#.#", "*.#", "#.*"},
    "a.": {"#", "*.*", "a.#", "#.#", "a.*", "*.#", "#.*", "*."},
    ".": {"#", "*.*", "#.#", ".", "*.#", "#.*", "*.", ".#"},
    ".x": {"#", "*.*", "*.x", "#.#", "*.#", "#.*", ".#"},
    "x": {"#", "*", "#.#", "*.#", "#.*"},
    "b.x": {"#", "*.*", "*.x", "#.#", "*.#", "#.*"},
    "a.b.x": {"#", "a.#", "#.#", "*.#", "#.*"},
    "a.b": {"#", "*.*", "a.#.b", "a.#", "#.b", "#.#", "a.*", "*.#", "#.*", "a.b", "a.#.#.b"},
    "a..b": {"#", "a.#.b", "a.#", "#.b", "#.#", "a..b", "*.#", "#.*", "a.*.#.b", "a.#.#.b"},
    "a.c.b": {"#", "a.#.b", "a.#", "#.b", "#.#", "*.#", "#.*", "a.*.#.b", "a.#.#.b"},
    "a.c.d.b": {"#", "a.#.b", "a.#", "#.b", "#.#", "*.#", "#.*", "a.*.#.b", "a.#.#.b"},
    "ab": {"#", "*", "#.#", "*.#", "#.*"},
    "b": {"#", "*", "#.b", "#.#", "*.#", "#.*"},
    "..": {"#", "#.#", "*.#", "#.*", ".#"},
    "a.b.": {"#", "a.#", "#.#", "*.#", "#.*"},
    ".b": {"#", "*.*", "#.b", "#.#", "*.#", "#.*", ".#"},
    "#": {"#", "*", "#.#", "*.#", "#.*"},
    "*": {"#", "*", "#.#", "*.#", "#.*"},
    "a.#.b": {"#", "a.#.b", "a.#", "#.b", "#.#", "*.#", "#.*", "a.*.#.b", "a.#.#.b"},
    "Ab": {"#", "*", "#.#", "*.#", "#.*"},
    "a.b.c": {"#", "a.#", "#.#", "*.#", "#.*"},
}


@pytest.mark.parametrize("routing_key", TAKEN_BY)
def test_topics_match_as_in_rabbitmq(routing_key: str) -> None:
    assert {pattern for pattern in PATTERNS if topic_matches(pattern, routing_key)} == TAKEN_BY[routing_key]


def test_a_long_pattern_of_hashes_is_matched_at_once() -> None:
    assert not topic_matches("#.a." * 30 + "b", "a." * 200 + "c")


def test_a_queue_is_found_once_in_the_order_of_binding() -> None:
    routes = Routes("topic")
    for queue, pattern in [("second", "a.*"), ("first", "#"), ("second", "*.b"), ("other", "x")]:
        routes.bind(queue, pattern)
    assert routes.find("a.b") == ("second", "first")


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout"])
def test_what_was_found_follows_binding_and_unbinding(kind: str) -> None:
    routes = Routes(kind)
    assert routes.find("key") == ()
    routes.bind("one", "key")
    assert routes.find("key") == ("one",)
    routes.bind("two", "key")
    assert routes.find("key") == ("one", "two")
    routes.unbind("one")
    assert routes.find("key") == ("two",)
    assert len(routes) == 1


def test_binding_twice_is_binding_once() -> None:
    routes = Routes("direct")
    routes.bind("one", "key")
    routes.bind("one", "key")
    assert len(routes) == 1


def test_keys_made_of_ids_do_not_fill_the_memory() -> None:
    routes = Routes("fanout")
    routes.bind("one", "")
    for number in range(2 * REMEMBERED_KEYS + 1):
        assert routes.find(str(number)) == ("one",)
    assert len(routes._found) <= REMEMBERED_KEYS
