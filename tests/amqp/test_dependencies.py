"""`Producer` and `Publisher` in running services, on every broker."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kombu import Exchange as KombuExchange, Queue as KombuQueue

from micro_framework.amqp.dependencies import Producer, Publisher
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import BrokerRefused, PublishError, UnknownExchange, Unroutable
from micro_framework.runner import Runner
from micro_framework.testing import running
from micro_framework.wire.naming import Queue
from tests.brokers.probes import soon
from tests.outside import Outside, given

ORDERS_QUEUE = Queue("mail")


@contextlib.contextmanager
def started(uri: str, config: Mapping[str, Any] | None = None, **dependencies: Any) -> Iterator[Runner]:
    """A service ``orders`` with these dependencies, and no consumer."""
    service = type("Orders", (), {"name": "orders", "tick": TimeEntrypoint(3600)(lambda self: None), **dependencies})
    with running(service, config={"AMQP_URI": uri, **(config or {})}) as runner:
        yield runner


# -- Producer


def test_an_event_goes_out_as_nameko_sends_it(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("orders")
    with started(broker_uri, dispatch=Producer()) as runner:
        given(runner, "dispatch", stack=("web.index.1", "orders.handle.2"), user_id=7, gone=None)("created", {"a": [1]})
        event = heard.next()
    assert (event.exchange, event.routing_key, event.body) == ("orders.events", "created", b'{"a": [1]}')
    assert event.headers == {"nameko.user_id": 7, "nameko.call_id_stack": ["web.index.1", "orders.handle.2"]}
    properties = event.properties
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.delivery_mode, properties.priority, properties.expiration) == (2, 0, None)


@pytest.mark.parametrize(("payload", "body"), [(None, b"null"), ("ä", b'"\\u00e4"'), (5, b"5"), ([], b"[]")])
def test_the_body_is_the_payload_alone(broker_uri: str, outside: Outside, payload: Any, body: bytes) -> None:
    heard = outside.listen("orders")
    with started(broker_uri, dispatch=Producer()) as runner:
        given(runner, "dispatch")("created", payload)
        assert heard.next().body == body


def test_headers_of_our_own_do_not_travel_on(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("orders")
    with started(broker_uri, dispatch=Producer()) as runner:
        given(runner, "dispatch", **{"mf-retry-count": 1, "lang": "de"})("created", None)
        assert set(heard.next().headers) == {"nameko.lang", "nameko.call_id_stack"}


def test_a_producer_may_dispatch_as_another_service(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("payments")
    with started(broker_uri, dispatch=Producer("payments")) as runner:
        given(runner, "dispatch")("paid", 1)
        assert heard.next().exchange == "payments.events"


def test_an_event_nobody_hears_is_lost_silently_unless_mandatory(broker_uri: str, outside: Outside) -> None:
    with started(broker_uri, dispatch=Producer(), strict=Producer(mandatory=True)) as runner:
        given(runner, "dispatch")("created", 1)
        with pytest.raises(Unroutable, match="created"):
            given(runner, "strict")("created", 1)


def test_many_events_arrive_in_order(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("orders")
    with started(broker_uri, dispatch=Producer()) as runner:
        given(runner, "dispatch").many(("created", number) for number in range(2500))
        assert heard.bodies(2500) == [str(number) for number in range(2500)]


def test_an_event_is_not_kept_back_until_the_next_one_is_there(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("orders")
    received: list[str] = []

    def waiting_for_each() -> Iterator[tuple[str, int]]:
        for number in range(5):
            yield "created", number
            received.extend(heard.bodies(1))

    with started(broker_uri, dispatch=Producer()) as runner:
        given(runner, "dispatch").many(waiting_for_each())
    assert received == [str(number) for number in range(5)]


def test_one_unroutable_event_among_many_is_told_and_the_others_arrive(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("orders", "created")
    events = [("created", 1), ("nobody", 2), ("created", 3), ("nobody", 4)]
    with started(broker_uri, dispatch=Producer(mandatory=True)) as runner:
        with pytest.raises(Unroutable, match="nobody") as caught:
            given(runner, "dispatch").many(events)
        assert heard.bodies(2) == ["1", "3"]
    assert caught.value.__notes__ == ["2 of the last publishes failed; this is the first error"]


def test_an_error_early_among_very_many_is_not_forgotten(broker_uri: str, outside: Outside) -> None:
    outside.listen("orders", "created")
    events = [("nobody", 0), *(("created", number) for number in range(1500))]
    with started(broker_uri, dispatch=Producer(mandatory=True)) as runner, pytest.raises(Unroutable, match="nobody"):
        given(runner, "dispatch").many(events)


def test_what_came_before_a_payload_that_cannot_be_encoded_is_confirmed(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("orders")
    with started(broker_uri, dispatch=Producer()) as runner:
        with pytest.raises(TypeError, match="object"):
            given(runner, "dispatch").many([("created", 1), ("created", object()), ("created", 3)])
        assert heard.bodies(1) == ["1"]


def test_many_of_nothing_is_nothing(broker_uri: str, outside: Outside) -> None:
    with started(broker_uri, dispatch=Producer()) as runner:
        given(runner, "dispatch").many([])


def test_without_confirms_an_event_arrives_too(broker_uri: str, outside: Outside) -> None:
    heard = outside.listen("orders")
    with started(broker_uri, dispatch=Producer(confirm_publish=False)) as runner:
        given(runner, "dispatch")("created", 1)
        given(runner, "dispatch").many([("created", 2), ("created", 3)])
        assert heard.bodies(3) == ["1", "2", "3"]


def test_a_payload_that_cannot_be_encoded_is_refused_by_type(broker_uri: str, outside: Outside) -> None:
    with started(broker_uri, dispatch=Producer()) as runner, pytest.raises(TypeError, match="object"):
        given(runner, "dispatch")("created", {"x": object()})


@pytest.mark.parametrize("config", [{"AUTO_DELETE_EVENT_EXCHANGES": False}, {"DECLARE_EVENT_EXCHANGES": False}])
def test_the_event_exchange_is_declared_unless_that_is_left_to_others(
    broker_uri: str, outside: Outside, config: dict[str, Any]
) -> None:
    declared = "DECLARE_EVENT_EXCHANGES" not in config
    with started(broker_uri, config, dispatch=Producer()) as runner:
        expectation = contextlib.nullcontext() if declared else pytest.raises(UnknownExchange, match="orders.events")
        with expectation:
            given(runner, "dispatch")("created", 1)


def test_a_stopped_services_dispatch_does_not_hang(broker_uri: str, outside: Outside) -> None:
    with started(broker_uri, {"PUBLISH_TIMEOUT": 0.2}, dispatch=Producer()) as runner:
        dispatch = given(runner, "dispatch")
    with pytest.raises(PublishError):
        dispatch("created", 1)


# -- Publisher


def test_a_publisher_declares_its_kombu_exchange_and_queues(broker_uri: str, outside: Outside) -> None:
    jobs = KombuExchange("jobs", type="direct", durable=True)
    publish = Publisher(jobs, "mail", declare=[KombuQueue("mail", jobs, routing_key="mail")])
    with started(broker_uri, publish=publish) as runner:
        given(runner, "publish", user_id=7)({"to": "a"})
        (message,) = outside.take_all(ORDERS_QUEUE)
    assert (message.exchange, message.routing_key, message.body) == ("jobs", "mail", b'{"to": "a"}')
    assert message.headers == {"nameko.user_id": 7, "nameko.call_id_stack": ["orders.handle.1"]}


def test_without_an_exchange_the_routing_key_is_a_queue(broker_uri: str, outside: Outside) -> None:
    outside.doors.declare(ORDERS_QUEUE)
    with started(broker_uri, publish=Publisher()) as runner:
        given(runner, "publish")("hello", "mail")
        given(runner, "publish")("again", routing_key="mail")
    assert [message.body for message in outside.take_all(ORDERS_QUEUE)] == [b'"hello"', b'"again"']


def test_a_publish_may_name_another_exchange(broker_uri: str, outside: Outside) -> None:
    outside.doors.declare(ORDERS_QUEUE)
    with started(broker_uri, publish=Publisher(KombuExchange("jobs"), "x")) as runner:
        given(runner, "publish")("direct", "mail", exchange="")
    assert [message.exchange for message in outside.take_all(ORDERS_QUEUE)] == [""]


def test_the_name_of_an_exchange_leaves_its_declaration_to_others(broker_uri: str, outside: Outside) -> None:
    with (
        started(broker_uri, publish=Publisher("jobs", "mail")) as runner,
        pytest.raises(UnknownExchange, match="jobs"),
    ):
        given(runner, "publish")("hello")


def test_options_of_one_publish(broker_uri: str, outside: Outside) -> None:
    outside.doors.declare(ORDERS_QUEUE)
    with started(broker_uri, publish=Publisher(routing_key="mail")) as runner:
        publish = given(runner, "publish", lang="de")
        headers = {"x-mine": 1, "nameko.lang": "overruled"}
        publish("a", headers=headers, expiration=60, priority=5, delivery_mode=1)
        publish({"b": 1}, serializer="yaml")
        first, second = outside.take_all(ORDERS_QUEUE)
    assert first.headers == {"x-mine": 1, "nameko.lang": "de", "nameko.call_id_stack": ["orders.handle.1"]}
    properties = first.properties
    assert (properties.expiration, properties.priority, properties.delivery_mode) == ("60000", 5, 1)
    assert (second.content_type, second.body) == ("application/x-yaml", b"b: 1\n")


@pytest.mark.parametrize("declared", [True, False])
def test_mandatory_as_declared_or_as_called(broker_uri: str, outside: Outside, declared: bool) -> None:
    with started(broker_uri, publish=Publisher(routing_key="nowhere", mandatory=declared)) as runner:
        publish = given(runner, "publish")
        with pytest.raises(Unroutable, match="nowhere"):
            publish(1, mandatory=None if declared else True)
        publish(1, mandatory=False)


def test_a_queue_that_exists_with_other_flags_ends_the_start(broker_uri: str, outside: Outside) -> None:
    outside.doors.declare(ORDERS_QUEUE)
    publisher = Publisher(declare=[KombuQueue("mail", durable=True, message_ttl=5)])
    with pytest.raises(BrokerRefused, match="mail"), started(broker_uri, publish=publisher):
        pass


# -- sharing


def test_all_dependencies_of_a_process_share_one_connection(broker_uri: str, outside: Outside) -> None:
    with started(broker_uri, dispatch=Producer(), other=Producer("payments"), publish=Publisher()) as runner:
        attributes = dict(runner.assembly.routes[0].plan.target.attributes)
        doors = {getattr(attributes[name], "publisher").door for name in ("dispatch", "other", "publish")}  # noqa: B009
        assert len(doors) == 1
        (door,) = doors
        assert door.wait_ready(soon())
