from threading import RLock

from micro_framework.brokers.memory.queues import Consumption, MemoryDelivery, Message, StoredQueue
from micro_framework.brokers.port import Verdict
from micro_framework.wire.messages import Properties
from tests.brokers.probes import queue


def stored(**arguments: object) -> StoredQueue:
    return StoredQueue(queue("jobs", arguments=arguments), None, RLock())


def put(jobs: StoredQueue, *bodies: str, expires_in: float | None = None) -> None:
    for body in bodies:
        jobs.put(Message("events", "key", body.encode(), Properties(), expires_in))


def consume(jobs: StoredQueue, prefetch: int = 0) -> tuple[Consumption, list[MemoryDelivery]]:
    taken: list[MemoryDelivery] = []
    consumption = Consumption(jobs, prefetch, taken.append)
    jobs.consumptions.append(consumption)
    jobs.deliver_what_fits()
    return consumption, taken


def bodies(deliveries: list[MemoryDelivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


def test_consumers_are_served_in_turn() -> None:
    jobs = stored()
    (_, one), (_, two), (_, three) = consume(jobs), consume(jobs), consume(jobs)
    put(jobs, *"abcdef")
    assert (bodies(one), bodies(two), bodies(three)) == (["a", "d"], ["b", "e"], ["c", "f"])


def test_a_prefetch_of_zero_is_no_bound() -> None:
    jobs = stored()
    _, taken = consume(jobs, prefetch=0)
    put(jobs, *"abcdef")
    assert len(taken) == 6


def test_messages_that_come_back_at_different_times_keep_their_order() -> None:
    jobs = stored()
    put(jobs, *"abcdef")
    consumption, taken = consume(jobs, prefetch=4)
    jobs.consumptions.remove(consumption)
    for number in (2, 0, 3, 1):
        taken[number].settle(Verdict.REQUEUE)
    _, again = consume(jobs)
    assert bodies(again) == list("abcdef")
    assert [delivery.redelivered for delivery in again] == [True] * 4 + [False] * 2


def test_what_is_given_back_goes_to_whoever_else_has_room() -> None:
    jobs = stored()
    gone, taken = consume(jobs)
    put(jobs, *"abc")
    _, other = consume(jobs)
    jobs.consumptions.remove(gone)
    taken[1].settle(Verdict.ACK)
    gone.give_everything_back()
    assert bodies(other) == ["a", "c"]
    taken[0].settle(Verdict.REQUEUE)  # too late: it is the other consumer's now
    assert bodies(other) == ["a", "c"]


def test_an_expired_message_is_dropped_when_its_turn_comes() -> None:
    jobs = stored()
    put(jobs, "expired", expires_in=0)
    put(jobs, "kept", expires_in=60)
    _, taken = consume(jobs)
    assert bodies(taken) == ["kept"]


def test_the_shorter_of_a_queues_and_a_messages_time_to_live_counts() -> None:
    jobs = stored(**{"x-message-ttl": 0})
    put(jobs, "expired", expires_in=60)
    assert bodies(consume(jobs)[1]) == []


def test_a_delivery_says_what_and_whence_but_not_the_body_in_its_repr() -> None:
    jobs = stored()
    _, taken = consume(jobs)
    put(jobs, "secret")
    assert (taken[0].exchange, taken[0].routing_key, taken[0].queue) == ("events", "key", "jobs")
    assert repr(taken[0]) == "<delivery of 6 bytes from jobs, routing key 'key'>"
