"""What holds messages back."""

from struct import pack
from typing import Any

import pytest
from amqp.serialization import loads

from interop_tests.raw_messages import channel_to
from micro_framework.brokers.port import Publication, Subscription, Verdict
from micro_framework.brokers.rabbitmq import RabbitMQBroker, publisher as publisher_module
from micro_framework.brokers.rabbitmq.delays import (
    LONGEST_DELAY,
    Holding,
    Way,
    delay_arguments,
    delay_queue_name,
    held_back,
    packed,
    rounded_up,
)
from micro_framework.brokers.rabbitmq.frames import METHOD, FrameBuffer
from micro_framework.exceptions import PublishError
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.messages import Properties
from tests.brokers.probes import Doors, Inbox, message, queue, soon, uri_of_user


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


JOBS = Way.of("jobs")
CREATE = Way.of("rpc-orders", "nameko-rpc", "orders.create")


@pytest.mark.parametrize(
    ("way", "holding", "name"),
    [
        (Way.of("evt-a-b--c.d"), Holding.CLASSIC, "evt-a-b--c.d.mf-delay.10000"),
        (Way.of("evt-a-b--c.d"), Holding.QUORUM, "evt-a-b--c.d.mf-delay.10000.quorum"),
        (CREATE, Holding.CLASSIC, "orders.create@nameko-rpc.mf-delay.10000"),
    ],
)
def test_the_name_says_where_it_leads_after_how_long(way: Way, holding: Holding, name: str) -> None:
    assert delay_queue_name(way, 10_000, holding) == name


@pytest.mark.parametrize("holding", [Holding.CLASSIC, Holding.QUORUM])
@pytest.mark.parametrize("target", ["q" * 255, "ü" * 127, "q" * 238])
def test_a_long_target_still_has_a_name_of_its_own(target: str, holding: Holding) -> None:
    name = delay_queue_name(Way.of(target), 10_000, holding)
    assert len(name.encode()) <= 255
    assert ".mf-delay.10000" in name
    assert delay_queue_name(Way.of(target[:-1] + "x"), 10_000, holding) != name


def test_what_would_cut_a_delay_short_or_look_like_a_cycle_is_removed() -> None:
    traces = {"x-death": [], "x-first-death-queue": "", "x-last-death-queue": "", "x-delivery-count": 1, "x-delay": -5}
    sent = Publication("e", "k", b"body", Properties(headers={**traces, "x-mine": 1}, expiration="1"))
    held = held_back(sent, JOBS, 500, Holding.CLASSIC)
    kept = Properties(headers={"x-mine": 1}, delivery_mode=2)
    assert held.publication == Publication("", "jobs.mf-delay.500", b"body", kept, True)


@pytest.mark.parametrize("holding", Holding)
@pytest.mark.parametrize("way", [JOBS, CREATE])
def test_no_delay_needs_nothing_that_holds_it(way: Way, holding: Holding) -> None:
    publication = held_back(message("k"), way, 0, holding).publication
    assert (publication.exchange, publication.routing_key) == (way.exchange, way.routing_key)
    assert publication.mandatory


def test_arguments_are_whole_numbers_the_broker_takes() -> None:
    for holding in (Holding.CLASSIC, Holding.QUORUM):
        arguments = delay_arguments(JOBS, rounded_up(float("inf")), holding)
        for name in ("x-message-ttl", "x-expires"):
            assert type(arguments[name]) is int
            assert 0 < arguments[name] <= 315_360_000_000


# What is written, frame by frame


def methods_in(frames: bytes) -> list[tuple[str, Any]]:
    """The methods of some frames, by name, with the values that matter here."""
    buffer = FrameBuffer()
    buffer.feed(frames)
    found = []
    while (each := buffer.next()) is not None:
        kind, _, payload = each
        if kind == METHOD:
            name, layout = METHODS[payload[:4]]
            values, _ = loads(layout, payload, 4)
            found.append((name, values[1:]))
    return found


METHODS = {
    pack(">HH", 50, 10): ("queue.declare", "BsbbbbbF"),
    pack(">HH", 40, 10): ("exchange.declare", "BssbbbbbF"),
    pack(">HH", 50, 20): ("queue.bind", "BsssbF"),
    pack(">HH", 40, 30): ("exchange.bind", "BsssbF"),
    pack(">HH", 60, 40): ("basic.publish", "Bssbb"),
}
NO_FLAGS = [False, False, False]


def written(way: Way, delay: int, holding: Holding) -> list[tuple[str, Any]]:
    held = held_back(message("k", "body"), way, delay, holding)
    return methods_in(packed(held, 2, 131072, check_queue=True))


