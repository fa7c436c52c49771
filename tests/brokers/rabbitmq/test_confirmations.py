"""A publish on its way: the first outcome wins, whoever asks and whenever."""

import threading
import time

import pytest

from micro_framework.brokers.port import Publication
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.exceptions import PublishTimeout, Unroutable
from micro_framework.wire.messages import Properties
from tests.brokers.probes import soon


def pending(confirm: bool = True) -> PendingPublish:
    publication = Publication("events", "key", b"", Properties())
    return PendingPublish(publication, bytes, confirm, lambda: "the state")


def test_the_first_outcome_wins() -> None:
    publish, told = pending(), []
    publish.add_done_callback(told.append)
    first = Unroutable("returned")
    assert publish.finish(first)
    assert not publish.finish(None)
    with pytest.raises(Unroutable):
        publish.wait(soon())
    assert told == [first]


def test_one_of_many_outcomes_at_once_wins_and_every_waiter_sees_it() -> None:
    for _ in range(200):
        publish, wins, seen = pending(), [], []
        publish.add_done_callback(seen.append)
        start = threading.Barrier(3)

        def finish(error: Unroutable, publish: PendingPublish = publish, start: threading.Barrier = start) -> None:
            start.wait()
            if publish.finish(error):
                wins.append(error)  # noqa: B023

        threads = [threading.Thread(target=finish, args=(Unroutable(str(number)),)) for number in range(2)]
        for thread in threads:
            thread.start()
        start.wait()
        for thread in threads:
            thread.join()
        assert wins == seen
        assert len(wins) == 1


def test_a_timeout_of_something_written_says_it_may_have_been_delivered() -> None:
    publish = pending()
    publish.written = True
    with pytest.raises(PublishTimeout, match=r"'events', routing key 'key'.*the state.*may have been delivered"):
        publish.wait(time.monotonic())


def test_a_timeout_of_something_unwritten_says_it_was_not_sent() -> None:
    with pytest.raises(PublishTimeout, match=r"was not sent in time \(the state\), and will not be"):
        pending().wait(time.monotonic())


def test_a_confirm_after_the_timeout_changes_nothing() -> None:
    publish = pending()
    with pytest.raises(PublishTimeout):
        publish.wait(time.monotonic())
    assert not publish.finish(None)
    with pytest.raises(PublishTimeout):
        publish.wait(soon())


def test_waiting_quietly_gives_nothing_up() -> None:
    publish = pending()
    assert not publish.wait_quietly(time.monotonic())
    assert publish.finish(None)
    publish.wait(time.monotonic())


def test_a_callback_that_raises_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    publish, told = pending(), []

    def broken(_error: BaseException | None) -> None:
        raise ValueError("a defect")

    publish.add_done_callback(broken)
    publish.add_done_callback(told.append)
    publish.finish(None)
    assert told == [None]
    assert "must not" in caplog.text


def test_frames_are_packed_once_for_each_frame_size() -> None:
    publish = pending()
    assert publish.frames(8) is publish.frames(8)
    assert len(publish.frames(9)) == 9


def test_a_callback_that_comes_while_somebody_else_looks_is_called() -> None:
    publish = pending()
    publish.finish(None)
    told: list[BaseException | None] = []
    with publish._done:  # as whoever waits holds it for a moment
        publish.add_done_callback(told.append)
    assert told == [None]
