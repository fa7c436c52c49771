"""Parking in running services, on every broker: what is parked, how it looks, and what becomes of the original."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import kombu
import pytest
from kombu import Queue as KombuQueue

from micro_framework.amqp.entrypoints import EventListener, QueueListener
from micro_framework.amqp.parking import parking_queue
from micro_framework.brokers.port import Delivery, Publication, Verdict
from micro_framework.calls import Outcome
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.exceptions import PublishError, WorkerDied
from micro_framework.parking import HEADERS_LIMIT, Parked, read_parked, table_size
from micro_framework.retry import AsyncBackOff
from micro_framework.runner import Runner, RunnerContext
from micro_framework.testing import ManualClock, running
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.messages import TRANSIENT, event_properties
from micro_framework.wire.naming import Queue, event_queue
from micro_framework.workers import Worker
from tests.brokers.probes import soon
from tests.outside import SECONDS, Outside, recording

POOL_QUEUE = event_queue("payments", "refunded", service="orders", method="handle")
PARKED = Queue("evt-payments-refunded--orders.handle.parked")
JOBS = Queue("jobs")
QUORUM_JOBS = KombuQueue("jobs", queue_arguments={"x-queue-type": "quorum"})


class CardError(Exception):
    """Raised by the methods here."""


def refunds(**options: Any) -> EventListener:
    return EventListener("payments", "refunded", **options)


def failing(error: BaseException | None = None) -> Callable[[Any], object]:
    def fail(payload: Any) -> object:
        raise error or CardError(f"cannot refund {payload}")

    return fail


@contextlib.contextmanager
def started(uri: str, *services: Any, clock: ManualClock | None = None, **config: Any) -> Iterator[Runner]:
    with running(*services, config={"AMQP_URI": uri, **config}, clock=clock) as runner:
        yield runner


class Lookout:
    """Looks into the queue of parked messages while a service runs."""

    def __init__(self, outside: Outside, queue: Queue = PARKED) -> None:
        self.browser = outside.doors.browser()
        self.queue = queue

    def next(self) -> Delivery:
        """The next parked message, which stays taken."""
        deadline = soon()
        waiting = threading.Event()
        while not self.browser.count(self.queue.name, deadline):
            assert not waiting.wait(0.02)
        delivery = self.browser.get(self.queue.name, deadline)
        assert delivery is not None
        return delivery

    def wait_for(self, count: int) -> None:
        """Wait until so many messages wait there."""
        deadline, waiting = soon(), threading.Event()
        while self.browser.count(self.queue.name, deadline) != count:
            assert not waiting.wait(0.02)

    def next_record(self) -> Parked:
        return record_of(self.next())

    def count(self) -> int | None:
        return self.browser.count(self.queue.name, soon())


def record_of(delivery: Delivery) -> Parked:
    found = read_parked(delivery.headers)
    assert found is not None
    return found


def left_in(outside: Outside, queue: Queue = POOL_QUEUE) -> list[bytes]:
    """What a queue holds when its service has stopped."""
    return [delivery.body for delivery in outside.take_all(queue)]


# -- what is parked


def test_a_failed_message_is_parked_as_it_was_with_what_is_known(broker_uri: str, outside: Outside) -> None:
    body = b'{"b": 1,   "a": "\\u00e4"}'
    headers = {"nameko.user_id": 7, "nameko.call_id_stack": ["web.index.1"], "foreign": "f"}
    before = datetime.now(UTC)
    service, calls = recording(refunds(), then=failing(CardError("expired")), dead_letter=True)
    with started(broker_uri, service):
        outside.send(body, to="payments.events", key="refunded", headers=headers, correlation_id="c-1", priority=3)
        _, context = calls.next_call()
        delivery = Lookout(outside).next()
    assert delivery.body == body
    properties, record = delivery.properties, record_of(delivery)
    assert (delivery.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.correlation_id, properties.priority, properties.delivery_mode) == ("c-1", 3, 2)
    assert record.headers == headers
    assert (record.queue, record.service, record.method) == (POOL_QUEUE.name, "orders", "handle")
    assert (record.exchange, record.routing_key) == ("payments.events", "refunded")
    assert (record.reason, record.error, record.text) == ("failed", f"{__name__}.CardError", "expired")
    assert (record.attempts, record.crashes, record.call_id) == (1, 0, context.call_id)
    assert record.first == record.last
    assert before <= record.last <= datetime.now(UTC)
    assert [(each.attempt, each.exc_type, each.text) for each in record.history] == [(0, "CardError", "expired")]
    assert record.traceback.startswith("Traceback (most recent call last)")
    assert record.traceback.rstrip().endswith("CardError: expired")
    assert "raise error or CardError" in record.traceback
    assert left_in(outside) == []


def test_retries_come_first_and_their_history_is_parked_too(broker_uri: str, outside: Outside) -> None:
    service, calls = recording(refunds(), then=failing(), dead_letter=True, backoff=AsyncBackOff(2, 1))
    with started(broker_uri, service):
        outside.event("payments", "refunded", 7)
        record = Lookout(outside).next_record()
    assert len(calls.rest()) == 3
    assert (record.attempts, record.exchange, record.routing_key) == (3, "payments.events", "refunded")
    assert [each.attempt for each in record.history] == [0, 1, 2]
    assert record.first == record.history[0].when < record.history[2].when == record.last
    assert record.headers == {}
    assert left_in(outside) == []


def test_without_dead_letter_a_failed_message_is_gone(broker_uri: str, outside: Outside) -> None:
    service, calls = recording(refunds(), then=failing())
    with started(broker_uri, service):
        outside.event("payments", "refunded", 7)
        assert calls.next() == 7
    assert Lookout(outside).count() is None
    assert left_in(outside) == []


def test_the_configured_default_parks(broker_uri: str, outside: Outside) -> None:
    service, _ = recording(refunds(), then=failing())
    with started(broker_uri, service, DEAD_LETTER=True):
        outside.event("payments", "refunded", 7)
        assert Lookout(outside).next_record().text == "cannot refund 7"


def test_a_message_whose_callback_failed_is_parked_all_the_same(broker_uri: str, outside: Outside) -> None:
    def broken(payload: Any, exception: BaseException) -> None:
        raise LookupError("no mail server")

    service, _ = recording(refunds(), then=failing(CardError("expired")), on_failure=broken)
    with started(broker_uri, service):
        outside.event("payments", "refunded", 7)
        record = Lookout(outside).next_record()
    assert (record.reason, record.text, record.callback) == (
        "callback failed",
        "expired",
        "LookupError: no mail server",
    )
    assert record.traceback.index("CardError: expired") < record.traceback.index("Then the callback failed:")
    assert record.traceback.rstrip().endswith("LookupError: no mail server")
    assert left_in(outside) == []


def test_what_cannot_be_decoded_is_parked_byte_for_byte(broker_uri: str, outside: Outside) -> None:
    service, calls = recording(refunds(), dead_letter=True)
    with started(broker_uri, service):
        outside.send(b"\xff{", to="payments.events", key="refunded")
        delivery = Lookout(outside).next()
    record = record_of(delivery)
    assert (delivery.body, record.reason, record.attempts, record.call_id) == (b"\xff{", "undecodable", 0, "")
    assert record.error == "micro_framework.exceptions.UndecodableMessage"
    assert calls.rest() == []
    assert left_in(outside) == []


def test_a_parked_message_rests_whatever_it_carried(broker_uri: str, outside: Outside) -> None:
    """It neither expires, nor goes to a queue named in ``CC``, nor is it refused for another's ``user_id``."""
    service, _ = recording(refunds(), then=failing(), dead_letter=True)
    elsewhere, _ = outside.doors.consuming(Queue("elsewhere"))
    user = urlsplit(broker_uri).username
    with started(broker_uri, service):
        outside.send(
            1, to="payments.events", key="refunded", headers={"CC": ["other"]}, user_id=user, expiration="60000"
        )
        delivery = Lookout(outside).next()
    assert (delivery.properties.expiration, delivery.properties.user_id) == (None, None)
    withheld = {"CC": ["other"], "expiration": "60000", **({"user_id": user} if user else {})}
    assert record_of(delivery).withheld == withheld
    assert elsewhere.is_empty


