"""What calls come to a worker process by."""

import mmap
import socket
from collections.abc import Iterator

import pytest

from micro_framework.spawners.channel import Channel
from micro_framework.spawners.work import BERTHS, END, LONGEST_REQUEST, Work, queue_ends


class Sides:
    """Both sides, in one process."""

    def __init__(self) -> None:
        self.requests, self.unread = queue_ends()
        pairs = [socket.socketpair() for _ in range(BERTHS)]
        self.berths = [Channel(ours) for ours, _ in pairs]
        self.work = Work(self.unread, [Channel(theirs) for _, theirs in pairs], mmap.mmap(-1, BERTHS))

    def close(self) -> None:
        for end in (self.requests, self.unread, *self.berths, *self.work.berths):
            end.close()
        self.work.marker.close()


@pytest.fixture
def sides() -> Iterator[Sides]:
    both = Sides()
    yield both
    both.close()


def test_requests_come_whole_and_in_order_with_their_berths(sides: Sides) -> None:
    longest = b"x" * LONGEST_REQUEST
    sides.requests.send(b"\1" + longest)
    sides.requests.send(b"\0two")
    assert sides.work.next() == (1, longest)
    assert sides.work.next() == (0, b"two")


def test_a_request_too_long_for_the_queue_comes_by_its_berth(sides: Sides) -> None:
    sides.requests.send(b"\1")
    sides.berths[1].send(b"x" * (LONGEST_REQUEST + 1))
    assert sides.work.next() == (1, b"x" * (LONGEST_REQUEST + 1))


def test_whoever_comes_first_takes_a_request(sides: Sides) -> None:
    sides.requests.send(b"\0one")
    sides.requests.send(b"\1two")
    assert sides.unread.recv(100, socket.MSG_DONTWAIT) == b"\0one"
    assert sides.work.next() == (1, b"two")


def test_there_are_no_more_after_the_end(sides: Sides) -> None:
    sides.requests.send(b"\0last")
    sides.requests.send(END)
    assert sides.work.next() == (0, b"last")
    assert sides.work.next() is None


def test_a_service_that_breaks_off_in_mid_request_sends_none(sides: Sides) -> None:
    sides.requests.send(b"\0")
    sides.berths[0].close()
    assert sides.work.next() is None


def test_without_its_queue_a_process_has_nothing_to_do(sides: Sides) -> None:
    sides.unread.close()
    assert sides.work.next() is None
