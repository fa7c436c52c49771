"""Channels: messages between two ends of a real socket."""

import json
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from micro_framework.channel import Channel

SECONDS = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = (Channel(stream, SECONDS) for stream in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def raw() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel, and the other end as a plain socket."""
    mine, other = socket.socketpair()
    channel = Channel(mine, 0)
    yield channel, other
    channel.close()
    other.close()


def framed(message: object) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack("!I", len(body)) + body


def test_messages_arrive_in_order_with_what_they_carry(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert ours.send("ready", what="shop (2 targets)")
    assert ours.send("alive")
    received: list[object] = []
    while len(received) < 2:
        received += theirs.receive() or []
    assert received == [{"name": "ready", "what": "shop (2 targets)"}, {"name": "alive"}]


def test_a_message_that_comes_in_pieces_is_put_together(raw: tuple[Channel, socket.socket]) -> None:
    channel, other = raw
    data = framed({"name": "a"}) + framed({"name": "b"})
    for number in range(len(data) - 1):
        other.send(data[number : number + 1])
        received = channel.receive()
        assert received == ([{"name": "a"}] if number == len(framed({"name": "a"})) - 1 else [])
    other.send(data[-1:])
    assert channel.receive() == [{"name": "b"}]


def test_without_patience_nothing_waits(raw: tuple[Channel, socket.socket]) -> None:
    channel, _ = raw
    assert channel.receive() is None
    assert not channel.gone


def test_what_was_said_before_the_end_is_heard_and_then_the_end(raw: tuple[Channel, socket.socket]) -> None:
    channel, other = raw
    other.sendall(framed({"name": "failed"}))
    other.close()
    assert channel.receive() == [{"name": "failed"}]
    assert not channel.gone
    assert channel.receive() is None
    assert channel.gone


def test_a_message_to_nobody_is_told(raw: tuple[Channel, socket.socket]) -> None:
    channel, other = raw
    other.close()
    assert not channel.send("stop")


def test_a_side_that_never_reads_is_given_up(raw: tuple[Channel, socket.socket]) -> None:
    channel, other = raw
    text = "x" * 100_000
    for _ in range(1000):
        if not channel.send("metrics", text=text):
            break
    else:
        pytest.fail("the socket took 100 MB that nobody read")
    assert not channel.send("stop"), "half a message is in it, so nothing may follow"
    while other.recv(1_000_000):
        pass  # the other side sees the end


def test_many_threads_send_whole_messages(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    texts = [str(number) * 5000 for number in range(8)]
    threads = [threading.Thread(target=ours.send, args=("text",), kwargs={"text": text}) for text in texts]
    for thread in threads:
        thread.start()
    received: list[object] = []
    while len(received) < len(texts):
        received += [message["text"] for message in theirs.receive() or []]
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(map(str, received)) == texts


def test_hanging_up_wakes_a_thread_that_waits(ends: tuple[Channel, Channel]) -> None:
    ours, _ = ends
    waiting = threading.Thread(target=ours.receive)
    waiting.start()
    ours.hang_up()
    ours.hang_up()
    waiting.join(SECONDS / 2)
    assert not waiting.is_alive()
    assert ours.gone