def test_a_transient_message_is_parked_for_good(broker_uri: str, outside: Outside) -> None:
    service, _ = recording(refunds(), then=failing(), dead_letter=True)
    with started(broker_uri, service):
        properties = event_properties({}, delivery_mode=TRANSIENT)
        outside.doors.send(Publication("payments.events", "refunded", b"1", properties, mandatory=True))
        delivery = Lookout(outside).next()
    assert delivery.properties.delivery_mode == 2
    assert record_of(delivery).withheld == {"delivery_mode": 1}


def test_a_huge_error_does_not_burst_the_headers(broker_uri: str, outside: Outside) -> None:
    service, _ = recording(refunds(), then=failing(CardError("ä" * 1_000_000 + "the end")), dead_letter=True)
    with started(broker_uri, service):
        outside.event("payments", "refunded", 1, headers={"own": "x" * 20_000})
        delivery = Lookout(outside).next()
    assert table_size(delivery.headers) <= HEADERS_LIMIT
    record = record_of(delivery)
    assert record.traceback.rstrip().endswith("ä" * 1000 + "the end")
    assert record.headers == {"own": "x" * 20_000}


# -- the queue


def test_the_queue_is_there_from_the_start_where_a_route_parks(broker_uri: str, outside: Outside) -> None:
    service, _ = recording(refunds(), dead_letter=True)
    with started(broker_uri, service):
        assert Lookout(outside).count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"reliable_delivery": False},
        {"handler_type": "broadcast"},
        {"handler_type": "broadcast", "broadcast_identifier": "a"},
    ],
)
def test_a_queue_that_comes_and_goes_gets_one_only_when_it_is_needed(
    broker_uri: str, outside: Outside, options: dict[str, Any]
) -> None:
    service, _ = recording(refunds(**options), then=failing(), dead_letter=True)
    with started(broker_uri, service) as runner:
        (route,) = runner.assembly.routes
        lookout = Lookout(outside, route.entrypoint.parking.parked)  # type: ignore[attr-defined]
        assert lookout.count() is None
        outside.event("payments", "refunded", 7)
        assert lookout.next_record().queue == lookout.queue.name.removesuffix(".parked")


