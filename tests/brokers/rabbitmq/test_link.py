"""A connection that looks after itself: reconnecting, refusals, stop, jobs, forks."""

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from micro_framework.brokers.port import Delivery, DoorEvents, Publication, Publisher, Subscription, Verdict
from micro_framework.brokers.rabbitmq import RabbitMQBroker, consumer as consumer_module
from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.frames import ACK
from micro_framework.brokers.rabbitmq.link import CLOSE_SECONDS, Link
from micro_framework.brokers.rabbitmq.transport import PlainTransport
from micro_framework.exceptions import PublishError
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode, free_port
from micro_framework.wire.messages import Properties
from tests.brokers.probes import SECONDS, Diary, Doors, Inbox, message, queue, soon

JOBS = queue("jobs")
BACK_WITHIN = 5.0  # what is promised


def nowhere() -> str:
    return f"amqp://guest:hush-hush@127.0.0.1:{free_port()}"


# Away and back


def test_a_broker_that_closes_the_connection_is_come_back_to(doors: Doors, rabbit: VHost) -> None:
    consumer_diary, publisher_diary = Diary(), Diary()
    inbox = Inbox(Verdict.ACK)
    consumer = doors.consumer(Subscription(JOBS, 10, inbox.take), events=consumer_diary.events)
    publisher = doors.publisher(events=publisher_diary.events)
    consumer_diary.wait_for("ready")
    publisher_diary.wait_for("ready")
    assert rabbit.close_connections() == 2
    consumer_diary.wait_for("ready", "lost", "ready")
    publisher_diary.wait_for("ready", "lost", "ready")
    publisher.publish(message("jobs", "again")).wait(soon())
    assert inbox.bodies(1) == ["again"]
    assert consumer.ready


def test_the_broker_is_told_who_connects(doors: Doors, rabbit: VHost) -> None:
    doors.consuming(JOBS)
    [connection] = rabbit.connections()
    assert "mf-consumer-test-0" in connection.client_name
    assert str(os.getpid()) in connection.client_name