@pytest.mark.parametrize("holding", [Holding.CLASSIC, Holding.QUORUM])
def test_the_target_is_checked_and_the_delay_queue_declared_before_each_publish(holding: Holding) -> None:
    name = delay_queue_name(JOBS, 500, holding)
    assert written(JOBS, 500, holding) == [
        ("queue.declare", ["jobs", True, *NO_FLAGS, True, {}]),  # passive, no answer
        ("queue.declare", [name, False, True, False, False, True, delay_arguments(JOBS, 500, holding)]),
        ("basic.publish", ["", name, True, False]),  # mandatory
    ]


def test_the_exchange_it_comes_back_through_is_checked_too() -> None:
    assert [values[:2] for name, values in written(CREATE, 500, Holding.CLASSIC) if "declare" in name] == [
        ["rpc-orders", True],
        ["nameko-rpc", ""],
        ["orders.create@nameko-rpc.mf-delay.500", False],
    ]


def test_with_the_plugin_a_bound_exchange_holds_the_message_and_nothing_is_mandatory() -> None:
    """What is written for the plugin, which no broker here has."""
    arguments = {"x-delayed-type": "direct"}
    assert written(JOBS, 500, Holding.PLUGIN) == [
        ("queue.declare", ["jobs", True, *NO_FLAGS, True, {}]),
        ("exchange.declare", ["mf-delayed", "x-delayed-message", False, True, False, False, True, arguments]),
        ("queue.bind", ["jobs", "mf-delayed", "jobs", True, {}]),
        ("basic.publish", ["mf-delayed", "jobs", False, False]),
    ]
    assert written(CREATE, 500, Holding.PLUGIN)[2:] == [
        (
            "exchange.declare",
            ["mf-delayed.nameko-rpc", "x-delayed-message", False, True, False, False, True, arguments],
        ),
        ("exchange.bind", ["nameko-rpc", "mf-delayed.nameko-rpc", "orders.create", True, {}]),
        ("basic.publish", ["mf-delayed.nameko-rpc", "orders.create", False, False]),
    ]


def test_the_plugin_is_told_the_delay_in_a_header() -> None:
    sent = Publication("", "", b"", Properties(headers={"x-delay": -1, "x-mine": 1}, expiration="1"))
    publication = held_back(sent, JOBS, 1234, Holding.PLUGIN).publication
    assert publication.properties == Properties(headers={"x-mine": 1, "x-delay": 1300}, delivery_mode=2)


def test_what_the_plugin_cannot_hold_waits_in_a_queue() -> None:
    held = held_back(message("k"), JOBS, 2**33, Holding.PLUGIN)
    assert held.holding is Holding.QUORUM
    assert held.publication.routing_key == "jobs.mf-delay.8600000000.quorum"


# On the broker


def test_delay_queues_of_classic_targets_come_on_demand_and_go_by_themselves(doors: Doors, rabbit: VHost) -> None:
    doors.declare(queue("jobs"))
    publisher = doors.delaying(queue("jobs"), delays=[12_345])
    assert set(rabbit.queues()) == {"jobs"}
    publisher.delay(message("", "later"), queue="jobs", delay=12_345).wait(soon())
    held = rabbit.queue("jobs.mf-delay.13000")
    assert held.arguments == {
        "x-queue-type": "classic",
        "x-message-ttl": 13_000,
        "x-expires": 73_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "jobs",
    }
    assert (held.durable, held.auto_delete, held.exclusive) == (True, False, False)


QUORUM_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-message-ttl": 13_000,
    "x-expires": 1_813_000,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "jobs",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def test_delay_queues_of_quorum_targets_are_there_beforehand(doors: Doors, rabbit: VHost) -> None:
    jobs = queue("jobs", arguments={"x-queue-type": "quorum"})
    doors.declare(jobs)
    doors.delaying(jobs, delays=[12_345, 500, 0])
    rabbit.wait_for(lambda _: len(rabbit.queues()) == 3, what="the delay queues")
    assert set(rabbit.queues()) == {"jobs", "jobs.mf-delay.500.quorum", "jobs.mf-delay.13000.quorum"}
    assert rabbit.queue("jobs.mf-delay.13000.quorum").arguments == QUORUM_ARGUMENTS


def test_a_delay_is_confirmed_though_its_quorum_queue_is_only_just_being_declared(doors: Doors) -> None:
    """It refuses while it has no leader yet (``basic.nack``)."""
    targets = [queue(f"jobs-{number}", arguments={"x-queue-type": "quorum"}) for number in range(5)]
    for target in targets:
        inbox, _ = doors.consuming(target)
        publisher = doors.delaying(target, delays=[50])
        publisher.delay(message("", "at once"), queue=target.name, delay=50).wait(soon())
        assert inbox.bodies(1) == ["at once"]


def test_where_the_type_of_the_target_is_not_known_the_delay_queue_is_safe_for_both(
    doors: Doors, rabbit: VHost
) -> None:
    doors.declare(queue("jobs"))
    doors.common_publisher.delay(message("", "later"), queue="jobs", delay=12_345).wait(soon())
    assert rabbit.queue("jobs.mf-delay.13000.quorum").arguments == QUORUM_ARGUMENTS