def test_a_queue_that_exists_with_other_flags_is_used_as_it_is(broker_uri: str, outside: Outside) -> None:
    other = Queue(PARKED.name, arguments={"x-message-ttl": 3_600_000})
    outside.doors.declare(other)
    service, _ = recording(refunds(), then=failing(), dead_letter=True)
    with started(broker_uri, service):
        outside.event("payments", "refunded", 7)
        assert Lookout(outside).next_record().text == "cannot refund 7"


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({}, {}),
        ({"x-queue-type": "quorum", "x-max-length": 5}, {"x-queue-type": "quorum"}),
        ({"x-queue-type": "classic", "x-message-ttl": 5}, {"x-queue-type": "classic"}),
        ({"x-queue-type": "stream"}, {}),
    ],
)
def test_the_queue_has_the_type_of_the_one_beside_it_and_nothing_else(
    arguments: dict[str, Any], kept: dict[str, Any]
) -> None:
    found = parking_queue(Queue("jobs", durable=False, auto_delete=True, arguments=arguments))
    assert found == Queue("jobs.parked", durable=True, arguments=kept)


def test_a_quorum_queue_is_parked_in_a_quorum_queue(rabbit: VHost) -> None:
    service, _ = recording(QueueListener(QUORUM_JOBS), then=failing(), dead_letter=True)
    with started(rabbit.uri, service):
        assert rabbit.queue("jobs.parked").arguments == {"x-queue-type": "quorum"}


def test_the_original_stays_until_the_queue_is_old_enough_to_survive_the_broker(rabbit: VHost) -> None:
    clock, outside = ManualClock(), Outside(rabbit.uri)
    service, _ = recording(refunds(), then=failing(), dead_letter=True)
    with started(rabbit.uri, service, clock=clock):
        outside.event("payments", "refunded", 1)
        Lookout(outside).next()
        wait_for_alarm(clock)
        clock.advance(5.9)
        assert rabbit.depth(POOL_QUEUE.name) == 1
        clock.advance(0.2)
        rabbit.wait_until_drained(POOL_QUEUE.name)
        outside.event("payments", "refunded", 2)
        rabbit.wait_for(lambda it: it.depth(PARKED.name) == 2, what="the second message")
        rabbit.wait_until_drained(POOL_QUEUE.name)
        assert not clock.alarms, "the second one is not put off"
    outside.close()


def test_an_original_that_stays_a_little_longer_is_acknowledged_at_the_end(rabbit: VHost) -> None:
    outside = Outside(rabbit.uri)
    service, _ = recording(refunds(), then=failing(), dead_letter=True)
    with started(rabbit.uri, service, clock=ManualClock()):
        outside.event("payments", "refunded", 1)
        Lookout(outside).next()
    assert rabbit.depth(POOL_QUEUE.name) == 0
    outside.close()


