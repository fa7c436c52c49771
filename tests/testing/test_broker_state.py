"""The handle on a virtual host: what it shows and how it waits."""

import pytest
from kombu import Connection, Exchange, Queue

from micro_framework.testing.broker_state import BrokerStateError, VHost


def test_shows_queues_exchanges_and_bindings_as_declared(rabbit: VHost) -> None:
    exchange = Exchange("events", "topic", durable=True, auto_delete=True)
    queue = Queue("evt", exchange, routing_key="a.*", queue_arguments={"x-expires": 60_000})
    with Connection(rabbit.uri) as connection:
        queue(connection.default_channel).declare()
        state = rabbit.queue("evt")
        assert (state.durable, state.exclusive, state.auto_delete) == (True, False, False)
        assert state.arguments == {"x-expires": 60_000}
        assert rabbit.exchanges()["events"].auto_delete
        assert rabbit.exchanges()["events"].type == "topic"
        [binding] = rabbit.bindings()
        assert (binding.source, binding.destination, binding.kind) == ("events", "evt", "queue")
        assert binding.routing_key == "a.*"
        assert binding.arguments == {}


def test_counts_what_waits_and_what_is_out(rabbit: VHost) -> None:
    with Connection(rabbit.uri, transport_options={"confirm_publish": True}) as connection:
        channel = connection.default_channel
        Queue("jobs")(channel).declare()
        for _ in range(3):
            connection.Producer().publish({}, routing_key="jobs")
        assert channel.basic_get("jobs") is not None
        state = rabbit.queue("jobs")
        assert (state.ready, state.unacknowledged, state.depth, state.consumers) == (2, 1, 3, 0)


def test_waits_until_consumed_and_drained(rabbit: VHost) -> None:
    with Connection(rabbit.uri, transport_options={"confirm_publish": True}) as connection:
        channel = connection.default_channel
        Queue("jobs")(channel).declare()
        channel.basic_consume("jobs", no_ack=True, callback=lambda message: None)
        rabbit.wait_for_consumers("jobs")
        assert rabbit.consumers("jobs") == 1
        connection.Producer().publish({}, routing_key="jobs")
        rabbit.wait_until_drained("jobs")
        assert rabbit.depth("jobs") == 0


def test_a_wait_in_vain_says_for_what_and_what_there_was(rabbit: VHost) -> None:
    with Connection(rabbit.uri) as connection:
        Queue("idle")(connection.default_channel).declare()
    with pytest.raises(BrokerStateError, match=r"consumers on idle; queues: idle: 0 ready.*0 consumers"):
        rabbit.wait_for_consumers("idle", timeout=0.1)


def test_a_missing_queue_is_named_with_those_there_are(rabbit: VHost) -> None:
    with Connection(rabbit.uri) as connection:
        Queue("there")(connection.default_channel).declare()
    with pytest.raises(BrokerStateError, match=r"no queue 'gone' in the broker, only \['there'\]"):
        rabbit.queue("gone")
    assert rabbit.depth("gone") == 0
    assert rabbit.consumers("gone") == 0


def test_deletes_one_queue_with_what_it_holds_and_tells_its_consumer(rabbit: VHost) -> None:
    with Connection(rabbit.uri, transport_options={"confirm_publish": True}) as connection:
        channel = connection.default_channel
        for name in ("jobs", "others"):
            Queue(name)(channel).declare()
            connection.Producer().publish({}, routing_key=name)
        cancelled: list[str] = []
        channel.basic_consume("jobs", consumer_tag="tag", callback=lambda message: None, on_cancel=cancelled.append)
        rabbit.delete_queue("jobs")
        while not cancelled:
            connection.drain_events(timeout=10)
        assert cancelled == ["tag"]
        assert set(rabbit.queues()) == {"others"}
        assert rabbit.depth("others") == 1


def test_deleting_a_queue_that_is_not_there_changes_nothing(rabbit: VHost) -> None:
    with Connection(rabbit.uri) as connection:
        Queue("there")(connection.default_channel).declare()
        rabbit.delete_queue("gone")
        assert set(rabbit.queues()) == {"there"}


def test_the_fixture_gives_each_test_an_empty_vhost(rabbit: VHost, amqp_uri: str) -> None:
    assert rabbit.queues() == {}
    assert amqp_uri == rabbit.uri
