"""Generations, cancellations and batched acknowledgements on RabbitMQ itself, beyond what every broker promises."""

import logging
import threading
import time
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import amqp
import pytest

from micro_framework.brokers.port import Delivery, Subscription, Verdict
from micro_framework.brokers.rabbitmq import RabbitMQBroker, link
from micro_framework.brokers.rabbitmq.consumer import CANCEL_SECONDS, UNDER_WAY, Generation
from micro_framework.brokers.rabbitmq.frames import ack_frame
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.erlang import ErlangAdmin
from micro_framework.testing.management import ManagementAdmin
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.brokers.probes import SECONDS, Diary, Doors, Inbox, exchange, message, queue, soon

JOBS = queue("jobs")


# Generations


def test_verdicts_about_a_lost_connections_deliveries_are_dropped(doors: Doors, rabbit: VHost) -> None:
    """Otherwise tag 1 of the old connection would settle whatever is tag 1 on the new one."""
    diary, inbox = Diary(), Inbox()
    doors.consumer(Subscription(JOBS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    doors.send(message("jobs", "a"), message("jobs", "b"))
    old = inbox.several(2)
    rabbit.close_connections()
    diary.wait_for("ready", "lost", "ready")
    new = inbox.several(2)
    assert [(d.body, d.redelivered) for d in new] == [(b"a", True), (b"b", True)]
    old[0].settle(Verdict.ACK)
    old[1].settle(Verdict.REJECT)
    new[0].settle(Verdict.REQUEUE)
    third = inbox.next()
    assert third.body == b"a"
    third.settle(Verdict.ACK)
    new[1].settle(Verdict.ACK)
    rabbit.wait_until_drained("jobs")


def test_a_channel_that_the_broker_closes_is_opened_again_and_consumed_from(
    doors: Doors, rabbit: VHost, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, consumer = doors.consuming(JOBS, None)
    doors.send(message("jobs", "x"))
    inbox.next()._channel.finished.append((99, Verdict.ACK))  # type: ignore[attr-defined]  # a tag there is none of
    consumer._link.flush()  # type: ignore[attr-defined]
    again = inbox.next()
    assert (again.body, again.redelivered) == (b"x", True)
    again.settle(Verdict.ACK)
    rabbit.wait_until_drained("jobs")
    assert "unknown delivery tag 99" in caplog.text


class WatchedGate:
    """A link's gate that tells when somebody wants to wait for it."""

    def __init__(self) -> None:
        self.lock, self.wanted = threading.Lock(), threading.Event()
        self.acquire, self.release = self.lock.acquire, self.lock.release

    def __enter__(self) -> None:
        self.wanted.set()
        self.lock.acquire()

    def __exit__(self, *details: object) -> None:
        self.lock.release()


def test_a_verdict_being_written_while_the_broker_closes_the_channel_does_not_cost_the_connection(
    doors: Doors, rabbit: VHost
) -> None:
    diary, inbox = Diary(), Inbox()
    consumer = doors.consumer(Subscription(JOBS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    doors.send(message("jobs", "x"))
    inbox.next()
    link: Any = consumer._link  # type: ignore[attr-defined]
    stream, link.gate = link.connection.stream, WatchedGate()
    with link.gate:  # this thread writes
        link.gate.wanted.clear()
        stream.send(ack_frame(1, 99, False))  # a tag there is none of
        assert link.gate.wanted.wait(SECONDS)
        stream.send(ack_frame(1, 1, False))
    inbox.next().settle(Verdict.ACK)
    rabbit.wait_until_drained("jobs")
    assert diary.names == ["ready"]


def test_a_channel_that_closes_as_its_connection_breaks_is_not_opened_again_on_the_next(amqp_uri: str) -> None:
    """The next connection has consumed everything already; once more would cost it, too (530)."""
    doors, diary, inbox = Doors(RabbitMQBroker(f"{amqp_uri};{amqp_uri}")), Diary(), Inbox(Verdict.ACK)
    consumer = doors.consumer(Subscription(JOBS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    link: Any = consumer._link  # type: ignore[attr-defined]

    def close_and_break() -> None:
        consumer._on_channel_closed(amqp.PreconditionFailed("closed"))  # type: ignore[attr-defined]
        raise ConnectionResetError("broken")  # two hosts: the next connection comes without a pause

    link.post(close_and_break)
    diary.wait_for("ready", "lost", "ready")
    doors.send(message("jobs", "x"))
    assert inbox.bodies(1) == ["x"]
    assert link.call(lambda: None, soon())  # whatever was left to do has been done
    assert diary.names == ["ready", "lost", "ready"]
    doors.close()


# Cancelled by the broker


def test_a_queue_deleted_under_its_consumer_is_declared_and_consumed_again(
    doors: Doors, rabbit: VHost, caplog: pytest.LogCaptureFixture
) -> None:
    events = exchange("events")
    inbox, _ = doors.consuming(queue("jobs", (events, "#")))
    other, _ = doors.consuming(queue("other", (events, "#")))
    rabbit.delete_queue("jobs")
    rabbit.wait_for_consumers("jobs", "other")
    rabbit.wait_for(lambda vhost: len([b for b in vhost.bindings() if b.source == "events"]) == 2)
    doors.send(message("key", "after", to="events"))
    assert inbox.bodies(1) == ["after"]
    assert other.bodies(1) == ["after"]
    assert "ended the consumer of queue 'jobs'" in caplog.text


# Acknowledgements in batches (trap k)


def test_acknowledgements_behind_a_running_message_do_not_wait_for_it(doors: Doors, rabbit: VHost) -> None:
    inbox, _ = doors.consuming(JOBS, None, prefetch=50)
    doors.send(*(message("jobs", str(number)) for number in range(100)))
    running = inbox.next()
    for _ in range(99):
        inbox.next().settle(Verdict.ACK)
    rabbit.wait_for(lambda vhost: vhost.depth("jobs") == 1)
    running.settle(Verdict.ACK)
    rabbit.wait_until_drained("jobs")


def test_ten_workers_settle_three_thousand_messages_each_as_it_should(doors: Doors, rabbit: VHost) -> None:
    """Mixed verdicts in whatever order the workers finish: nothing lost, nothing twice, the channel stays open."""
    diary, work = Diary(), SimpleQueue[Delivery | None]()
    doors.consumer(Subscription(JOBS, 100, work.put), events=diary.events)
    diary.wait_for("ready")
    seen: list[int] = []

    def handle() -> None:
        while (delivery := work.get(timeout=SECONDS)) is not None:
            number = int(delivery.body)
            if number % 7 == 0 and not delivery.redelivered:
                delivery.settle(Verdict.REQUEUE)
                continue
            seen.append(number)
            delivery.settle(Verdict.REJECT if number % 5 == 0 else Verdict.ACK)

    workers = [threading.Thread(target=handle) for _ in range(10)]
    for worker in workers:
        worker.start()
    doors.send(*(message("jobs", str(number)) for number in range(3000)))
    deadline = time.monotonic() + SECONDS
    while len(seen) < 3000 and time.monotonic() < deadline:
        rabbit.depth("jobs")
    for _ in workers:
        work.put(None)
    for worker in workers:
        worker.join()
    assert sorted(seen) == list(range(3000))
    rabbit.wait_until_drained("jobs")
    assert diary.names == ["ready"]


def test_everything_settled_before_stop_is_written(doors: Doors, rabbit: VHost) -> None:
    inbox, consumer = doors.consuming(JOBS, None, prefetch=1000)
    doors.send(*(message("jobs") for _ in range(1000)))
    for delivery in inbox.several(1000):
        delivery.settle(Verdict.ACK)
    consumer.stop(soon())
    rabbit.wait_for(lambda vhost: vhost.queue("jobs").unacknowledged == 0)
    assert rabbit.depth("jobs") == 0


# Cancel


def test_what_arrives_while_cancelling_goes_back(doors: Doors, rabbit: VHost) -> None:
    inbox, consumer = doors.consuming(JOBS, prefetch=1000)
    stop = threading.Event()
    publisher, sent = doors.common_publisher, []

    def publish() -> None:
        while not stop.is_set():
            confirmation = publisher.publish(message("jobs"))
            confirmation.wait(soon())
            sent.append(confirmation)

    thread = threading.Thread(target=publish)
    thread.start()
    for _ in range(100):
        inbox.next()
    consumer.cancel(soon())
    seen = 100 + inbox.deliveries.qsize()
    stop.set()
    thread.join()
    rabbit.wait_for(lambda vhost: vhost.queue("jobs").unacknowledged == 0)
    assert rabbit.depth("jobs") == len(sent) - seen


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_was_received_while_cancelling_is_not_counted_as_come_back(doors: Doors, queue_type: str) -> None:
    jobs, inbox, may_go_on = queue("jobs", arguments={"x-queue-type": queue_type}), Inbox(), threading.Event()

    def take(delivery: Delivery) -> None:
        inbox.take(delivery)
        assert may_go_on.wait(SECONDS)

    doors.declare(jobs)
    doors.send(*[message("jobs", str(number)) for number in range(10)])
    consumer = doors.consumer(Subscription(jobs, 10, take))
    first = inbox.next()
    cancelling = threading.Thread(target=consumer.cancel, args=[soon()])
    cancelling.start()
    while consumer.ready:
        time.sleep(0.001)
    may_go_on.set()
    cancelling.join(SECONDS)
    seen = [first, *inbox.several(inbox.deliveries.qsize())]
    assert (len(seen) > 1) == (queue_type == "quorum")
    for delivery in seen:
        delivery.settle(Verdict.ACK)
    consumer.stop(soon())
    again, _ = doors.consuming(jobs)
    left = again.several(10 - len(seen))
    assert [delivery.body for delivery in left] == [b"%d" % number for number in range(len(seen), 10)]
    assert not any("x-delivery-count" in delivery.headers for delivery in left)
    assert doors.browser().get("jobs", soon()) is None


def test_cancel_without_a_broker_returns_and_holds_when_it_is_back(own_node: RabbitMQNode, hurt_doors: Doors) -> None:
    diary, inbox = Diary(), Inbox(Verdict.ACK)
    consumer = hurt_doors.consumer(Subscription(JOBS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    own_node.persist_declarations()
    own_node.kill()
    diary.wait_for("ready", "lost")
    began = time.monotonic()
    consumer.cancel(soon())
    assert time.monotonic() - began < SECONDS / 2
    own_node.start()
    hurt_doors.send(message("jobs", "for somebody else"))
    other, _ = hurt_doors.consuming(JOBS)
    assert other.bodies(1) == ["for somebody else"]
    assert inbox.is_empty


def test_cancel_keeps_its_deadline_with_a_paused_broker(own_node: RabbitMQNode, hurt: VHost) -> None:
    doors = Doors(RabbitMQBroker(hurt.uri))
    _, consumer = doors.consuming(JOBS)
    with own_node.paused():
        began = time.monotonic()
        consumer.cancel(began + 0.3)
        assert time.monotonic() - began < CANCEL_SECONDS
    doors.close()


# Large messages and other consumers of the connection


def test_many_queues_may_take_longer_than_one_connection_has_for_its_set_up(
    doors: Doors, rabbit: VHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a thousand at a busy broker do, which took 26 s; each has the time to itself."""
    caplog.set_level(logging.WARNING, "micro_framework")
    monkeypatch.setattr(link, "SETUP_SECONDS", 0.1)
    inbox = Inbox(Verdict.ACK)
    consumer = doors.consumer(*(Subscription(queue(f"jobs-{number}"), 1, inbox.take) for number in range(150)))
    assert consumer.wait_ready(soon())
    assert not caplog.records
    assert rabbit.queue("jobs-149").consumers == 1


def test_a_memory_alarm_leaves_consuming_alone(own_node: RabbitMQNode, hurt_doors: Doors) -> None:
    hurt_doors.declare(JOBS)
    hurt_doors.send(*(message("jobs", str(number)) for number in range(50)))
    with own_node.memory_alarm():
        inbox, _ = hurt_doors.consuming(JOBS, prefetch=5)
        assert len(inbox.bodies(50)) == 50


def test_an_exchange_that_others_declare_later_is_waited_for(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "micro_framework")
    theirs, inbox = exchange("theirs"), Inbox(Verdict.ACK)
    consumer = doors.consumer(Subscription(queue("ours", (theirs, "#")), 1, inbox.take, declare_exchanges=False))
    deadline = soon()
    while "no exchange 'theirs'" not in caplog.text and time.monotonic() < deadline:
        assert not consumer.wait_ready(time.monotonic() + 0.05)
    assert "no exchange 'theirs'" in caplog.text
    assert doors.publisher([theirs]).wait_ready(soon())
    assert consumer.wait_ready(soon())


# Queues that count what comes back


def test_whether_a_queue_counts_is_learnt_where_its_declaration_does_not_say(
    broker: ErlangAdmin | ManagementAdmin,
) -> None:
    for default, counts in (("quorum", True), ("classic", False)):
        vhost = VHost(broker, broker.add_vhost(default_queue_type=default))
        doors = Doors(RabbitMQBroker(vhost.uri))
        inbox, consumer = doors.consuming(JOBS, None)
        assert consumer.counts("jobs", soon()) is counts
        doors.send(message("jobs", "x"))  # the consumer is none the worse
        inbox.next().settle(Verdict.ACK)
        doors.close()
        broker.delete_vhost(vhost.name)


@pytest.mark.parametrize("kind", ["consumer", "duplex"])
def test_a_quorum_queue_has_taken_in_every_verdict_when_the_connection_closes(doors: Doors, kind: str) -> None:
    """RabbitMQ's channel forgets what it holds back from such a queue; in every fifth round or so, if nobody waits."""
    jobs, browser = queue("jobs", arguments={"x-queue-type": "quorum"}), doors.browser()
    doors.declare(jobs)
    for _ in range(8):
        doors.send(*[message("jobs", "x") for _ in range(100)])
        inbox = Inbox()
        consumer = getattr(doors, kind)(Subscription(jobs, 100, inbox.take))
        first, *others = inbox.several(100)
        consumer.cancel(soon())
        for delivery in others:  # one command each, for the first of all still runs
            delivery.settle(Verdict.ACK)
        first.settle(Verdict.ACK)
        consumer.stop(soon())
        assert browser.get("jobs", soon()) is None


def test_what_is_written_without_verdicts_hides_nobody_of_those_that_may_be_held_back() -> None:
    """On a duplex connection most writes are publishes."""
    link, channel = SimpleNamespace(flush=lambda: None), SimpleNamespace(channel_id=1)
    generation = Generation(link, channel)  # type: ignore[arg-type]
    for tag in range(1, UNDER_WAY + 2):
        generation.settle(tag, Verdict.ACK)
        assert generation.take_output() == ack_frame(1, tag, False)
        assert generation.take_output() == b""
    assert generation.held_back_since() is not None


def test_whether_a_queue_counts_is_not_waited_for_without_a_connection(own_node: RabbitMQNode, hurt: VHost) -> None:
    diary = Diary()
    doors = Doors(RabbitMQBroker(hurt.uri))
    consumer = doors.consumer(Subscription(JOBS, 1, Inbox().take), events=diary.events)
    diary.wait_for("ready")
    own_node.kill()
    diary.wait_for("ready", "lost")
    assert consumer.counts("jobs", soon()) is False
    doors.close()
