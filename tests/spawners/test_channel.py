"""Whole frames between two ends of a socket pair."""

import socket
import threading
from collections.abc import Iterator

import pytest

from micro_framework.spawners.channel import Channel

SECONDS = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    pair = socket.socketpair()
    for end in pair:
        end.settimeout(SECONDS)
    channels = (Channel(pair[0]), Channel(pair[1]))
    yield channels
    for channel in channels:
        channel.close()


@pytest.mark.parametrize("size", [0, 1, 65528, 65536, 65537, 3_000_000])
def test_frames_of_any_size_arrive_whole(ends: tuple[Channel, Channel], size: int) -> None:
    one, other = ends
    frame = bytes(size)
    sender = threading.Thread(target=one.send, args=[frame])  # a large one needs somebody who reads meanwhile
    sender.start()
    assert other.receive() == frame
    sender.join(SECONDS)


def test_frames_that_arrive_together_are_told_apart(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    for frame in (b"a", b"", b"bc"):
        one.send(frame)
    assert [other.receive() for _ in range(3)] == [b"a", b"", b"bc"]


def test_a_frame_that_is_not_all_there_is_not_taken(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.socket.sendall((3).to_bytes(8, "big") + b"ab")
    assert other.fill()
    assert other.take() is None
    one.socket.sendall(b"c")
    assert other.receive() == b"abc"


def test_what_was_sent_before_the_end_is_received(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send(b"last")
    one.close()
    assert (other.receive(), other.receive()) == (b"last", None)


def test_a_lost_end_is_none_to_who_receives_and_an_error_to_who_sends(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.close()
    assert other.receive() is None
    with pytest.raises(OSError):
        other.send(b"?")


def test_a_peer_that_left_unread_data_behind_is_gone_too(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    other.send(b"never read")
    one.close()
    assert other.receive() is None


def test_end_wakes_who_waits_and_keeps_what_has_come(ends: tuple[Channel, Channel]) -> None:
    one, _ = ends
    received: list[bytes | None] = []
    waiting = threading.Thread(target=lambda: received.append(one.receive()))
    waiting.start()
    one.end()
    waiting.join(SECONDS)
    assert received == [None]
    assert one.fileno() >= 0, "closing is left to who waits"


def test_the_descriptor_is_gone_when_it_is_closed(ends: tuple[Channel, Channel]) -> None:
    ends[0].close()
    assert ends[0].fileno() == -1
