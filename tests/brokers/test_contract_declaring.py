"""What the broker port promises about declarations: flags, adoption, refusal, exclusive and auto-delete queues."""

import contextlib
import logging
import time
from dataclasses import replace

import pytest

from micro_framework.brokers.port import DoorEvents, Subscription
from micro_framework.exceptions import BrokerRefused, PublishError, PublishRejected, UnknownExchange, Unroutable
from micro_framework.wire.naming import Queue
from tests.brokers.probes import SECONDS, Diary, Doors, Inbox, exchange, message, queue, soon

Refusals = tuple[type[PublishRejected], ...]

JOBS = queue("jobs")
EVENTS = exchange("payments.events")
OTHER_FLAGS = {
    "auto-delete": exchange("payments.events", auto_delete=True),
    "transient": exchange("payments.events", durable=False),
}


def refused(doors: Doors, declared: Queue) -> str:
    """Try to consume a queue and return why that was refused, having looked at everything a refused door must show."""
    diary = Diary()
    consumer = doors.consumer(Subscription(declared, 1, Inbox().take), events=diary.events)
    began = time.monotonic()
    assert consumer.wait_ready(soon()) is False
    assert time.monotonic() - began < SECONDS / 2, "a refusal must end the waiting"
    assert consumer.ready is False
    diary.wait_for("refused")
    assert isinstance(diary.errors[0], BrokerRefused)
    return str(diary.errors[0])


# Exchanges


@pytest.mark.parametrize("other", OTHER_FLAGS)
@pytest.mark.parametrize("turned", [False, True], ids=["ours differs", "theirs differs"])
def test_an_exchange_with_other_flags_is_adopted_by_a_consumer(
    doors: Doors, caplog: pytest.LogCaptureFixture, other: str, turned: bool
) -> None:
    first, second = (OTHER_FLAGS[other], EVENTS) if turned else (EVENTS, OTHER_FLAGS[other])
    doors.consuming(queue("theirs", (first, "#")))
    caplog.set_level(logging.INFO, "micro_framework")
    inbox, _ = doors.consuming(queue("ours", (second, "#")))
    doors.send(message("key", "through", to="payments.events"))
    assert inbox.next().body == b"through"
    assert len(adoptions(caplog)) == 1


@pytest.mark.parametrize("other", OTHER_FLAGS)
def test_an_exchange_with_other_flags_is_adopted_by_a_publisher(
    doors: Doors, caplog: pytest.LogCaptureFixture, other: str
) -> None:
    inbox, _ = doors.consuming(queue("theirs", (OTHER_FLAGS[other], "#")))
    caplog.set_level(logging.INFO, "micro_framework")
    publisher = doors.publisher([EVENTS])
    assert publisher.wait_ready(soon())
    publisher.publish(message("key", "through", to="payments.events")).wait(soon())
    assert inbox.next().body == b"through"
    assert len(adoptions(caplog)) == 1


def adoptions(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if "payments.events" in text and "adopted" in text]


def test_the_same_declaration_twice_says_nothing(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "micro_framework")
    doors.consuming(queue("one", (EVENTS, "#")))
    doors.consuming(queue("one", (EVENTS, "#")))
    assert doors.publisher([EVENTS]).wait_ready(soon())
    assert adoptions(caplog) == []


def test_an_auto_delete_exchange_goes_with_its_last_queue(doors: Doors) -> None:
    passing = exchange("passing", auto_delete=True)
    _, consumer = doors.consuming(queue("short-lived", (passing, "#"), exclusive=True, auto_delete=True))
    doors.send(message("key", to="passing"))
    consumer.stop(soon())
    with pytest.raises(UnknownExchange):
        doors.send(message("key", to="passing"))


