"""What the broker port promises about publishing, confirms and delays, held against every broker."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from micro_framework.brokers.port import Publication, Verdict
from micro_framework.exceptions import BrokerError, PublishTimeout, UnknownExchange, Unroutable
from micro_framework.wire.messages import Properties
from tests.brokers.probes import SECONDS, Doors, exchange, message, queue, soon

JOBS = queue("jobs")

HEADERS = {
    "text": "grüße ☃",
    "empty": "",
    "nothing": None,
    "yes": True,
    "no": False,
    "small": -7,
    "large": 2**40,
    "float": 1.5,
    "decimal": Decimal("12.34"),
    "list": ["a", 1, None, ["b"]],
    "table": {"inner": {"deep": [1, {"x": None}]}, "key with spaces": "v"},
    "nameko.call_id_stack": ["a.b.1", "c.d.2"],
}


# What travels


def test_properties_arrive_as_they_were_sent(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    sent = Properties(
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        priority=3,
        correlation_id="c-1",
        reply_to="r-1",
        headers=HEADERS,
    )
    doors.send(message("jobs", properties=sent))
    delivery = inbox.next()
    assert delivery.properties == sent
    assert (delivery.content_type, delivery.content_encoding) == ("application/json", "utf-8")


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_keeps_value_and_type(doors: Doors, name: str) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.send(message("jobs", properties=Properties(headers={name: HEADERS[name]})))
    found = inbox.next().headers[name]
    assert (type(found), found) == (type(HEADERS[name]), HEADERS[name])


def test_a_datetime_header_arrives_in_whole_seconds(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    when = datetime(2024, 2, 29, 12, 30, 45, 678_000, tzinfo=UTC)
    doors.send(message("jobs", properties=Properties(headers={"when": when})))
    assert inbox.next().headers["when"].replace(tzinfo=UTC) == when.replace(microsecond=0)


def test_a_message_without_properties_has_none(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.send(message("jobs", b"bare"))
    delivery = inbox.next()
    assert (delivery.content_type, delivery.content_encoding, dict(delivery.headers)) == (None, None, {})


def test_changing_headers_after_publishing_changes_nothing(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    headers = {"stack": ["a"]}
    doors.send(message("jobs", properties=Properties(headers=headers)))
    headers["stack"].append("b")
    assert inbox.next().headers == {"stack": ["a"]}


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xce", bytes(range(256)) * 4096], ids=["empty", "binary", "1 MB"])
def test_any_body_travels(doors: Doors, body: bytes) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.send(message("jobs", body), message("jobs", b"after"))
    assert [delivery.body for delivery in inbox.several(2)] == [body, b"after"]


# Confirms


def test_the_outcome_is_told_to_callbacks_before_and_after_it_is_known(doors: Doors) -> None:
    doors.declare(JOBS)
    outcomes: list[BaseException | None] = []
    told = threading.Event()

    def tell(error: BaseException | None) -> None:
        outcomes.append(error)
        told.set()

    confirmation = doors.common_publisher.publish(message("jobs"))
    confirmation.add_done_callback(tell)
    assert told.wait(SECONDS)
    confirmation.wait(soon())
    confirmation.add_done_callback(outcomes.append)
    assert outcomes == [None, None]


def test_callbacks_are_told_the_error(doors: Doors) -> None:
    outcomes: list[BaseException | None] = []
    confirmation = doors.common_publisher.publish(message("nobody", mandatory=True))
    confirmation.add_done_callback(outcomes.append)
    with pytest.raises(Unroutable):
        confirmation.wait(soon())
    confirmation.add_done_callback(outcomes.append)
    assert [type(outcome) for outcome in outcomes] == [Unroutable, Unroutable]


def test_waiting_twice_gives_the_same_answer(doors: Doors) -> None:
    confirmation = doors.common_publisher.publish(message("nobody", mandatory=True))
    for _ in range(2):
        with pytest.raises(Unroutable):
            confirmation.wait(soon())


def test_a_deadline_in_the_past_never_waits_and_loses_nothing(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    confirmation = doors.common_publisher.publish(message("jobs", "perhaps late"))
    try:
        confirmation.wait(time.monotonic() - 1)
    except PublishTimeout:
        pass  # not known yet, which the error must say by its type
    assert inbox.next().body == b"perhaps late"


def test_without_a_confirm_the_message_still_arrives(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.common_publisher.publish(message("jobs", "light"), confirm=False).wait(soon())
    assert inbox.next().body == b"light"


def test_many_threads_publish_and_every_message_is_confirmed_and_arrives_once(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    confirmed: list[BaseException | None] = []

    def publish_some(thread: int) -> None:
        for number in range(50):
            confirmation = doors.common_publisher.publish(message("jobs", f"{thread}:{number}"))
            confirmation.add_done_callback(confirmed.append)
            confirmation.wait(soon())

    in_threads(20, publish_some)
    bodies = inbox.bodies(1000)
    assert sorted(bodies) == sorted(f"{thread}:{number}" for thread in range(20) for number in range(50))
    assert confirmed == [None] * 1000
    for thread in range(20):
        own = [body for body in bodies if body.startswith(f"{thread}:")]
        assert own == [f"{thread}:{number}" for number in range(50)]


def in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def test_a_publisher_that_was_not_started_says_so(doors: Doors) -> None:
    publisher = doors.broker.publisher("early")
    with pytest.raises(BrokerError, match="start"):
        publisher.publish(message("jobs")).wait(time.monotonic())


def test_a_publisher_that_was_stopped_says_so(doors: Doors) -> None:
    publisher = doors.publisher()
    assert publisher.wait_ready(soon())
    publisher.stop(soon())
    with pytest.raises(BrokerError, match="stopped"):
        publisher.publish(message("jobs")).wait(soon())


def test_what_was_published_before_stop_is_delivered(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    publisher = doors.publisher()
    assert publisher.wait_ready(soon())
    sent = [publisher.publish(message("jobs", str(number))) for number in range(20)]
    publisher.stop(soon())
    for confirmation in sent:
        confirmation.wait(soon())
    assert inbox.bodies(20) == [str(number) for number in range(20)]


# Delays


def test_a_delayed_message_is_not_early(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    publisher = doors.delaying(JOBS, delays=[200])
    began = time.monotonic()
    publisher.delay(message("", "later"), queue="jobs", delay=200).wait(soon())
    inbox.next()
    assert time.monotonic() - began >= 0.2


LONG = 10 * int(SECONDS * 1000)
"""Milliseconds, more than any test waits."""


def test_the_confirm_of_a_delay_does_not_wait_for_its_end(doors: Doors) -> None:
    doors.declare(JOBS)
    doors.delay(message(""), "jobs", LONG).wait(soon())


def test_a_short_delay_is_not_held_up_by_a_longer_one_before_it(doors: Doors) -> None:
    """Nor by its own kind. In which order two of them come that are due a moment apart, a busy broker leaves open."""
    inbox, _ = doors.consuming(JOBS)
    for milliseconds in (LONG, 200, 0, 200):
        doors.delay(message("", str(milliseconds)), "jobs", milliseconds).wait(soon())
    doors.send(message("jobs", "now"))
    assert sorted(inbox.bodies(4)) == ["0", "200", "200", "now"]


def test_a_delayed_message_arrives_whole(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    properties = Properties(
        content_type="application/json", delivery_mode=2, correlation_id="c", reply_to="r", headers=HEADERS
    )
    doors.delay(message("ignored", b"\x00\xff", to="ignored", properties=properties), "jobs", 50).wait(soon())
    delivery = inbox.next()
    assert (delivery.body, delivery.content_type) == (b"\x00\xff", "application/json")
    assert (delivery.properties.correlation_id, delivery.properties.reply_to) == ("c", "r")
    assert {name: delivery.headers.get(name) for name in HEADERS} == HEADERS
    assert (delivery.exchange, delivery.routing_key, delivery.queue) == ("", "jobs", "jobs")


def test_a_delay_goes_to_one_queue_only(doors: Doors) -> None:
    events = exchange("events")
    one, _ = doors.consuming(queue("one", (events, "#")))
    two, _ = doors.consuming(queue("two", (events, "#")))
    doors.delay(message("key", "one only", to="events"), "one", 20).wait(soon())
    assert one.bodies(1) == ["one only"]
    doors.send(message("key", "both", to="events"))
    assert two.bodies(1) == ["both"]


def test_an_expiration_does_not_shorten_a_delay_or_outlive_it(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    began = time.monotonic()
    doors.delay(message("", properties=Properties(expiration="50")), "jobs", 300).wait(soon())
    delivery = inbox.next()
    assert time.monotonic() - began >= 0.3
    assert delivery.properties.expiration is None


def test_the_brokers_own_headers_do_not_travel_through_a_delay(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    stale = {
        "x-death": [{"queue": "stale", "reason": "expired", "count": 5, "exchange": "", "routing-keys": ["stale"]}],
        "x-first-death-queue": "stale",
        "x-last-death-queue": "stale",
        "x-delivery-count": 41,
        "x-mine": "kept",
    }
    doors.delay(message("", properties=Properties(headers=stale)), "jobs", 20).wait(soon())
    headers = inbox.next().headers
    assert headers["x-mine"] == "kept"
    assert "stale" not in str(dict(headers))
    assert headers.get("x-delivery-count") != 41


def test_a_message_can_be_delayed_again_and_again(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.send(message("jobs", "round", properties=Properties(headers={"n": 0})))
    for number in range(4):
        delivery = inbox.next()
        assert delivery.headers["n"] == number
        properties = Properties(headers={**delivery.headers, "n": number + 1})
        doors.delay(Publication("", "", delivery.body, properties), "jobs", 10).wait(soon())
    assert inbox.next().headers["n"] == 4


def test_mandatory_makes_no_difference_to_a_delay(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.delay(message("nobody", "there", mandatory=True), "jobs", 20).wait(soon())
    assert inbox.next().body == b"there"


def test_a_delay_for_a_missing_queue_is_an_error(doors: Doors) -> None:
    with pytest.raises(Unroutable, match="no-such-queue"):
        doors.delay(message(""), "no-such-queue", 20).wait(soon())


def test_a_negative_delay_is_an_error(doors: Doors) -> None:
    with pytest.raises(ValueError, match="-1"):
        doors.delay(message(""), "jobs", -1)


def test_a_delayed_message_waits_for_a_consumer(doors: Doors) -> None:
    doors.declare(JOBS)
    doors.delay(message("", "patient"), "jobs", 10).wait(soon())
    inbox, _ = doors.consuming(JOBS, Verdict.ACK)
    assert inbox.next().body == b"patient"


def test_delays_that_were_expected_go_as_others_do(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    publisher = doors.delaying(JOBS, delays=[50, 100])
    for milliseconds in (150, 100, 50):
        publisher.delay(message("", str(milliseconds)), queue="jobs", delay=milliseconds).wait(soon())
    assert sorted(inbox.bodies(3)) == ["100", "150", "50"]


RPC = exchange("rpc")
REQUESTS = queue("rpc-orders", (RPC, "orders.*"))


def test_a_delayed_message_may_come_back_through_an_exchange(doors: Doors) -> None:
    inbox, _ = doors.consuming(REQUESTS)
    elsewhere, _ = doors.consuming(queue("rpc-payments", (RPC, "payments.*")))
    publisher = doors.delaying(REQUESTS, delays=[20], exchange="rpc", routing_key="orders.create")
    began = time.monotonic()
    properties = Properties(correlation_id="c-1", reply_to="r-1", headers={"nameko.user_id": 7})
    delayed = publisher.delay(
        message("", "again", properties=properties),
        queue="rpc-orders",
        delay=200,
        exchange="rpc",
        routing_key="orders.create",
    )
    delayed.wait(soon())
    delivery = inbox.next()
    assert time.monotonic() - began >= 0.2
    assert (delivery.exchange, delivery.routing_key, delivery.queue) == ("rpc", "orders.create", "rpc-orders")
    assert (delivery.body, delivery.properties.correlation_id, delivery.properties.reply_to) == (b"again", "c-1", "r-1")
    assert delivery.headers["nameko.user_id"] == 7
    assert elsewhere.is_empty


def test_it_comes_back_to_whatever_queue_the_exchange_leads_to_then(doors: Doors) -> None:
    old, old_consumer = doors.consuming(queue("old", (RPC, "orders.create"), auto_delete=True))
    doors.delay(message("", "moved"), "old", 2_000, exchange="rpc", routing_key="orders.create").wait(soon())
    old_consumer.stop(soon())
    new, _ = doors.consuming(queue("new", (RPC, "orders.create")))
    assert new.bodies(1) == ["moved"]
    assert old.is_empty


def test_ways_back_with_different_keys_do_not_meet(doors: Doors) -> None:
    inbox, _ = doors.consuming(REQUESTS)
    for key in ("orders.create", "orders.cancel"):
        doors.delay(message("", key), "rpc-orders", 20, exchange="rpc", routing_key=key).wait(soon())
    doors.delay(message("", "straight"), "rpc-orders", 20).wait(soon())
    found = {(delivery.body.decode(), delivery.routing_key) for delivery in inbox.several(3)}
    assert found == {
        ("orders.create", "orders.create"),
        ("orders.cancel", "orders.cancel"),
        ("straight", "rpc-orders"),
    }


def test_a_way_back_through_a_missing_exchange_is_an_error(doors: Doors) -> None:
    doors.declare(JOBS)
    with pytest.raises(UnknownExchange, match="no-such-exchange"):
        doors.delay(message(""), "jobs", 20, exchange="no-such-exchange", routing_key="k").wait(soon())


def test_what_was_not_expected_can_be_delayed_too(doors: Doors) -> None:
    inbox, _ = doors.consuming(JOBS)
    doors.common_publisher.delay(message("", "unexpected"), queue="jobs", delay=20).wait(soon())
    assert inbox.bodies(1) == ["unexpected"]
