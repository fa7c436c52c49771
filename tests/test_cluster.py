"""Cluster-wide timers on clocks that the test turns, with locks that it hands out."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from micro_framework.cluster import ClusterLocks, ClusterTimer, cluster_locks
from micro_framework.schedule import next_multiple
from micro_framework.testing import ManualClock

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NAME = "mf-timer.orders.tick"


class Cluster:
    """Hands the lock out, and words on, at once."""

    def __init__(self) -> None:
        self.replicas: list[Replica] = []
        self.holder: Replica | None = None

    def replica(self, utc: datetime = NOON) -> "Replica":
        replica = Replica(self, utc)
        self.replicas.append(replica)
        return replica

    def give_to(self, replica: "Replica") -> None:
        """The holder before is gone, and this one has waited."""
        self.holder = replica
        replica.timer.gained()

    def advance(self, seconds: float) -> None:
        for replica in self.replicas:
            replica.clock.advance(seconds)


class Replica(ClusterLocks):
    """One process with a timer every minute; a call is over at once, or when the test says so."""

    def __init__(self, cluster: Cluster, utc: datetime) -> None:
        self.cluster = cluster
        self.clock = ManualClock(1000, utc)
        self.ticks: list[str] = []
        self.over_at_once = True
        self.unanswered: list[Callable[[bool], None]] | None = None
        self.timer = ClusterTimer(self.clock, self.tick, partial(next_multiple, 60.0), self, NAME)

    def begin(self, *, eager: bool = False) -> None:
        self.timer.begin()
        if eager:
            self.timer.tick_now()
        else:
            self.timer.wait_for_next()

    def join(self) -> None:
        """Its connection is there; it holds the lock if nobody else does."""
        held = self.cluster.holder in (None, self)
        if held:
            self.cluster.holder = self
        self.timer.joined(held)

    def tick(self) -> None:
        self.ticks.append(self.clock.utcnow().strftime("%H:%M:%S"))
        if self.over_at_once:
            self.timer.wait_for_next()

    def want(self, name: str, *callbacks: object) -> None:
        assert name == NAME

    def announce(self, name: str, word: str, done: Callable[[bool], None]) -> None:
        if self.unanswered is not None:
            self.unanswered.append(done)
            return
        held = self.cluster.holder is self
        if held:
            for replica in self.cluster.replicas:
                replica.timer.heard(word)
        done(held)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def pair(cluster: Cluster) -> tuple[Replica, Replica]:
    """The holder, and one who waits."""
    found = cluster.replica(), cluster.replica()
    for replica in found:
        replica.begin()
        replica.join()
    return found


def test_the_holder_ticks_and_nobody_else(cluster: Cluster) -> None:
    first, second = pair(cluster)
    cluster.advance(180)
    assert first.ticks == ["12:01:00", "12:02:00", "12:03:00"]
    assert second.ticks == []


def test_nobody_ticks_before_it_is_known_who_holds_the_lock(cluster: Cluster) -> None:
    replica = cluster.replica()
    replica.begin()
    cluster.advance(59)
    assert replica.ticks == []
    replica.join()
    cluster.advance(1)
    assert replica.ticks == ["12:01:00"]


def test_nobody_ticks_before_it_has_begun(cluster: Cluster) -> None:
    replica = cluster.replica()
    replica.join()
    cluster.advance(60)
    assert replica.ticks == []
    replica.begin()
    cluster.advance(60)
    assert replica.ticks == ["12:02:00"]


def test_the_next_one_goes_on_with_the_next_point(cluster: Cluster) -> None:
    first, second = pair(cluster)
    cluster.advance(70)
    cluster.give_to(second)
    assert second.ticks == [], "12:01 has been ticked"
    cluster.advance(50)
    assert (first.ticks, second.ticks) == (["12:01:00"], ["12:02:00"])


def test_a_point_that_came_while_nobody_held_the_lock_is_made_up_for_once(cluster: Cluster) -> None:
    first, second = pair(cluster)
    cluster.advance(60)
    cluster.holder = None  # the first is dead
    cluster.advance(65 + 60)
    cluster.give_to(second)
    assert second.ticks == ["12:03:05"]
    cluster.advance(55)
    assert (first.ticks, second.ticks) == (["12:01:00"], ["12:03:05", "12:04:00"])


def test_a_clock_that_is_behind_ticks_no_point_twice(cluster: Cluster) -> None:
    first, second = cluster.replica(), cluster.replica(NOON - timedelta(seconds=20))
    for replica in (first, second):
        replica.begin()
        replica.join()
    cluster.advance(61)
    cluster.give_to(second)
    cluster.advance(20)
    assert (first.ticks, second.ticks) == (["12:01:00"], [])
    cluster.advance(60)
    assert second.ticks == ["12:02:00"]


def test_who_joins_others_does_not_make_up_for_what_came_before(cluster: Cluster) -> None:
    first = cluster.replica()
    first.begin()
    first.join()
    late = cluster.replica()
    late.begin()
    cluster.advance(150)  # it cannot reach the broker, and hears nothing
    late.timer.seen = NOON
    late.join()
    cluster.give_to(late)
    assert late.ticks == []
    cluster.advance(30)
    assert late.ticks == ["12:03:00"]


def test_after_an_outage_of_the_broker_the_first_one_back_makes_up_once(cluster: Cluster) -> None:
    first, second = pair(cluster)
    cluster.advance(60)
    cluster.holder = None
    cluster.advance(200)
    second.join()
    first.join()
    assert (first.ticks, second.ticks) == (["12:01:00"], ["12:04:20"])
    cluster.advance(40)
    assert (first.ticks, second.ticks) == (["12:01:00"], ["12:04:20", "12:05:00"])


def test_a_holder_that_lost_the_lock_unknowingly_does_not_tick(cluster: Cluster) -> None:
    first, second = pair(cluster)
    cluster.holder = second  # nobody has told the first one
    first.clock.advance(60)
    assert first.ticks == []
    first.clock.advance(600)
    assert first.ticks == []
    first.timer.joined(False)
    cluster.give_to(second)
    second.clock.advance(60)
    assert second.ticks == ["12:01:00"]


def test_a_reconnect_while_the_question_is_under_way_does_not_silence_the_timer(cluster: Cluster) -> None:
    replica = cluster.replica()
    replica.begin()
    replica.join()
    replica.unanswered = []
    replica.clock.advance(60)
    (answer,) = replica.unanswered
    replica.timer.joined(True)  # lost, and joined again before the answer
    replica.unanswered = None
    answer(False)
    assert replica.ticks == ["12:01:00"]


def test_points_left_out_during_a_long_call_are_not_made_up_for_by_another(cluster: Cluster) -> None:
    first, second = pair(cluster)
    first.over_at_once = False
    cluster.advance(60)
    cluster.advance(130)
    first.timer.wait_for_next()
    cluster.give_to(second)
    assert second.ticks == []
    cluster.advance(50)
    assert (first.ticks, second.ticks) == (["12:01:00"], ["12:04:00"])


def test_an_eager_one_ticks_at_once_if_it_is_the_first(cluster: Cluster) -> None:
    first = cluster.replica(NOON + timedelta(seconds=5))
    first.begin(eager=True)
    first.join()
    second = cluster.replica(NOON + timedelta(seconds=5))
    second.begin(eager=True)
    second.join()
    assert (first.ticks, second.ticks) == (["12:00:05"], [])
    cluster.give_to(second)
    assert second.ticks == []
    cluster.advance(55)
    assert second.ticks == ["12:01:00"]


def test_an_eager_one_that_holds_the_lock_before_all_is_ready_ticks_when_it_is(cluster: Cluster) -> None:
    replica = cluster.replica()
    replica.timer.begin()
    replica.join()
    assert replica.ticks == []
    cluster.advance(7)
    replica.timer.tick_now()
    assert replica.ticks == ["12:00:07"]


def test_a_stopped_one_does_not_tick_when_the_answer_comes(cluster: Cluster) -> None:
    replica = cluster.replica()
    replica.begin()
    replica.join()
    replica.unanswered = []
    replica.clock.advance(60)
    replica.timer.stop()
    replica.unanswered[0](True)
    assert replica.ticks == []


def test_a_failed_tick_is_tried_again_by_the_holder_only(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    first, second = pair(cluster)
    first.over_at_once = False
    again: list[str] = []
    cluster.advance(60)
    first.timer.again(10, lambda: again.append("once"))
    cluster.advance(10)
    assert again == ["once"]
    first.timer.again(10, lambda: again.append("twice"))
    cluster.give_to(second)
    cluster.advance(10)
    assert again == ["once"]
    assert "not tried again: this process lost the lock" in caplog.text
    assert not first.timer.put_off


def test_what_is_no_time_is_not_heard(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    first, _ = pair(cluster)
    for nonsense in ("", "soon", "2026-06-01T13:00:00"):  # the last has no time zone
        first.timer.heard(nonsense)
    cluster.advance(60)
    assert first.ticks == ["12:01:00"]
    assert caplog.text.count("which is no time") == 3


def test_a_transport_has_to_define_its_locks() -> None:
    locks = ClusterLocks()
    with pytest.raises(NotImplementedError, match=r"must define want\(\)"):
        locks.want(NAME, print, print, print)
    with pytest.raises(NotImplementedError, match=r"must define announce\(\)"):
        locks.announce(NAME, "x", print)


def test_the_locks_that_are_named_can_be_had() -> None:
    assert str(cluster_locks()) == "connection for cluster-wide timers"