def test_a_publisher_declares_its_exchange_again_when_that_is_gone(doors: Doors, refused_while_going: Refusals) -> None:
    """An auto-delete exchange goes with its last queue, while the service that dispatches to it runs on."""
    passing = exchange("passing", auto_delete=True)
    publisher = doors.publisher([passing])
    assert publisher.wait_ready(soon())
    for body in ("one", "two"):
        inbox, consumer = doors.consuming(queue("short-lived", (passing, "#"), exclusive=True, auto_delete=True))
        publisher.publish(message("key", body, to="passing")).wait(soon())
        assert inbox.next().body == body.encode()
        consumer.stop(soon())
        for confirmation in [publisher.publish(message("key", to="passing")) for _ in range(20)]:
            with contextlib.suppress(*refused_while_going):
                confirmation.wait(soon())


def test_a_publisher_declares_before_and_after_its_start(doors: Doors) -> None:
    publisher = doors.publisher([exchange("before")])
    assert publisher.wait_ready(soon())
    publisher.publish(message("key", to="before")).wait(soon())
    publisher.declare([exchange("after")])
    publisher.publish(message("key", to="after")).wait(soon())


def test_exchanges_can_be_left_to_others(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "micro_framework")
    assert doors.publisher([exchange("payments.events")]).wait_ready(soon())
    inbox = Inbox()
    ours = queue("ours", (OTHER_FLAGS["transient"], "#"))
    consumer = doors.consumer(Subscription(ours, 1, inbox.take, declare_exchanges=False))
    assert consumer.wait_ready(soon())
    doors.send(message("key", "found", to="payments.events"))
    assert inbox.next().body == b"found"
    assert adoptions(caplog) == []


# Queues


@pytest.mark.parametrize(
    ("flag", "declared"),
    [
        ("durable", replace(JOBS, durable=False)),
        ("auto_delete", replace(JOBS, auto_delete=True)),
        ("x-message-ttl", replace(JOBS, arguments={"x-message-ttl": 60_000})),
    ],
)
def test_a_queue_with_other_flags_is_refused_naming_queue_flag_and_fix(
    doors: Doors, flag: str, declared: Queue
) -> None:
    doors.consuming(JOBS)
    text = refused(doors, declared)
    assert "jobs" in text
    assert flag in text
    assert "delete" in text


def test_a_publisher_is_refused_a_queue_with_other_flags(doors: Doors) -> None:
    doors.declare(JOBS)
    diary = Diary()
    publisher = doors.publisher(queues=[replace(JOBS, auto_delete=True)], events=diary.events)
    assert publisher.wait_ready(soon()) is False
    diary.wait_for("refused")