def test_a_queue_that_was_deleted_is_made_again_and_counts_as_young(rabbit: VHost) -> None:
    clock, outside = ManualClock(), Outside(rabbit.uri)
    service, _ = recording(refunds(), then=failing(), dead_letter=True)
    with started(rabbit.uri, service, clock=clock):
        clock.advance(10)
        delete(rabbit, PARKED.name)
        outside.event("payments", "refunded", 1)
        Lookout(outside).next()
        wait_for_alarm(clock)
        assert rabbit.depth(POOL_QUEUE.name) == 1
        clock.advance(7)
        rabbit.wait_until_drained(POOL_QUEUE.name)
    outside.close()


def delete(rabbit: VHost, queue: str) -> None:
    with kombu.Connection(rabbit.uri) as connection:
        connection.default_channel.queue_delete(queue)


# -- when it cannot be parked


class Refusing:
    """Makes a runner's publishes fail."""

    def __init__(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refusals: SimpleQueue[None] = SimpleQueue()
        (self.route,) = runner.assembly.routes
        door: Any = self.route.entrypoint.publisher  # type: ignore[attr-defined]
        monkeypatch.setattr(door, "publish", self.refuse)

    def refuse(self, *given: Any, **options: Any) -> None:
        self.refusals.put(None)
        raise PublishError("the disk is full")


def test_what_cannot_be_parked_is_held_off_and_tried_again(
    broker_uri: str, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    service, calls = recording(refunds(), then=failing(), dead_letter=True)
    with started(broker_uri, service, clock=clock) as runner:
        with monkeypatch.context() as patched:
            refusing = Refusing(runner, patched)
            outside.event("payments", "refunded", 7)
            calls.next()
            refusing.refusals.get(timeout=SECONDS)
        wait_for_alarm(clock)
        assert Lookout(outside).count() == 0
        clock.advance(0.2)
        assert calls.next() == 7
        assert Lookout(outside).next_record().text == "cannot refund 7"
        clock.advance(10)
    assert left_in(outside) == []


def wait_for_alarm(clock: ManualClock) -> None:
    """Wait until something is to be done later."""
    deadline, waiting = soon(), threading.Event()
    while not clock.alarms:
        assert not waiting.wait(0.01)
        assert deadline > soon() - SECONDS, "nothing was held off"


# -- workers that die


class Dying(Worker):
    """Dies of the payload "poison", as a pool of processes tells it; runs everything else."""

    def run(self) -> Outcome:
        outcome = super().run()
        return Outcome(error=WorkerDied("orders.refund.1", -9)) if self.call.args == ("poison",) else outcome


@pytest.mark.parametrize("dead_letter", [None, True])
def test_a_message_that_kills_workers_is_parked_at_max_crashes(
    broker_uri: str, outside: Outside, dead_letter: bool | None
) -> None:
    service, calls = recording(refunds(), worker_class=Dying, dead_letter=dead_letter)
    with started(broker_uri, service, MAX_WORKERS=2):
        for payload in ("a", "poison", "b", "c"):
            outside.event("payments", "refunded", payload, headers={"own": 1})
        delivery = Lookout(outside).next()
        record = record_of(delivery)
        outside.event("payments", "refunded", "last")
        assert sorted(calls.several(7)) == ["a", "b", "c", "last", "poison", "poison", "poison"]
    assert delivery.body == b'"poison"'
    assert (record.reason, record.crashes, record.attempts) == ("crashed", 3, 3)
    assert (record.exchange, record.routing_key, record.headers) == ("payments.events", "refunded", {"own": 1})
    assert [each.exc_type for each in record.history] == ["WorkerDied"] * 3
    assert record.first == record.history[0].when
    assert left_in(outside) == []


def test_being_delivered_again_is_never_counted(broker_uri: str, outside: Outside) -> None:
    outside.doors.declare(JOBS)
    inbox, consumer = outside.doors.consuming(JOBS, None)
    outside.send("waited", key="jobs")
    for _ in range(5):
        inbox.next().settle(Verdict.REQUEUE)
    assert inbox.next().redelivered
    consumer.stop(soon())
    service, calls = recording(QueueListener("jobs"))
    with started(broker_uri, service):
        assert calls.next() == "waited"
    assert left_in(outside, JOBS) == []


# -- queues that count


class Unavailable(Dependency[str]):
    """Cannot be had so many times."""

    def __init__(self, times: int) -> None:
        self.left = [None] * times

    def get_dependency(self, worker: RunningCall) -> str:
        if self.left:
            self.left.pop()
            raise ConnectionError("the database is away")
        return "there"


def test_a_message_that_was_held_off_often_is_no_crash(rabbit: VHost) -> None:
    """Its queue counts what comes back, and a broker from 4.0 on drops it after 20 times."""
    outside = Outside(rabbit.uri)
    clock = ManualClock()
    service, calls = recording(QueueListener(QUORUM_JOBS), attributes={"database": Unavailable(6)})
    with started(rabbit.uri, service, clock=clock):
        outside.send("patient", key="jobs", headers={"own": 1})
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
            wait_for_alarm(clock)
            # Not past the next pause, twice as long: it may begin before this returns, and would end in here.
            clock.advance(1.5 * pause)
        assert calls.next() == "patient"
    assert left_in(outside, Queue("jobs", arguments={"x-queue-type": "quorum"})) == []
    assert rabbit.depth("jobs.parked") == 0
    outside.close()


def test_requeue_on_error_is_no_crash_either(rabbit: VHost) -> None:
    outside = Outside(rabbit.uri)
    failures = [CardError()] * 6

    def then(payload: Any) -> None:
        if failures:
            raise failures.pop()

    service, calls = recording(QueueListener(QUORUM_JOBS, requeue_on_error=True), then=then)
    with started(rabbit.uri, service):
        outside.send("again", key="jobs")
        assert calls.several(7) == ["again"] * 7
        rabbit.wait_until_drained()
    outside.close()


def test_what_waits_at_the_end_goes_back_once_and_without_being_counted(rabbit: VHost) -> None:
    outside = Outside(rabbit.uri)
    quorum = Queue("jobs", arguments={"x-queue-type": "quorum"})
    outside.doors.declare(quorum)
    lookout = Lookout(outside, quorum)
    payloads = list(range(50))
    for payload in payloads:
        outside.send(payload, key="jobs")
    for _ in range(3):
        begun, go_on = threading.Event(), threading.Event()

        def hold(payload: Any, begun: threading.Event = begun, go_on: threading.Event = go_on) -> None:
            begun.set()
            go_on.wait(SECONDS)

        # Two contexts, whose connections are closed in either order.
        listeners = [QueueListener(QUORUM_JOBS), QueueListener("others")]
        services = [recording(listener, name=str(number), then=hold) for number, listener in enumerate(listeners)]
        contexts = [RunnerContext([service], max_workers=1) for service, _ in services]
        runner = Runner(contexts, {"AMQP_URI": rabbit.uri, "PREFETCH_COUNT": 100})
        with runner:
            assert begun.wait(SECONDS)
            lookout.wait_for(0)
            stopping = threading.Thread(target=runner.stop, name="test-stopping")
            stopping.start()
            lookout.wait_for(len(payloads) - 1)
            go_on.set()
            stopping.join(SECONDS)
        (handled,) = services[0][1].rest()
        payloads.remove(handled)
    left = outside.take_all(quorum)
    assert sorted(json.loads(delivery.body) for delivery in left) == payloads
    assert all("mf-crashes" not in delivery.headers for delivery in left)
    outside.close()


def test_what_a_queue_counted_is_parked_before_it_runs(rabbit: VHost, caplog: pytest.LogCaptureFixture) -> None:
    outside = Outside(rabbit.uri)
    quorum = Queue("jobs", arguments={"x-queue-type": "quorum"})
    outside.doors.declare(quorum)
    outside.send("poison", key="jobs")
    for _ in range(3):
        inbox, consumer = outside.doors.consuming(quorum, None)
        inbox.next()
        consumer.stop(soon())  # what it had comes back, as when its process dies
    service, calls = recording(QueueListener(QUORUM_JOBS))
    with started(rabbit.uri, service):
        record = Lookout(outside, Queue("jobs.parked")).next_record()
    assert (record.reason, record.crashes, record.attempts) == ("crashed", 3, 3)
    assert record.error == "micro_framework.exceptions.TooManyCrashes"
    assert calls.rest() == []
    (text,) = [each for each in (record.getMessage() for record in caplog.records) if "not run any more" in each]
    assert "queue 'jobs'" in text
    assert "b'\"poison\"'" in text
    outside.close()
