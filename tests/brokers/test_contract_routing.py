"""Where the brokers put a message: default, direct, topic and fanout exchanges, held against every broker."""

import pytest

from micro_framework.brokers.port import Subscription, Verdict
from micro_framework.exceptions import UnknownExchange, Unroutable
from tests.brokers.probes import Doors, Inbox, exchange, message, queue, soon

DIRECT = exchange("direct", "direct")
TOPIC = exchange("topic", "topic")
FANOUT = exchange("fanout", "fanout")

TOPICS = {
    # routing key: the patterns that take it, as RabbitMQ 3.10.8 does
    "": {"#", ""},
    "a": {"#", "*", "a.#"},
    "x": {"#", "*"},
    ".": {"#", "*.*", "."},
    ".x": {"#", "*.*", "*.x"},
    "b.x": {"#", "*.*", "*.x"},
    "a.": {"#", "*.*", "a.#"},
    "a.b.x": {"#", "a.#"},
    "a.b": {"#", "*.*", "a.#", "a.#.b"},
    "a..b": {"#", "a.#", "a.#.b"},
    "a.c.d.b": {"#", "a.#", "a.#.b"},
    "ab": {"#", "*"},
    "#": {"#", "*"},
}
PATTERNS = sorted(set().union(*TOPICS.values()))


def test_a_direct_exchange_wants_the_very_key(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs", (DIRECT, "a"), (DIRECT, "b.c")))
    doors.send(*(message(key, key, to="direct") for key in ("a", "A", "b", "b.c", "a")))
    assert inbox.bodies(3) == ["a", "b.c", "a"]


def test_a_fanout_exchange_copies_to_every_queue_whatever_the_key(doors: Doors) -> None:
    one, _ = doors.consuming(queue("one", (FANOUT, "")))
    two, _ = doors.consuming(queue("two", (FANOUT, "ignored")))
    doors.send(message("any", "x", to="fanout"))
    assert (one.bodies(1), two.bodies(1)) == (["x"], ["x"])


def test_a_topic_exchange_matches_words(doors: Doors) -> None:
    inboxes = {pattern: Inbox(Verdict.ACK) for pattern in PATTERNS}
    consumer = doors.consumer(
        *(Subscription(queue(f"q{n}", (TOPIC, name)), 50, inboxes[name].take) for n, name in enumerate(PATTERNS))
    )
    assert consumer.wait_ready(soon())
    doors.send(*(message(key, f"<{key}>", to="topic") for key in TOPICS))
    for pattern, inbox in inboxes.items():
        expected = [f"<{key}>" for key, taking in TOPICS.items() if pattern in taking]
        assert (pattern, inbox.bodies(len(expected))) == (pattern, expected)


def test_a_queue_gets_one_copy_however_many_of_its_bindings_match(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs", (TOPIC, "a.*"), (TOPIC, "*.b"), (TOPIC, "#")))
    doors.send(message("a.b", "first", to="topic"), message("z", "second", to="topic"))
    assert inbox.bodies(2) == ["first", "second"]


def test_a_queue_may_be_bound_to_several_exchanges(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs", (TOPIC, "a"), (DIRECT, "b")))
    doors.send(message("a", "topic", to="topic"), message("b", "direct", to="direct"))
    assert inbox.bodies(2) == ["topic", "direct"]


def test_a_binding_made_later_counts_for_keys_seen_before(doors: Doors) -> None:
    one, _ = doors.consuming(queue("one", (TOPIC, "a.*")))
    doors.send(message("a.b", "before", to="topic"))
    two, _ = doors.consuming(queue("two", (TOPIC, "#")))
    doors.send(message("a.b", "after", to="topic"))
    assert (one.bodies(2), two.bodies(1)) == (["before", "after"], ["after"])


def test_a_delivery_says_which_exchange_and_key_it_was_published_with(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs", (TOPIC, "#")))
    doors.send(message("orders.created", to="topic"))
    delivery = inbox.next()
    assert (delivery.exchange, delivery.routing_key, delivery.queue) == ("topic", "orders.created", "jobs")


def test_a_message_nobody_takes_is_dropped_unless_mandatory(doors: Doors) -> None:
    doors.publisher([TOPIC])
    doors.consuming(queue("jobs", (TOPIC, "taken")))
    doors.send(message("nobody", to="topic"), message("nobody"))


@pytest.mark.parametrize("where", ["topic", ""])
def test_a_mandatory_message_nobody_takes_comes_back(doors: Doors, where: str) -> None:
    doors.consuming(queue("jobs", (TOPIC, "taken")))
    with pytest.raises(Unroutable, match="nobody"):
        doors.send(message("nobody", to=where, mandatory=True))


def test_only_the_unroutable_among_many_come_back(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs", (TOPIC, "taken")))
    keys = ["taken", "nobody", "taken", "nobody", "taken"]
    sent = [doors.common_publisher.publish(message(key, to="topic", mandatory=True)) for key in keys]
    for key, confirmation in zip(keys, sent, strict=True):
        if key == "taken":
            confirmation.wait(soon())
        else:
            with pytest.raises(Unroutable):
                confirmation.wait(soon())
    inbox.several(3)


@pytest.mark.parametrize("mandatory", [False, True])
def test_a_missing_exchange_is_an_error(doors: Doors, mandatory: bool) -> None:
    with pytest.raises(UnknownExchange, match="no-such-exchange"):
        doors.send(message("a", to="no-such-exchange", mandatory=mandatory))


def test_a_missing_exchange_does_not_hurt_other_messages(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs"))
    publisher = doors.common_publisher
    good = [publisher.publish(message("jobs", "before"))]
    bad = publisher.publish(message("a", to="no-such-exchange"))
    good.append(publisher.publish(message("jobs", "after")))
    with pytest.raises(UnknownExchange):
        bad.wait(soon())
    for confirmation in good:
        confirmation.wait(soon())
    arrived: set[str] = set()
    while arrived != {"before", "after"}:  # one that was not confirmed before the error may come twice
        arrived.add(inbox.next().body.decode())