def test_a_refused_door_leaves_the_queue_and_its_consumer_alone(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    refused(doors, replace(JOBS, auto_delete=True))
    doors.send(message("jobs", "still here"))
    assert inbox.next().body == b"still here"


def test_a_refused_door_can_be_stopped(doors: Doors) -> None:
    doors.consuming(JOBS)
    refused(doors, replace(JOBS, auto_delete=True))
    doors.opened[-1].stop(soon())
    doors.opened[-1].stop(soon())


def test_a_queue_outlives_its_consumer(doors: Doors) -> None:
    _, consumer = doors.consuming(JOBS)
    consumer.stop(soon())
    doors.send(message("jobs", "kept", mandatory=True))
    inbox, _ = doors.consuming(JOBS)
    assert inbox.next().body == b"kept"


def test_an_exclusive_queue_is_refused_to_another_connection(doors: Doors) -> None:
    mine = queue("mine", exclusive=True, auto_delete=True)
    inbox, _ = doors.consuming(mine)
    assert "mine" in refused(doors, mine)
    doors.send(message("mine", "still mine"))
    assert inbox.next().body == b"still mine"


def test_an_exclusive_queue_goes_with_its_connection(doors: Doors) -> None:
    mine = queue("mine", exclusive=True)
    _, consumer = doors.consuming(mine)
    consumer.stop(soon())
    with pytest.raises(Unroutable):
        doors.send(message("mine", mandatory=True))
    doors.consuming(mine)


def test_an_unreliable_broadcast_queue_can_be_declared_like_nameko(doors: Doors) -> None:
    """Durable, exclusive and auto-delete at once; the broker records it as transient (nameko 2.14.1 ``events.py``)."""
    broadcast = queue("evt-payments-refunded--orders.refund-1", (EVENTS, "refunded"), exclusive=True, auto_delete=True)
    inbox, consumer = doors.consuming(broadcast)
    doors.send(message("refunded", "x", to="payments.events"))
    inbox.next()
    consumer.stop(soon())
    with pytest.raises(Unroutable):
        doors.send(message("refunded", to="payments.events", mandatory=True))


def test_an_auto_delete_queue_goes_with_its_last_consumer_only(doors: Doors, refused_while_going: Refusals) -> None:
    shared = queue("shared", auto_delete=True)
    _, one = doors.consuming(shared)
    inbox, two = doors.consuming(shared)
    one.stop(soon())
    doors.send(message("shared", "still here", mandatory=True))
    assert inbox.next().body == b"still here"
    two.stop(soon())
    assert_it_goes(doors, "shared", refused_while_going)


def assert_it_goes(doors: Doors, name: str, refused_while_going: Refusals) -> None:
    deadline = soon()
    while time.monotonic() < deadline:
        try:
            doors.send(message(name, mandatory=True))
        except Unroutable:
            return
        except refused_while_going:
            time.sleep(0.01)
        else:
            break
    pytest.fail(f"queue {name} is still there")


def test_an_auto_delete_queue_goes_when_its_last_consumer_is_cancelled(
    doors: Doors, refused_while_going: Refusals
) -> None:
    _, consumer = doors.consuming(queue("shared", auto_delete=True))
    consumer.cancel(soon())
    assert_it_goes(doors, "shared", refused_while_going)


# Queues that are only to exist


def test_a_queue_is_made_sure_of_when_the_door_opens(doors: Doors) -> None:
    publisher = doors.broker.publisher("ensuring")
    doors.opened.append(publisher)
    publisher.ensure(JOBS, soon())
    publisher.start(DoorEvents())
    assert publisher.wait_ready(soon())
    publisher.publish(message("jobs", "kept", mandatory=True)).wait(soon())


def test_a_queue_is_made_sure_of_while_the_door_is_open(doors: Doors) -> None:
    publisher = doors.common_publisher
    with pytest.raises(Unroutable):
        publisher.publish(message("jobs", mandatory=True)).wait(soon())
    for _ in range(2):
        publisher.ensure(JOBS, soon())
    publisher.publish(message("jobs", "kept", mandatory=True)).wait(soon())
    inbox, _ = doors.consuming(JOBS)
    assert inbox.next().body == b"kept"


@pytest.mark.parametrize("when", ["before the start", "later"])
def test_a_queue_with_other_flags_is_adopted_where_it_is_only_to_exist(
    doors: Doors, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, _ = doors.consuming(queue("jobs", auto_delete=True))
    caplog.set_level(logging.INFO, "micro_framework")
    publisher = doors.broker.publisher("ensuring")
    doors.opened.append(publisher)
    if when == "before the start":
        publisher.ensure(JOBS, soon())
    publisher.start(DoorEvents())
    assert publisher.wait_ready(soon())
    if when == "later":
        publisher.ensure(JOBS, soon())
    publisher.publish(message("jobs", "through", mandatory=True)).wait(soon())
    assert inbox.next().body == b"through"
    (text,) = [each for each in map(logging.LogRecord.getMessage, caplog.records) if "adopted" in each]
    assert "queue 'jobs'" in text


def test_a_queue_that_cannot_be_made_sure_of_is_the_askers_affair_alone(doors: Doors) -> None:
    publisher = doors.common_publisher
    with pytest.raises(PublishError, match="queue 'jobs' cannot be declared"):
        publisher.ensure(queue("jobs", arguments={"x-max-length": -1}), soon())
    publisher.ensure(queue("marks"), soon())
    publisher.publish(message("marks", mandatory=True)).wait(soon())
    assert publisher.ready
