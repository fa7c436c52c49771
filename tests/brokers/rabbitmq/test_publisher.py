"""Confirms, returns and losses on RabbitMQ itself, beyond what every broker promises."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import amqp
import pytest

from micro_framework.brokers.port import DoorEvents, Verdict
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.confirming import ConfirmingChannel
from micro_framework.brokers.rabbitmq.connection import LinkConnection
from micro_framework.brokers.rabbitmq.declarations import Declarer
from micro_framework.brokers.rabbitmq.frames import publish_frames
from micro_framework.exceptions import (
    MessageTooLarge,
    PublishError,
    PublishRejected,
    PublishTimeout,
    UnknownExchange,
    Unroutable,
)
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode, free_port
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue
from tests.brokers.probes import SECONDS, Diary, Doors, exchange, message, queue, soon
from tests.versions import largest_body

JOBS = queue("jobs")


# Returns (trap h)


def test_exactly_the_unroutable_ones_among_pipelined_messages_come_back(doors: Doors) -> None:
    doors.declare(JOBS)
    publisher = doors.common_publisher
    sent = [
        publisher.publish(message("nobody" if number % 3 == 0 else "jobs", "same", mandatory=True))
        for number in range(300)
    ]
    returned = [number for number, confirmation in enumerate(sent) if outcome(confirmation.wait) is Unroutable]
    assert returned == list(range(0, 300, 3))


def test_equal_keys_and_bodies_are_told_apart_by_their_properties(doors: Doors) -> None:
    """The same call from two callers differs in its correlation id only."""
    events = exchange("events", "headers")
    publisher = doors.publisher([events], [JOBS])
    assert publisher.wait_ready(soon())
    sent = [
        publisher.publish(
            message("k", "same", to="events", mandatory=True, properties=Properties(correlation_id=str(n)))
        )
        for n in range(50)
    ]
    assert {outcome(confirmation.wait) for confirmation in sent} == {Unroutable}


def outcome(wait: Callable[[float], None]) -> type[BaseException] | None:
    try:
        wait(soon())
    except PublishError as error:
        return type(error)
    return None


def test_a_return_nobody_waits_for_is_logged(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    publisher = doors.common_publisher
    publisher.publish(message("nobody", mandatory=True), confirm=False).wait(soon())
    publisher.publish(message("nobody")).wait(soon())  # confirmed after the return came
    assert "came back" in caplog.text


# Nacks


def test_a_full_queue_rejects_the_one_that_does_not_fit(doors: Doors) -> None:
    small = queue("small", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    doors.declare(small)
    sent = [doors.common_publisher.publish(message("small", str(number))) for number in range(2)]
    for confirmation in sent:
        confirmation.wait(soon())
    with pytest.raises(PublishRejected, match="full"):
        doors.common_publisher.publish(message("small")).wait(soon())


# Errors that close the channel (trap c)


def test_only_the_messages_to_the_missing_exchange_fail(doors: Doors) -> None:
    """All 50 others are confirmed, those before and those after, and the channel confirms again."""
    doors.declare(JOBS)
    publisher = doors.common_publisher
    sent = [publisher.publish(message("jobs", to="missing" if number % 10 == 5 else "")) for number in range(50)]
    failed = [number for number, confirmation in enumerate(sent) if outcome(confirmation.wait) is UnknownExchange]
    assert failed == [5, 15, 25, 35, 45]
    publisher.publish(message("jobs")).wait(soon())


def test_two_missing_exchanges_fail_their_own_messages(doors: Doors) -> None:
    sent = [doors.common_publisher.publish(message("k", to=name)) for name in ("one", "two", "", "one")]
    errors = [str(confirmation_error(confirmation.wait)) for confirmation in sent]
    assert ["'one'" in errors[0], "'two'" in errors[1], errors[2], "'one'" in errors[3]] == [True, True, "None", True]


def confirmation_error(wait: Callable[[float], None]) -> BaseException | None:
    try:
        wait(soon())
    except PublishError as error:
        return error
    return None


def test_headers_that_no_frame_holds_fail_alone(doors: Doors) -> None:
    doors.declare(JOBS)
    good = doors.common_publisher.publish(message("jobs"))
    bad = doors.common_publisher.publish(message("jobs", properties=Properties(headers={"x": "x" * 200_000})))
    with pytest.raises(MessageTooLarge, match="131064"):
        bad.wait(soon())
    good.wait(soon())


def test_a_body_larger_than_the_broker_takes_fails_alone(doors: Doors, own_node: RabbitMQNode, hurt: VHost) -> None:
    with largest_body(own_node, 100_000):
        limited = Doors(RabbitMQBroker(hurt.uri))
        limited.declare(JOBS)
        publisher = limited.common_publisher
        sent = [publisher.publish(message("jobs", b"x" * size)) for size in (10, 200_000, 20)]
        assert [outcome(confirmation.wait) for confirmation in sent] == [None, MessageTooLarge, None]
        limited.close()


def test_a_refused_permission_to_write_fails_alone(doors: Doors, own_node: RabbitMQNode, hurt: VHost) -> None:
    user = f"writer-{hurt.name}"
    own_node.call(
        f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"secret">>, <<"t">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{hurt.name}">>, '
        '<<".*">>, <<"^(amq.default|jobs)$">>, <<".*">>, <<"t">>).'
    )
    limited = Doors(RabbitMQBroker(hurt.uri.replace("guest:guest", f"{user}:secret")))
    publisher = limited.publisher([exchange("closed")], [JOBS])
    assert publisher.wait_ready(soon())
    sent = [publisher.publish(message("jobs", to=name)) for name in ("", "closed", "")]
    assert [outcome(confirmation.wait) for confirmation in sent] == [None, PublishError, None]
    assert "set_permissions" in str(confirmation_error(sent[1].wait))
    limited.close()


def test_an_answer_that_names_nobody_puts_all_in_doubt(doors: Doors) -> None:
    """A user id that is not ours is refused without naming the message."""
    doors.declare(JOBS)
    publisher = doors.common_publisher
    bad = publisher.publish(message("jobs", properties=Properties(user_id="somebody")))
    with pytest.raises(PublishError, match="user_id.*may have been delivered"):
        bad.wait(soon())
    publisher.publish(message("jobs")).wait(soon())


# Deadlines (trap e)


def test_without_a_broker_a_publish_times_out_and_says_it_was_not_sent() -> None:
    doors = Doors(RabbitMQBroker(f"amqp://guest:hush-hush@127.0.0.1:{free_port()}"))
    publisher = doors.publisher()
    began = time.monotonic()
    with pytest.raises(PublishTimeout, match="not sent in time .not connected.*will not be") as caught:
        publisher.publish(message("jobs")).wait(began + 0.3)
    assert 0.3 <= time.monotonic() - began < SECONDS
    assert "hush-hush" not in str(caught.value)
    for door in doors.opened:
        door.stop(time.monotonic())
    doors.close()


def test_what_was_published_before_the_connection_arrives(amqp_uri: str) -> None:
    doors = Doors(RabbitMQBroker(amqp_uri))
    publisher = doors.publisher(queues=[JOBS])
    sent = [publisher.publish(message("jobs", str(number), mandatory=True)) for number in range(10)]
    for confirmation in sent:
        confirmation.wait(soon())
    doors.close()


def test_under_a_memory_alarm_publishes_time_out_and_go_on_afterwards(
    own_node: RabbitMQNode, hurt_doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer than two heartbeats: the connection must survive what the broker does not read."""
    caplog.set_level(logging.INFO, "micro_framework")
    inbox, _ = hurt_doors.consuming(JOBS)
    diary = Diary()
    publisher: Any = hurt_doors.publisher(events=diary.events)
    diary.wait_for("ready")
    with own_node.memory_alarm():
        first = publisher.publish(message("jobs", "first"))
        deadline = soon()
        while not publisher._link.blocked and time.monotonic() < deadline:  # the broker says so after the first publish
            first.wait_quietly(time.monotonic() + 0.02)
        with pytest.raises(PublishTimeout, match="alarm.*may have been delivered"):
            first.wait(time.monotonic())
        began = time.monotonic()
        with pytest.raises(PublishTimeout, match="alarm.*was not sent|was not sent.*alarm"):
            publisher.publish(message("jobs", "second")).wait(began + 3)
        assert time.monotonic() - began < SECONDS
        waiting = publisher.publish(message("jobs", "third"))
    waiting.wait(soon())
    assert inbox.bodies(2) == ["first", "third"]  # the second was never sent, as its error said
    assert "takes no messages" in caplog.text
    assert "takes messages again" in caplog.text
    assert diary.names == ["ready"]


