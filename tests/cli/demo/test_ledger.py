"""The demo's books."""

import threading

import pytest

from micro_framework.calls import Attempt, Call, CallIdentity, Outcome
from micro_framework.cli.demo.ledger import Latency, Ledger, RouteCounts, percentile
from micro_framework.retry import AsyncBackOff
from micro_framework.workers import DependencyFailure

DEADLINE = 20.0


class Seconds:
    """A clock for the ledger."""

    now = 100.0

    def __call__(self):
        return self.now


class FakeRoute:
    def __init__(self, label="Payments.charge", backoff=None):
        self.label = label
        self.policy = backoff.policy if backoff else None


def call(name=None, retry_count=0):
    args = ({"id": name},) if name else ()
    return Call(CallIdentity("s", "m", ("s.m.1",)), args, attempt=Attempt(retry_count))


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def ledger(seconds):
    opened = Ledger(seconds)
    opened.open()
    return opened


def test_orders_are_numbered_while_the_shop_is_open(ledger):
    assert [ledger.next_order(), ledger.next_order()] == [1, 2]
    ledger.close()
    assert ledger.next_order() is None
    assert Ledger().next_order() is None


def test_an_order_is_under_way_before_anything_is_sent(ledger):
    ledger.next_order()
    assert ledger.snapshot().under_way == 1
    assert ledger.missing() == ["order_placed-1"]


def test_a_message_from_its_announcement_to_its_end(ledger, seconds):
    ledger.announce("a-1")
    seconds.now += 0.25
    ledger.arrive("a-1")
    ledger.observe(FakeRoute(), call("a-1"), Outcome())
    books = ledger.snapshot()
    assert (books.sent, books.arrived, books.finished, books.under_way) == (1, 1, 1, 0)
    assert books.latency == Latency(0.25, 0.25, 0.25)
    assert books.elapsed == 0.25
    assert ledger.missing() == []


def test_only_the_first_arrival_counts(ledger, seconds):
    ledger.announce("a-1")
    ledger.arrive("a-1")
    seconds.now += 5
    ledger.arrive("a-1")
    ledger.arrive("another run's")
    assert ledger.snapshot().latency == Latency(0, 0, 0)
    assert ledger.snapshot().arrived == 1


def test_a_message_handled_again_is_counted_apart(ledger):
    ledger.announce("a-1")
    for _ in range(3):
        ledger.arrive("a-1")
        ledger.observe(FakeRoute(), call("a-1"), Outcome())
    assert (ledger.snapshot().finished, ledger.snapshot().handled_again) == (1, 2)


def test_a_retried_message_is_still_under_way_and_a_given_up_one_is_not(ledger):
    paid = FakeRoute(backoff=AsyncBackOff(max_retries=1, interval=10))
    ledger.announce("a-1")
    ledger.observe(paid, call("a-1"), Outcome(error=ValueError()))
    assert ledger.missing() == ["a-1"]
    ledger.observe(paid, call("a-1", retry_count=1), Outcome(error=ValueError()))
    assert ledger.missing() == []
    assert ledger.snapshot().routes["Payments.charge"] == RouteCounts(ok=0, failed=2, retried=1, given_up=1)


def test_without_backoff_a_failure_is_the_end_unless_the_call_did_not_run(ledger):
    ledger.announce("a-1")
    ledger.observe(FakeRoute(), call("a-1"), Outcome(error=DependencyFailure("no")))
    assert ledger.missing() == ["a-1"]
    ledger.observe(FakeRoute(), call("a-1"), Outcome(error=ValueError()))
    assert ledger.missing() == []


def test_a_publish_without_an_answer_is_not_missed_but_counted(ledger):
    ledger.announce("a-1")
    ledger.not_confirmed("a-1")
    books = ledger.snapshot()
    assert (books.sent, books.under_way, books.unsure) == (0, 0, 1)
    assert ledger.missing() == []


def test_a_publish_without_an_answer_that_arrives_was_sent(ledger):
    ledger.announce("a-1")
    ledger.not_confirmed("a-1")
    ledger.arrive("a-1")
    books = ledger.snapshot()
    assert (books.sent, books.arrived, books.under_way, books.unsure) == (1, 1, 1, 0)
    assert ledger.missing() == ["a-1"]


def test_a_publish_that_is_tried_again_is_one_message(ledger):
    ledger.announce("a-1")
    ledger.not_confirmed("a-1")
    ledger.announce("a-1")
    books = ledger.snapshot()
    assert (books.sent, books.under_way, books.unsure) == (1, 1, 0)


def test_a_tick_without_an_order_is_no_call(ledger):
    ledger.observe(FakeRoute("Orders.place"), call(), Outcome(None))
    assert ledger.snapshot().routes == {}
    ledger.observe(FakeRoute("Orders.place"), call(), Outcome(7))
    ledger.observe(FakeRoute("Orders.place"), call(), Outcome(error=ValueError()))
    assert ledger.snapshot().routes["Orders.place"] == RouteCounts(ok=1, failed=1, given_up=1)


def test_waiting_ends_with_the_last_message(ledger):
    ledger.announce("a-1")
    assert not ledger.wait_until_complete(0)
    ended = []
    waiting = threading.Thread(target=lambda: ended.append(ledger.wait_until_complete(DEADLINE)))
    waiting.start()
    ledger.observe(FakeRoute(), call("a-1"), Outcome())
    waiting.join(DEADLINE)
    assert ended == [True]


def test_the_summary_takes_every_latency_and_the_live_view_the_latest(ledger):
    ledger.latencies[:] = [9.0] + [1.0] * 1000
    assert ledger.snapshot().latency == Latency(1.0, 1.0, 1.0)
    assert ledger.snapshot(whole=True).latency == Latency(1.0, 1.0, 9.0)


@pytest.mark.parametrize(
    ("share", "value"),
    [(0.0, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.99, 4), (1.0, 4)],
)
def test_percentiles_are_nearest_rank(share, value):
    assert percentile([1, 2, 3, 4], share) == value