def test_a_killed_broker_is_consumed_from_again_within_five_seconds_of_its_return(
    own_node: RabbitMQNode, hurt_doors: Doors
) -> None:
    diary, inbox = Diary(), Inbox(Verdict.ACK)
    consumer = hurt_doors.consumer(Subscription(JOBS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    own_node.kill()
    diary.wait_for("ready", "lost")
    own_node.start()
    assert consumer.wait_ready(time.monotonic() + BACK_WITHIN)
    hurt_doors.send(message("jobs", "after"))
    assert inbox.bodies(1) == ["after"]


def test_a_paused_broker_is_given_up_and_come_back_to(own_node: RabbitMQNode, hurt_doors: Doors) -> None:
    diary, inbox = Diary(), Inbox(Verdict.ACK)
    hurt_doors.consumer(Subscription(JOBS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    with own_node.paused():
        diary.wait_for("ready", "lost")  # after two heartbeats of a second
        assert "no sign of life" in str(diary.errors[0])
    diary.wait_for("ready", "lost", "ready")
    hurt_doors.send(message("jobs", "after"))
    assert inbox.bodies(1) == ["after"]


def test_a_broker_that_is_away_is_tried_again_with_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "micro_framework")
    doors = Doors(RabbitMQBroker(nowhere()))
    consumer = doors.consumer(Subscription(JOBS, 1, Inbox().take))
    assert not consumer.wait_ready(time.monotonic() + 1)
    doors.close()
    texts = [record.getMessage() for record in caplog.records]
    assert 2 <= len(texts) <= 6
    for text in texts:
        assert re.fullmatch(
            r"consumer 'test-0' cannot connect to amqp://guest@127\.0\.0\.1:\d+: .*refused; next try in \d\.\d s", text
        )
    assert all(record.levelname == "WARNING" and record.exc_info is None for record in caplog.records)
    assert "hush-hush" not in caplog.text


def test_the_second_host_is_tried_at_once(doors: Doors, amqp_uri: str) -> None:
    two = Doors(RabbitMQBroker(f"{nowhere()};{amqp_uri}"))
    publisher = two.publisher(queues=[JOBS])
    assert publisher.wait_ready(soon())
    publisher.publish(message("jobs", mandatory=True)).wait(soon())
    two.close()


# Stop


def test_stop_while_there_is_no_broker_is_quick() -> None:
    doors = Doors(RabbitMQBroker(nowhere()))
    consumer = doors.consumer(Subscription(JOBS, 1, Inbox().take))
    began = time.monotonic()
    consumer.stop(soon())
    assert time.monotonic() - began < SECONDS / 2


def test_stop_while_the_broker_shakes_no_hands_is_quick() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}"
        doors = Doors(RabbitMQBroker(uri, connect_timeout=60))
        consumer = doors.consumer(Subscription(JOBS, 1, Inbox().take))
        silent.accept()
        began = time.monotonic()
        consumer.stop(soon())
        assert time.monotonic() - began < SECONDS / 2


def test_stop_gives_a_paused_broker_up_at_the_deadline(own_node: RabbitMQNode, hurt: VHost) -> None:
    doors = Doors(RabbitMQBroker(hurt.uri))
    _, consumer = doors.consuming(JOBS)
    with own_node.paused():
        began = time.monotonic()
        consumer.stop(began + 0.5)
        assert time.monotonic() - began < CLOSE_SECONDS


def test_a_cancel_that_a_paused_broker_does_not_answer_keeps_the_connection(
    own_node: RabbitMQNode, hurt: VHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "CANCEL_SECONDS", 0.3)
    doors = Doors(RabbitMQBroker(hurt.uri, heartbeat=0))
    inbox, consumer = doors.consuming(JOBS)
    doors.send(message("jobs", "running"))
    delivery = inbox.next()
    with own_node.paused():
        began = time.monotonic()
        consumer.cancel(began + SECONDS)
        assert time.monotonic() - began < SECONDS / 2
    delivery.settle(Verdict.ACK)
    doors.close()
    hurt.wait_until_drained("jobs")


def test_stop_right_after_an_error_on_a_channel_is_quick(doors: Doors) -> None:
    """Opening the channel again takes the wake-ups; the stop must be seen all the same."""
    for _ in range(20):
        publisher = doors.publisher()
        assert publisher.wait_ready(soon())
        publisher.publish(message("k", to="no-such-exchange"))
        began = time.monotonic()
        publisher.stop(soon())
        assert time.monotonic() - began < SECONDS / 2


# Forks


def test_a_forked_child_leaves_the_connection_alone(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    publisher = doors.common_publisher
    child = os.fork()
    if child == 0:
        code = 1
        try:
            publisher.publish(Publication("", "jobs", b"child", Properties()))
        except PublishError as error:
            publisher.stop(time.monotonic() + 5)
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    doors.send(message("jobs", "parent"))
    assert inbox.bodies(1) == ["parent"]


# Handlers


def test_an_event_handler_that_raises_hurts_nobody(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("a defect")

    inbox = Inbox(Verdict.ACK)
    consumer = doors.consumer(Subscription(JOBS, 1, inbox.take), events=DoorEvents(on_ready=broken))
    assert consumer.wait_ready(soon())
    doors.send(message("jobs", "x"))
    assert inbox.bodies(1) == ["x"]
    assert "must not" in caplog.text


def test_a_handler_that_takes_long_holds_up_no_other_door(doors: Doors) -> None:
    leave = threading.Event()
    slow = doors.consumer(Subscription(queue("slow"), 1, lambda _delivery: leave.wait(SECONDS)))
    assert slow.wait_ready(soon())
    inbox, _ = doors.consuming(JOBS)
    doors.send(message("slow"), message("jobs", "quick"))
    assert inbox.bodies(1) == ["quick"]
    leave.set()


# Later


def test_what_is_set_for_later_is_done_on_the_reading_thread_in_its_turn(doors: Doors) -> None:
    link = doors.common_publisher._link  # type: ignore[attr-defined]
    done: SimpleQueue[tuple[str, str]] = SimpleQueue()

    def note(what: str) -> Callable[[], None]:
        return lambda: done.put((what, threading.current_thread().name))

    def set_three() -> None:
        link.call_later(0.2, note("second"))
        link.call_later(0.1, note("first"))
        link.call_later(0.2, note("third"))

    link.post(set_three)
    assert [done.get(timeout=SECONDS) for _ in range(3)] == [
        (what, link.thread_name) for what in ("first", "second", "third")
    ]


def test_what_was_set_for_later_is_forgotten_with_the_connection(doors: Doors, rabbit: VHost) -> None:
    diary = Diary()
    publisher = doors.publisher(events=diary.events)
    diary.wait_for("ready")
    link = publisher._link  # type: ignore[attr-defined]
    assert link.call(lambda: link.call_later(3600, lambda: None), soon())
    assert len(link._later) == 1
    rabbit.close_connections()
    diary.wait_for("ready", "lost", "ready")
    assert link._later == []


# Who writes


class Traffic:
    """Counts, on one thread, what it read and how often it wrote acknowledgements."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, thread: str) -> None:
        self.thread = thread
        self.reads = self.writes = 0
        receive, send = PlainTransport.receive, PlainTransport.send
        monkeypatch.setattr(PlainTransport, "receive", lambda stream: self.received(receive(stream)))
        monkeypatch.setattr(PlainTransport, "send", lambda stream, data: send(stream, self.sent(data)))

    def received(self, data: bytes) -> bytes:
        self.reads += bool(data) and threading.current_thread().name == self.thread
        return data

    def sent(self, data: bytes) -> bytes:
        is_acknowledgement = data[7:].startswith(ACK)  # behind the frame's type, channel and size
        self.writes += is_acknowledgement and threading.current_thread().name == self.thread
        return data


def test_what_callbacks_settle_goes_out_once_per_read(
    doors: Doors, rabbit: VHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors.declare(JOBS)
    doors.send(*(message("jobs") for _ in range(500)))
    traffic = Traffic(monkeypatch, f"mf-consumer-test-{len(doors.opened)}")
    inbox, _ = doors.consuming(JOBS, prefetch=500)
    inbox.several(500)
    rabbit.wait_until_drained("jobs")
    assert 0 < traffic.writes <= traffic.reads < 500


def consuming_forever(amqp_uri: str, inbox: Inbox) -> tuple[Doors, Link]:
    """A consumer of the jobs, and its link; no heartbeat ever wakes it."""
    doors = Doors(RabbitMQBroker(amqp_uri, heartbeat=0))
    consumer = doors.consumer(Subscription(JOBS, 10, inbox.take))
    assert consumer.wait_ready(soon())
    return doors, consumer._link  # type: ignore[attr-defined]


def test_what_is_settled_while_a_job_waits_is_written_before_it_sleeps(amqp_uri: str, rabbit: VHost) -> None:
    inbox, begun, done = Inbox(Verdict.ACK), threading.Event(), threading.Event()
    doors, link = consuming_forever(amqp_uri, inbox)

    def wait_for_some_answer() -> None:
        connection = link.connection
        assert connection is not None
        begun.set()
        with connection.within(SECONDS):
            while inbox.is_empty:
                connection.blocking_read()
        deadline = soon()
        while not done.is_set() and time.monotonic() < deadline:
            connection.poll(deadline)

    job = link.post(wait_for_some_answer)
    assert begun.wait(SECONDS)
    doors.send(message("jobs"))
    rabbit.wait_until_drained("jobs")
    assert not job.done.is_set()
    done.set()
    link.post(lambda: None)  # wakes it
    assert job.done.wait(SECONDS)
    doors.close()


def test_what_a_wait_left_unhandled_is_settled_and_written_before_the_reader_sleeps(
    amqp_uri: str, rabbit: VHost
) -> None:
    inbox, begun = Inbox(Verdict.ACK), threading.Event()
    doors, link = consuming_forever(amqp_uri, inbox)

    def leave_a_whole_delivery() -> None:
        """As a wait does whose answer came in one read with what followed it."""
        connection, deadline = link.connection, soon()
        assert connection is not None
        begun.set()
        while not connection._frames._data.endswith(b"the end\xce") and time.monotonic() < deadline:
            connection.poll(deadline)
        assert inbox.is_empty

    job = link.post(leave_a_whole_delivery)
    assert begun.wait(SECONDS)
    doors.send(message("jobs", "the end"))
    assert job.done.wait(SECONDS)
    rabbit.wait_until_drained("jobs")
    assert inbox.bodies(1) == ["the end"]
    doors.close()


def test_what_a_callback_publishes_without_confirm_is_written_too(amqp_uri: str) -> None:
    doors, answers = Doors(RabbitMQBroker(amqp_uri, heartbeat=0)), Inbox(Verdict.ACK)
    door = doors.duplex(
        Subscription(JOBS, 10, lambda delivery: publish_unconfirmed(door, delivery)),
        Subscription(queue("answers"), 10, answers.take),
    )
    assert door.wait_ready(soon())
    door.publish(message("jobs", "x")).wait(soon())
    assert answers.bodies(1) == ["x"]
    door.stop(soon())
    inbox, _ = doors.consuming(JOBS)
    doors.send(message("jobs", "last"))
    assert inbox.bodies(1) == ["last"]
    doors.close()


def publish_unconfirmed(door: Publisher, delivery: Delivery) -> None:
    sent = door.publish(message("answers", delivery.body), confirm=False)
    sent.add_done_callback(lambda _error: delivery.settle(Verdict.ACK))


def test_a_stop_waits_for_whoever_writes_just_now(doors: Doors, rabbit: VHost) -> None:
    """It has in its hands what others settled; behind the goodbye the broker would not hear of it."""
    inbox, consumer = doors.consuming(JOBS, None)
    doors.send(message("jobs"))
    delivery = inbox.next()
    link: Link = consumer._link  # type: ignore[attr-defined]
    stopping = threading.Thread(target=lambda: consumer.stop(soon()))
    with link.gate:
        delivery.settle(Verdict.ACK)  # left to the one at the gate
        stopping.start()
        stopping.join(0.3)
        assert link._write()
    stopping.join(SECONDS)
    assert rabbit.depth("jobs") == 0


def test_a_stop_writes_what_is_settled_though_the_kernel_takes_no_more_for_now(
    own_node: RabbitMQNode, hurt: VHost
) -> None:
    doors, inbox = Doors(RabbitMQBroker(hurt.uri)), Inbox()
    door = doors.duplex(Subscription(JOBS, 10, inbox.take))
    assert door.wait_ready(soon())
    door.publish(message("jobs", "held")).wait(soon())
    delivery = inbox.next()
    stopping = threading.Thread(target=lambda: door.stop(time.monotonic() + 30))
    with own_node.paused():
        for _ in range(5):
            sent = door.publish(message("nowhere", b"x" * 4_000_000), confirm=False)
        sent.add_done_callback(lambda _error: delivery.settle(Verdict.ACK))
        stopping.start()
        stopping.join(0.3)
        assert stopping.is_alive()
    stopping.join(30)
    hurt.wait_until_drained("jobs")
    doors.close()


# Jobs


def test_a_job_for_a_lost_connection_never_meets_the_next_one(amqp_uri: str, rabbit: VHost) -> None:
    """With several hosts the next attempt follows at once. A consumer registered twice would end the connection."""
    doors, inbox, diary = Doors(RabbitMQBroker(f"{amqp_uri};{amqp_uri}")), Inbox(Verdict.ACK), Diary()

    def lost(error: BaseException) -> None:
        consumer._on_cancelled(b"mf-0")  # type: ignore[attr-defined]
        diary.lost(error)

    consumer = doors.consumer(Subscription(JOBS, 10, inbox.take), events=DoorEvents(on_ready=diary.ready, on_lost=lost))
    diary.wait_for("ready")
    rabbit.close_connections()
    diary.wait_for("ready", "lost", "ready")
    assert consumer._link.call(lambda: None, soon())  # type: ignore[attr-defined]  # what was posted before is done
    doors.send(message("jobs", "x"))
    assert inbox.bodies(1) == ["x"]
    diary.wait_for("ready", "lost", "ready")
    doors.close()


class Stream:
    """A full stream that has room again the moment somebody has looked, and the reader then flushes in vain."""

    connected = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.reader_flushes: Callable[[], None] | None = None

    @property
    def unsent(self) -> bool:
        reader_flushes, self.reader_flushes = self.reader_flushes, None
        if reader_flushes is not None:
            reader_flushes()
        return reader_flushes is not None

    def send(self, data: bytes) -> None:
        self.sent.append(data)


class Output:
    """An owner with one thing to write."""

    def __init__(self) -> None:
        self.left = [b"a publish"]

    def has_output(self) -> bool:
        return bool(self.left)

    def take_output(self) -> bytes:
        return self.left.pop()

    def output_written(self) -> None: ...


def test_nothing_is_taken_for_a_stream_that_is_closed() -> None:
    stream, owner = Stream(), Output()
    link = Link("publisher", "x", Endpoints(nowhere()), owner)  # type: ignore[arg-type]
    link._writable = stream  # type: ignore[assignment]
    stream.connected = False
    link.flush()
    assert (stream.sent, owner.left) == ([], [b"a publish"])


def test_nothing_is_left_lying_when_there_is_room_again_while_a_thread_turns_away() -> None:
    """Else it would lie there until the next heartbeat, and the publish time out unsent."""
    stream, owner = Stream(), Output()
    link = Link("publisher", "x", Endpoints(nowhere()), owner)  # type: ignore[arg-type]
    link._writable = stream  # type: ignore[assignment]
    stream.reader_flushes = link.flush
    link.flush()
    assert (stream.sent, owner.left) == ([b"a publish"], [])