def test_large_bodies_behind_an_alarm_hold_up_nobody(own_node: RabbitMQNode, hurt_doors: Doors) -> None:
    """More than the sockets take: the first caller must not wait inside the write, and the rest follows later."""
    inbox, _ = hurt_doors.consuming(JOBS)
    publisher = hurt_doors.common_publisher
    body = b"x" * 4_000_000
    with own_node.memory_alarm():
        began = time.monotonic()
        sent = [publisher.publish(message("jobs", body)) for _ in range(5)]
        assert time.monotonic() - began < SECONDS
        assert not sent[-1].wait_quietly(began + 3)  # type: ignore[attr-defined]
    for confirmation in sent:
        confirmation.wait(soon())
    assert [len(delivery.body) for delivery in inbox.several(5)] == [4_000_000] * 5


def test_a_stuck_broker_hangs_no_caller(own_node: RabbitMQNode, hurt: VHost) -> None:
    doors = Doors(RabbitMQBroker(hurt.uri))
    publisher = doors.common_publisher
    with own_node.paused():
        outcomes: list[type[BaseException] | None] = []

        def publish() -> None:
            try:
                publisher.publish(message("jobs", b"x" * 2_000_000)).wait(time.monotonic() + 0.5)
            except PublishTimeout as error:
                outcomes.append(type(error))

        callers = [threading.Thread(target=publish) for _ in range(10)]
        began = time.monotonic()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(SECONDS)
        assert outcomes == [PublishTimeout] * 10
        assert time.monotonic() - began < SECONDS
    doors.close()


