"""What py-amqp's connection does differently here: each trap of sharing it between threads has its test."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import amqp
import pytest

from micro_framework.brokers.rabbitmq.connection import Interrupted, LinkChannel, LinkConnection, Waker
from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.frames import publish_frames
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.brokers.probes import SECONDS, message

Connect = Callable[..., LinkConnection]


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def connect(waker: Waker) -> Iterator[Connect]:
    opened: list[LinkConnection] = []

    def connect(uri: str, heartbeat: float = 0, interrupted: Callable[[], bool] = lambda: False) -> LinkConnection:
        endpoints = Endpoints(uri, heartbeat=heartbeat)
        opened.append(endpoints.connect("test", waker, interrupted, lambda _reason: None, lambda: None))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.drop()


def serve_until(connection: LinkConnection, done: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        with connection.within(SECONDS):
            connection.blocking_read()


def confirms_on(channel: LinkChannel) -> list[int]:
    """Have a channel confirm what is published to a queue ``q``; the tags that it has confirmed."""
    channel.confirm_select()
    tags: list[int] = []
    channel.on_confirm = lambda tag, multiple, confirmed: tags.append(tag)
    channel.queue_declare("q")
    return tags


# Trap a: nothing that writes may read.


def test_publishing_reads_nothing_although_blocked_was_negotiated(connect: Connect, amqp_uri: str) -> None:
    """py-amqp's ``basic_publish`` drains the socket when the broker can say ``connection.blocked``."""
    connection = connect(amqp_uri)
    assert connection.server_capabilities["connection.blocked"]
    channel = connection.channel(1)
    confirms = confirms_on(channel)
    assert connection.stream is not None
    for _ in range(20):
        connection.stream.send(publish_frames(1, message("q", "x"), 131_072))
        assert confirms == []
    serve_until(connection, lambda: confirms and confirms[-1] == 20)


# Trap b: no timeout is ever set on the socket the writers share; a read that ran out of time loses nothing.


def test_large_bodies_from_many_threads_survive_reads_with_tiny_timeouts(connect: Connect, amqp_uri: str) -> None:
    connection = connect(amqp_uri)
    channel = connection.channel(1)
    channel.queue_declare("q", arguments={"x-max-length": 1})
    channel.confirm_select()
    confirmed: set[int] = set()

    def on_confirm(tag: int, multiple: bool, _confirmed: bool) -> None:
        confirmed.update(range(1, tag + 1) if multiple else (tag,))

    channel.on_confirm = on_confirm
    stream = connection.stream
    assert stream is not None
    raw = publish_frames(1, message("q", b"x" * 4_000_000), connection.frame_max)

    def write() -> None:
        for _ in range(4):
            stream.send(raw)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 30
    while len(confirmed) < 12 and time.monotonic() < deadline:
        try:
            connection.blocking_read(timeout=0.001)
        except TimeoutError:
            pass
    for writer in writers:
        writer.join()
    assert confirmed == set(range(1, 13))
    assert stream.sock.gettimeout() == 0


def test_a_delivery_larger_than_any_read_arrives_through_timeouts(connect: Connect, amqp_uri: str) -> None:
    connection = connect(amqp_uri)
    channel = connection.channel(1)
    channel.queue_declare("q")
    bodies: list[bytes] = []
    channel.on_deliver = lambda _method, _header, body: bodies.append(body)
    channel.basic_consume("q", consumer_tag="t")
    assert connection.stream is not None
    body = bytes(range(256)) * 60_000
    connection.stream.send(publish_frames(1, message("q", body), connection.frame_max))
    timeouts = 0
    while not bodies:
        try:
            connection.blocking_read(timeout=0)
        except TimeoutError:
            timeouts += 1
    assert timeouts
    assert bodies == [body]


# Trap c: a channel that the broker closes stays closed.


def test_a_closed_channel_is_not_opened_again_behind_its_owners_back(connect: Connect, amqp_uri: str) -> None:
    connection = connect(amqp_uri)
    channel, other = connection.channel(1), connection.channel(2)
    channel.confirm_select()
    told: list[Exception] = []
    channel.on_closed = told.append
    assert connection.stream is not None
    connection.stream.send(publish_frames(1, message("k", to="no-such-exchange"), 131_072))
    serve_until(connection, lambda: told)
    assert isinstance(told[0], amqp.NotFound)
    assert not channel.is_open
    assert other.is_open
    again = connection.channel(1)
    tags = confirms_on(again)
    connection.stream.send(publish_frames(1, message("q"), 131_072))
    serve_until(connection, lambda: tags)
    assert tags == [1]


def test_the_owner_hears_of_the_close_before_it_is_agreed_to(connect: Connect, amqp_uri: str) -> None:
    """What other threads write after the agreement would cost the connection; what they write before costs nothing."""
    connection = connect(amqp_uri)
    channel, other = connection.channel(1), connection.channel(2)
    stream = connection.stream
    assert stream is not None
    raw = publish_frames(1, message("k", to="no-such-exchange"), 131_072)
    told: list[Exception] = []

    def on_closed(error: Exception) -> None:
        stream.send(raw)
        told.append(error)

    channel.on_closed = on_closed
    stream.send(raw)
    serve_until(connection, lambda: told)
    other.queue_declare("q")
    connection.channel(1).queue_declare("q")
    assert len(told) == 1


