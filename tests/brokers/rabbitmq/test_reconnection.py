"""Pauses grow and are spread; a refusal is believed at once only from a broker never seen good."""

import pytest

from micro_framework.brokers.rabbitmq.reconnection import GRACE, LONGEST_PAUSE, STABLE_AFTER, Reconnection


def pauses(reconnection: Reconnection, count: int, now: float = 0.0) -> list[float]:
    return [reconnection.next_pause(now) for _ in range(count)]


def test_pauses_double_up_to_the_longest() -> None:
    assert pauses(Reconnection(lambda: 1.0), 7) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5])


def test_a_thousand_failures_overflow_nothing() -> None:
    assert pauses(Reconnection(lambda: 1.0), 1000)[-1] == LONGEST_PAUSE


def test_the_jitter_takes_up_to_half() -> None:
    assert pauses(Reconnection(lambda: 0.0), 2) == pytest.approx([0.05, 0.1])


def test_pauses_begin_anew_after_a_connection_that_lasted() -> None:
    reconnection = Reconnection(lambda: 1.0)
    pauses(reconnection, 5)
    reconnection.connected(100.0)
    assert reconnection.next_pause(100.0 + STABLE_AFTER) == pytest.approx(0.1)


def test_pauses_go_on_growing_after_a_connection_that_did_not() -> None:
    reconnection = Reconnection(lambda: 1.0)
    pauses(reconnection, 3)
    reconnection.connected(100.0)
    assert reconnection.next_pause(100.1) == pytest.approx(0.8)


def test_a_first_refusal_is_final() -> None:
    assert Reconnection().is_final(True, 0.0)


@pytest.mark.parametrize("was_good", [True, False], ids=["after a connection", "after the broker was away"])
def test_a_later_refusal_must_last(was_good: bool) -> None:
    reconnection = Reconnection()
    if was_good:
        reconnection.connected(0.0)
    else:
        assert not reconnection.is_final(False, 0.0)
    assert not reconnection.is_final(True, 50.0)
    assert not reconnection.is_final(True, 50.0 + GRACE - 0.1)
    assert reconnection.is_final(True, 50.0 + GRACE)


def test_another_failure_in_between_begins_the_grace_anew() -> None:
    reconnection = Reconnection()
    reconnection.connected(0.0)
    assert not reconnection.is_final(True, 0.0)
    assert not reconnection.is_final(False, 5.0)
    assert not reconnection.is_final(True, GRACE)


def test_a_connection_is_stable_when_it_has_lasted() -> None:
    reconnection = Reconnection()
    assert not reconnection.was_stable(100.0)
    reconnection.connected(100.0)
    assert not reconnection.was_stable(100.0 + STABLE_AFTER / 2)
    assert reconnection.was_stable(100.0 + STABLE_AFTER)