def test_the_kernel_does_not_break_a_connection_that_is_not_read_for_a_while(
    own_node: RabbitMQNode, hurt: VHost
) -> None:
    """By py-amqp's socket options it would, after a second and a half."""
    doors, diary = Doors(RabbitMQBroker(hurt.uri)), Diary()
    publisher = doors.publisher(queues=[JOBS], events=diary.events)
    diary.wait_for("ready")
    with own_node.paused():
        sent = [publisher.publish(message("jobs", b"x" * 4_000_000)) for _ in range(5)]
        assert not sent[-1].wait_quietly(time.monotonic() + 3)  # type: ignore[attr-defined]
    for confirmation in sent:
        confirmation.wait(soon())
    assert diary.names == ["ready"]
    doors.close()


# Losses


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_nothing_confirmed_or_waited_for_is_lost_when_the_broker_is_killed(
    own_node: RabbitMQNode, hurt: VHost, hurt_doors: Doors, soak_size: Callable[[int], int]
) -> None:
    count = soak_size(2000)
    bodies = [str(number) for number in range(count)]
    hurt_doors.declare(JOBS)
    own_node.persist_declarations()  # what is tested is the messages
    publisher = hurt_doors.common_publisher
    sent = []
    for number, body in enumerate(bodies):
        # Mandatory, as whatever the framework itself puts into a queue: were the queue gone, the confirm would not say.
        sent.append(publisher.publish(message("jobs", body, mandatory=True, properties=Properties(delivery_mode=2))))
        if number == count // 2:
            own_node.kill()
    own_node.start()
    deadline = time.monotonic() + 60
    for confirmation in sent:
        confirmation.wait(deadline)
    assert hurt.depth("jobs") >= count, hurt.describe()  # asked before a consumer declares the queue again
    inbox, _ = hurt_doors.consuming(JOBS, Verdict.ACK, prefetch=1000)
    inbox.each_of(bodies, hurt)


def test_what_was_not_confirmed_is_sent_again_in_order(doors: Doors, rabbit: VHost) -> None:
    inbox, _ = doors.consuming(JOBS)
    publisher = doors.common_publisher
    sent = [publisher.publish(message("jobs", str(number))) for number in range(500)]
    assert rabbit.close_connections(f"mf-publisher-test-1 ({os.getpid()})") == 1
    sent += [publisher.publish(message("jobs", str(number))) for number in range(500, 600)]
    for confirmation in sent:
        confirmation.wait(soon())
    first_seen = list(dict.fromkeys(int(inbox.next().body) for _ in range(600)))
    while len(first_seen) < 600:
        first_seen = list(dict.fromkeys([*first_seen, int(inbox.next().body)]))
    assert first_seen == list(range(600))


def test_a_channel_that_closes_as_its_connection_breaks_is_not_opened_again_on_the_next(amqp_uri: str) -> None:
    """It is open there already; opened again it would count its tags anew, and take confirms for those of others."""
    diary, sent = Diary(), []
    publisher = RabbitMQBroker(f"{amqp_uri};{amqp_uri}").publisher("test")

    def on_ready() -> None:
        sent.append(publisher.publish(message("jobs", "as soon as possible")))
        diary.ready()

    publisher.declare(queues=[JOBS])
    publisher.start(DoorEvents(on_ready, diary.lost))
    diary.wait_for("ready")
    sent[0].wait(soon())

    def close_and_break() -> None:
        publisher._on_channel_closed(publisher._direct, amqp.NotFound("closed"))
        raise ConnectionResetError("broken")  # two hosts: the next connection comes without a pause

    publisher._link.post(close_and_break)
    diary.wait_for("ready", "lost", "ready")
    sent.append(publisher.publish(message("jobs", "later")))
    assert [outcome(confirmation.wait) for confirmation in sent] == [None, None, None]
    publisher.stop(soon())