def test_who_waits_on_the_channel_gets_the_error(connect: Connect, amqp_uri: str) -> None:
    channel = connect(amqp_uri).channel(1)
    told: list[Exception] = []
    channel.on_closed = told.append
    with pytest.raises(amqp.NotFound):
        channel.queue_declare("no-such-queue", passive=True)
    assert told == []


def test_who_waits_on_another_channel_is_not_disturbed(connect: Connect, amqp_uri: str) -> None:
    connection = connect(amqp_uri)
    broken, fine = connection.channel(1), connection.channel(2)
    told: list[Exception] = []
    broken.on_closed = told.append
    assert connection.stream is not None
    connection.stream.send(publish_frames(1, message("k", to="no-such-exchange"), 131_072))
    for number in range(20):
        fine.queue_declare(f"q{number}")
    serve_until(connection, lambda: told)


# Trap i: every wait for an answer ends.


def test_a_wait_for_an_answer_ends_at_its_deadline(connect: Connect, own_node: RabbitMQNode, hurt: VHost) -> None:
    connection = connect(hurt.uri)
    channel = connection.channel(1)
    with own_node.paused(), pytest.raises(TimeoutError), connection.within(0.3):
        channel.queue_declare("q")


def test_nested_deadlines_never_lengthen_the_outer_one(connect: Connect, amqp_uri: str) -> None:
    connection = connect(amqp_uri)
    began = time.monotonic()
    with connection.within(0.1), connection.within(60), pytest.raises(TimeoutError):
        connection.blocking_read()
    assert time.monotonic() - began < 5


def test_connecting_to_somebody_silent_ends(waker: Waker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}"
        endpoints = Endpoints(uri, connect_timeout=0.3)
        with pytest.raises(TimeoutError):
            endpoints.connect("test", waker, lambda: False, lambda _reason: None, lambda: None)


def test_connecting_can_be_interrupted(waker: Waker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoints = Endpoints(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}", connect_timeout=60)
        stop = threading.Event()
        threading.Timer(0.1, lambda: (stop.set(), waker.wake())).start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            endpoints.connect("test", waker, stop.is_set, lambda _reason: None, lambda: None)
        assert time.monotonic() - began < SECONDS


# Heartbeats


def test_heartbeats_keep_an_idle_connection(
    connect: Connect, own_node: RabbitMQNode, hurt: VHost, waker: Waker
) -> None:
    connection = connect(hurt.uri, heartbeat=1)
    poll_for(connection, 3.5)  # the broker gives up after two intervals
    assert connection.heartbeat == 1
    connection.channel(1).queue_declare("q")


def test_a_silent_broker_is_given_up(connect: Connect, own_node: RabbitMQNode, hurt: VHost) -> None:
    connection = connect(hurt.uri, heartbeat=1)
    with own_node.paused(), pytest.raises(amqp.ConnectionForced, match="no sign of life"):
        poll_for(connection, SECONDS)


def poll_for(connection: LinkConnection, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.poll(end)


# Writing before sleeping


def test_the_owner_may_write_before_every_poll(connect: Connect, amqp_uri: str, waker: Waker) -> None:
    """A publish that is left unwritten until then is confirmed, whatever the thread waits for."""
    connection = connect(amqp_uri)
    channel = connection.channel(1)
    confirms = confirms_on(channel)
    stream, unwritten = connection.stream, [publish_frames(1, message("q"), 131_072) for _ in range(3)]
    assert stream is not None
    connection.before_sleep = lambda: stream.send(unwritten.pop()) if unwritten else None
    connection.poll(time.monotonic() + SECONDS)
    assert len(unwritten) == 2
    serve_until(connection, lambda: not unwritten and confirms and confirms[-1] == 3)


def test_what_a_poll_has_read_is_handled_before_the_next_wait(connect: Connect, amqp_uri: str) -> None:
    connection = connect(amqp_uri)
    channel = connection.channel(1)
    confirms = confirms_on(channel)
    assert connection.stream is not None
    connection.stream.send(publish_frames(1, message("q", "x"), 131_072))
    connection.poll(time.monotonic() + SECONDS)
    assert not confirms
    assert not connection._frames.empty
    handled_by_then: list[list[int]] = []
    connection.before_sleep = lambda: handled_by_then.append(confirms.copy())
    connection.serve(time.monotonic())
    assert handled_by_then == [[1]]


def test_serving_ends_at_its_deadline(connect: Connect, amqp_uri: str) -> None:
    began = time.monotonic()
    connect(amqp_uri).serve(began + 0.05)
    assert 0.05 <= time.monotonic() - began < SECONDS


# The waker


def test_wake_ups_are_never_lost(waker: Waker) -> None:
    left: list[int] = []
    taken = 0

    def leave() -> None:
        for number in range(2000):
            left.append(number)
            waker.wake()

    threads = [threading.Thread(target=leave) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS
    while taken < 4000 and time.monotonic() < deadline:
        waker.wait(SECONDS)
        while left:
            left.pop()
            taken += 1
    for thread in threads:
        thread.join()
    assert taken == 4000


def test_waking_a_closed_one_does_nothing() -> None:
    waker = Waker()
    waker.close()
    waker.wake()
