"""The queues that hold messages back."""

import pytest

from micro_framework.brokers.port import Publication, Subscription, Verdict
from micro_framework.brokers.rabbitmq.delays import LONGEST_DELAY, delay_queue_name, held_back, rounded_up
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.messages import Properties
from tests.brokers.probes import Doors, Inbox, message, queue, soon


@pytest.mark.parametrize(
    ("delay", "rounded"),
    [
        (0, 0), (1, 1), (99, 99), (100, 100), (101, 110), (1234, 1300), (10_000, 10_000), (10_001, 11_000),
        (99_500, 100_000), (0.2, 1), (10**15, LONGEST_DELAY), (float("inf"), LONGEST_DELAY),
    ],
)  # fmt: skip
def test_delays_are_rounded_up_to_two_digits(delay: float, rounded: int) -> None:
    assert rounded_up(delay) == rounded
    assert type(rounded_up(delay)) is int


@pytest.mark.parametrize("delay", [-1, float("nan")])
def test_there_is_no_such_delay(delay: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        rounded_up(delay)


def test_the_name_says_target_and_delay() -> None:
    assert delay_queue_name("evt-a-b--c.d", 10_000) == "evt-a-b--c.d.mf-delay.10000"


@pytest.mark.parametrize("target", ["q" * 255, "ü" * 127, "q" * 238])
def test_a_long_target_still_has_a_name_of_its_own(target: str) -> None:
    name = delay_queue_name(target, 10_000)
    assert len(name.encode()) <= 255
    assert name.endswith(".mf-delay.10000")
    assert delay_queue_name(target[:-1] + "x", 10_000) != name


def test_what_would_cut_a_delay_short_or_look_like_a_cycle_is_removed() -> None:
    headers = {"x-death": [], "x-first-death-queue": "", "x-last-death-queue": "", "x-delivery-count": 1, "x-mine": 1}
    sent = Publication("e", "k", b"body", Properties(headers=headers, expiration="1"))
    held = held_back(sent, "jobs", 500)
    assert held.publication == Publication("", "jobs.mf-delay.500", b"body", Properties(headers={"x-mine": 1}), True)


def test_no_delay_needs_no_queue() -> None:
    assert held_back(message("k"), "jobs", 0).publication.routing_key == "jobs"


def test_delay_queues_go_by_themselves_and_lead_to_their_target(doors: Doors, rabbit: VHost) -> None:
    doors.declare(queue("jobs"))
    doors.delay(message("", "later"), "jobs", 12_345).wait(soon())
    held = rabbit.queue("jobs.mf-delay.13000")
    assert held.arguments == {
        "x-message-ttl": 13_000,
        "x-expires": 73_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "jobs",
    }
    assert (held.durable, held.auto_delete, held.exclusive) == (True, False, False)


def test_an_exclusive_queue_of_another_connection_gets_its_delayed_messages(doors: Doors) -> None:
    """The publisher may not look at that queue: the broker answers 405 and closes the channel."""
    inbox = Inbox(Verdict.ACK)
    mine = queue("mine", exclusive=True, auto_delete=True)
    consumer = doors.consumer(Subscription(mine, 10, inbox.take))
    assert consumer.wait_ready(soon())
    waiting = [doors.delay(message("", str(number)), "mine", 50) for number in range(5)]
    for confirmation in waiting:
        confirmation.wait(soon())
    assert set(inbox.bodies(5)) == set("01234")


def test_a_missing_target_does_not_hurt_other_delays(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs"))
    good = [doors.delay(message("", "before"), "jobs", 50)]
    bad = doors.delay(message(""), "no-such-queue", 50)
    good.append(doors.delay(message("", "after"), "jobs", 50))
    for confirmation in good:
        confirmation.wait(soon())
    with pytest.raises(Exception, match="no-such-queue"):
        bad.wait(soon())
    found = {inbox.next().body for _ in range(2)}
    while found != {b"before", b"after"}:  # one may have come twice
        found.add(inbox.next().body)


def test_a_message_may_be_delayed_by_the_same_queue_many_times(doors: Doors) -> None:
    inbox, _ = doors.consuming(queue("jobs"))
    doors.send(message("jobs", "round"))
    for _ in range(5):
        delivery = inbox.next()
        again = Publication("", "", delivery.body, Properties(headers=delivery.headers))
        doors.delay(again, "jobs", 30).wait(soon())
    assert len(inbox.next().headers["x-death"]) == 1