def test_what_is_declared_while_it_connects_is_there_for_the_next_publish(
    amqp_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, outcomes = queue("late"), []
    publisher = RabbitMQBroker(amqp_uri).publisher("test")

    def declare_and_publish() -> None:
        publisher.declare(queues=[late])
        outcomes.append(outcome(publisher.publish(message("late", mandatory=True)).wait))

    caller = threading.Thread(target=declare_and_publish)
    opens = ConfirmingChannel.open

    def open_slowly(channel: ConfirmingChannel, connection: LinkConnection) -> None:
        if caller.ident is None:  # everything has been declared, nothing can be written yet
            caller.start()
            deadline = soon()
            while late not in publisher._queues and time.monotonic() < deadline:
                pass
        opens(channel, connection)

    monkeypatch.setattr(ConfirmingChannel, "open", open_slowly)
    publisher.start(DoorEvents())
    assert publisher.wait_ready(soon())
    caller.join(SECONDS)
    assert outcomes == [None]
    publisher.stop(soon())


def test_a_publish_given_up_is_not_sent_later() -> None:
    port = free_port()
    doors = Doors(RabbitMQBroker(f"amqp://guest:guest@127.0.0.1:{port}"))
    publisher = doors.publisher()
    confirmation = publisher.publish(message("jobs"))
    with pytest.raises(PublishTimeout):
        confirmation.wait(time.monotonic() + 0.05)
    began = time.monotonic()
    publisher.stop(soon())  # nothing is left to wait for
    assert time.monotonic() - began < SECONDS / 2


def test_stop_answers_whoever_still_waits() -> None:
    doors = Doors(RabbitMQBroker(f"amqp://guest:guest@127.0.0.1:{free_port()}"))
    publisher = doors.publisher()
    confirmation = publisher.publish(message("jobs"))
    publisher.stop(time.monotonic() + 0.1)
    with pytest.raises(PublishError, match="stopped"):
        confirmation.wait(soon())


def test_stop_misses_no_message_on_its_way_to_the_wire(doors: Doors) -> None:
    """It is neither in the outbox any more nor among the unconfirmed yet, in the hands of another thread."""
    doors.declare(JOBS)
    publisher = doors.publisher()
    assert publisher.wait_ready(soon())
    under_way, go_on = threading.Event(), threading.Event()

    def pack(frame_max: int) -> bytes:
        under_way.set()
        assert go_on.wait(SECONDS)
        return publish_frames(1, message("jobs"), frame_max)

    pending = PendingPublish(message("jobs"), pack, True, lambda: "under way")
    publisher._direct.append(pending)  # type: ignore[attr-defined]
    writing = threading.Thread(target=publisher._link.flush)  # type: ignore[attr-defined]
    writing.start()
    assert under_way.wait(SECONDS)
    stopping = threading.Thread(target=lambda: publisher.stop(soon()))
    stopping.start()
    stopping.join(0.3)
    go_on.set()
    stopping.join(SECONDS)
    writing.join(SECONDS)
    pending.wait(soon())


# Queues that are only to exist


def test_a_queue_on_a_node_that_is_down_does_not_keep_the_door_shut(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def on_a_node_that_is_down(declarer: Declarer, declared: Queue) -> None:
        raise amqp.NotFound("home node 'rabbit@other' of durable queue 'jobs' is down or inaccessible")

    monkeypatch.setattr(Declarer, "any_queue", on_a_node_that_is_down)
    publisher = doors.broker.publisher("ensuring")
    doors.opened.append(publisher)
    publisher.ensure(JOBS, soon())
    publisher.start(DoorEvents())
    assert publisher.wait_ready(soon())
    assert "queue 'jobs' is not there: " in caplog.text
    with pytest.raises(PublishError, match="is down"):
        publisher.ensure(JOBS, soon())


def test_whoever_asks_for_a_queue_is_told_when_no_answer_comes(own_node: RabbitMQNode, hurt_doors: Doors) -> None:
    publisher = hurt_doors.common_publisher
    with own_node.paused():
        with pytest.raises(PublishError, match="queue 'jobs' was not declared in time"):
            publisher.ensure(JOBS, time.monotonic() + 0.3)