def test_a_delay_queue_that_is_gone_is_declared_again_by_the_next_delay(doors: Doors, rabbit: VHost) -> None:
    """Nothing remembers what was declared: a queue that has expired would take the message with it."""
    inbox, _ = doors.consuming(queue("jobs"))
    publisher = doors.delaying(queue("jobs"))
    for number in range(3):
        publisher.delay(message("", str(number)), queue="jobs", delay=50).wait(soon())
        assert inbox.bodies(1) == [str(number)]
        with channel_to(rabbit.uri) as channel:
            channel.queue_delete("jobs.mf-delay.50")


def test_delay_queues_are_declared_again_and_again(
    doors: Doors, rabbit: VHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen by one that cannot be declared at first, for somebody else's is in its place."""
    monkeypatch.setattr(publisher_module, "KEEP_SECONDS", 0.2)
    name, jobs = "jobs.mf-delay.500.quorum", queue("jobs", arguments={"x-queue-type": "quorum"})
    doors.declare(jobs, queue(name))
    doors.delaying(jobs, delays=[500])
    rabbit.wait_for(lambda _: "a delay queue cannot be kept" in caplog.text, what="a refusal")
    with channel_to(rabbit.uri) as channel:
        channel.queue_delete(name)
    rabbit.wait_for(lambda _: name in rabbit.queues(), what="the delay queue")
    assert rabbit.queue(name).arguments["x-queue-type"] == "quorum"


def test_a_delay_queue_that_cannot_be_kept_hurts_nothing_else(
    doors: Doors, rabbit: VHost, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = queue("jobs", arguments={"x-queue-type": "quorum"})
    doors.declare(queue("jobs.mf-delay.500.quorum"))  # somebody's own, with other arguments
    inbox, _ = doors.consuming(jobs)
    publisher = doors.delaying(jobs, delays=[500, 50])
    publisher.delay(message("", "other"), queue="jobs", delay=50).wait(soon())
    assert inbox.bodies(1) == ["other"]
    with pytest.raises(PublishError, match=r"refused to delay.*inequivalent arg"):
        publisher.delay(message("", "not this"), queue="jobs", delay=500).wait(soon())
    publisher.publish(message("jobs", "straight")).wait(soon())
    assert inbox.bodies(1) == ["straight"]
    assert "a delay queue cannot be kept" in caplog.text


@pytest.mark.kills_broker
@pytest.mark.timeout(180)
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_is_overdue_after_a_restart_arrives(
    own_node: RabbitMQNode, hurt: VHost, hurt_doors: Doors, queue_type: str
) -> None:
    """A classic delay queue before a quorum target loses these: it expires them before the target has a leader."""
    jobs = queue("jobs", arguments={"x-queue-type": queue_type})
    hurt_doors.declare(jobs)
    publisher = hurt_doors.delaying(jobs, delays=[1000])
    waiting = [publisher.delay(message("", str(number)), queue="jobs", delay=1000) for number in range(20)]
    for confirmation in waiting:
        confirmation.wait(soon())
    later = publisher.delay(message("", "later"), queue="jobs", delay=15_000)
    later.wait(soon())
    own_node.restart(90)
    inbox, _ = hurt_doors.consuming(jobs)
    found = {inbox.deliveries.get(timeout=60).body.decode() for _ in range(21)}
    assert found == {*map(str, range(20)), "later"}


@pytest.mark.kills_broker
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_user_needs_few_permissions_to_delay(own_node: RabbitMQNode, hurt: VHost, queue_type: str) -> None:
    doors = Doors(RabbitMQBroker(uri_of_user(own_node, hurt, "^jobs", "^(jobs|amq.default)$", "^jobs")))
    jobs = queue("jobs", arguments={"x-queue-type": queue_type})
    try:
        inbox, _ = doors.consuming(jobs)
        doors.delaying(jobs, delays=[50]).delay(message("", "x"), queue="jobs", delay=50).wait(soon())
        assert inbox.bodies(1) == ["x"]
    finally:
        doors.close()


@pytest.mark.kills_broker
def test_a_missing_permission_is_told_and_hurts_nothing_else(own_node: RabbitMQNode, hurt: VHost) -> None:
    doors = Doors(RabbitMQBroker(uri_of_user(own_node, hurt, "^jobs$", "^(jobs|amq.default)$", "^jobs$")))
    try:
        inbox, _ = doors.consuming(queue("jobs"))
        publisher = doors.delaying(queue("jobs"), delays=[50])
        with pytest.raises(PublishError, match=r"refused to delay a message.*jobs\.mf-delay\.50"):
            publisher.delay(message("", "x"), queue="jobs", delay=50).wait(soon())
        publisher.publish(message("jobs", "straight")).wait(soon())
        assert inbox.bodies(1) == ["straight"]
    finally:
        doors.close()


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
