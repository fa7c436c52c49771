"""Of which type the queues are that delayed messages come back to."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from interop_tests.raw_messages import channel_to
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.brokers.rabbitmq.delays import Holding, Way
from micro_framework.brokers.rabbitmq.targets import Targets, may_be_relaxed, type_in_refusal
from micro_framework.testing.broker_state import BrokerAdmin, VHost
from micro_framework.wire.naming import Queue
from tests.brokers.probes import Diary, Doors, exchange, message, queue, soon

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def quorum_vhost(broker: BrokerAdmin) -> Iterator[VHost]:
    """An empty virtual host whose default queue type is quorum."""
    vhost = VHost(broker, broker.add_vhost(default_queue_type="quorum"))
    yield vhost
    broker.delete_vhost(vhost.name)


@pytest.fixture
def quorum_doors(quorum_vhost: VHost) -> Iterator[Doors]:
    doors = Doors(RabbitMQBroker(quorum_vhost.uri))
    yield doors
    doors.close()


@pytest.mark.parametrize(
    ("declared", "holding"),
    [
        (queue("jobs", exclusive=True), Holding.CLASSIC),
        (queue("jobs", auto_delete=True), Holding.CLASSIC),
        (queue("jobs", durable=False), Holding.CLASSIC),
        (queue("jobs", arguments={"x-queue-type": "classic"}), Holding.CLASSIC),
        (queue("jobs", arguments=QUORUM), Holding.QUORUM),
        (queue("jobs", arguments={"x-queue-type": "stream"}), Holding.QUORUM),
    ],
)
def test_what_a_declaration_says_needs_no_question(declared: Queue, holding: Holding) -> None:
    targets = Targets(plugin=False)
    targets.expect(declared, Way.of("jobs"), [10])
    assert targets.holding("jobs") is holding
    assert list(targets.unsure()) == []


def test_what_nobody_said_is_held_by_what_is_always_safe() -> None:
    targets = Targets(plugin=False)
    targets.expect(queue("jobs"), Way.of("jobs"), [10])
    assert targets.holding("jobs") is Holding.QUORUM
    assert targets.holding("never heard of") is Holding.QUORUM
    assert [target.queue.name for target in targets.unsure()] == ["jobs"]


def test_the_plugin_holds_all_but_what_cannot_be_bound_to_it() -> None:
    targets = Targets(plugin=True)
    targets.expect(queue("jobs"), Way.of("jobs"), [])
    targets.expect(queue("mine", exclusive=True), Way.of("mine"), [])
    assert [targets.holding(name) for name in ("jobs", "mine", "else")] == [
        Holding.PLUGIN,
        Holding.CLASSIC,
        Holding.PLUGIN,
    ]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("received the value 'quorum' of type 'longstr' but current is none", "classic"),
        ("received 'classic' but current is 'quorum'", "quorum"),
        ("received 'quorum' but current is 'classic'", "classic"),
        ("received none but current is the value 'quorum' of type 'longstr'", "quorum"),
        ("received 'classic' but current is 'stream'", "stream"),
        ("something new", None),
    ],
)
def test_the_brokers_refusal_says_the_type(answer: str, found: str | None) -> None:
    text = f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': {answer}"
    assert type_in_refusal(text) == found
    assert type_in_refusal(text.replace("x-queue-type", "durable")) is None


@pytest.mark.parametrize(
    ("properties", "relaxed"),
    [
        ({"version": "3.10.8"}, False),
        ({"version": "3.11.15"}, False),
        ({"version": "3.11.16"}, True),
        ({"version": "4.0.5"}, True),
        ({"version": "4.3.0-rc.1"}, True),
        ({}, True),
    ],
)
def test_which_brokers_may_take_classic_for_an_answer(properties: Mapping[str, Any], relaxed: bool) -> None:
    assert may_be_relaxed(properties) is relaxed


def delay_queues(vhost: VHost) -> dict[str, object]:
    return {name: found.arguments["x-queue-type"] for name, found in vhost.queues().items() if ".mf-delay." in name}


def test_a_queue_without_a_type_is_what_the_virtual_host_makes_of_it(
    quorum_doors: Doors, quorum_vhost: VHost, doors: Doors, rabbit: VHost
) -> None:
    jobs = queue("jobs")
    for each in (doors, quorum_doors):
        each.consuming(jobs)
        each.delaying(jobs, delays=[500]).delay(message("", "x"), queue="jobs", delay=500).wait(soon())
    assert delay_queues(rabbit) == {"jobs.mf-delay.500": "classic"}
    assert delay_queues(quorum_vhost) == {"jobs.mf-delay.500.quorum": "quorum"}


def test_delays_work_for_every_kind_of_queue_where_the_default_is_quorum(quorum_doors: Doors) -> None:
    kinds = {
        "lasting": queue("lasting"),
        "classic": queue("classic", arguments={"x-queue-type": "classic"}),
        "exclusive": queue("exclusive", exclusive=True, auto_delete=True),
        "passing": queue("passing", auto_delete=True),
    }
    inboxes = {name: quorum_doors.consuming(each)[0] for name, each in kinds.items()}
    publisher = quorum_doors.delaying(*kinds.values(), delays=[50])
    waiting = [publisher.delay(message("", name), queue=name, delay=50) for name in kinds]
    for confirmation in waiting:
        confirmation.wait(soon())
    assert {name: inbox.bodies(1) for name, inbox in inboxes.items()} == {name: [name] for name in kinds}


def test_the_queue_is_declared_if_it_is_not_there_yet_and_its_consumer_finds_it_right(
    doors: Doors, rabbit: VHost
) -> None:
    """The publisher may be connected before the consumer."""
    jobs = queue("jobs", (exchange("events"), "#"), arguments={"x-max-length": 100})
    publisher = doors.delaying(jobs, delays=[50])
    assert rabbit.queue("jobs").arguments["x-max-length"] == 100
    inbox, _ = doors.consuming(jobs)
    publisher.delay(message("", "x"), queue="jobs", delay=50).wait(soon())
    assert inbox.bodies(1) == ["x"]


def test_a_queue_that_cannot_be_asked_keeps_nothing_else_from_being_published(doors: Doors, rabbit: VHost) -> None:
    doors.declare(queue("other flags", arguments={"x-max-length": 5}), queue("jobs"))
    publisher = doors.delaying(queue("other flags"), queue("jobs"), delays=[50])
    publisher.publish(message("jobs", "published")).wait(soon())
    publisher.delay(message("", "delayed"), queue="jobs", delay=50).wait(soon())
    inbox, _ = doors.consuming(queue("jobs"))
    assert sorted(inbox.bodies(2)) == ["delayed", "published"]
    assert set(delay_queues(rabbit)) >= {"jobs.mf-delay.50"}


def test_a_queue_that_came_back_as_another_type_is_asked_again_after_a_reconnect(doors: Doors, rabbit: VHost) -> None:
    jobs, diary = queue("jobs"), Diary()
    publisher = doors.delaying(jobs, delays=[500], events=diary.events)
    publisher.delay(message("", "x"), queue="jobs", delay=500).wait(soon())
    with channel_to(rabbit.uri) as channel:
        channel.queue_delete("jobs")
        channel.queue_declare("jobs", durable=True, auto_delete=False, arguments=QUORUM)
    rabbit.close_connections()
    diary.wait_for("ready", "lost", "ready")
    publisher.delay(message("", "y"), queue="jobs", delay=700).wait(soon())
    assert "jobs.mf-delay.700.quorum" in delay_queues(rabbit)
