"""kombu's objects as the broker port takes them."""

import subprocess
import sys
from typing import Any

import pytest
from kombu import Exchange as KombuExchange, Queue as KombuQueue, binding as kombu_binding

from micro_framework.amqp.topology import event_exchange_for, exchange_from, kombu_problems, queue_from
from micro_framework.config import Settings
from micro_framework.wire.naming import Binding, Exchange, Queue

JOBS = Exchange("jobs", "direct")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (KombuExchange("jobs", type="direct"), JOBS),
        (KombuExchange("jobs", type="topic", durable=False), Exchange("jobs", "topic", durable=False)),
        (KombuExchange("jobs", type="fanout", auto_delete=True), Exchange("jobs", "fanout", auto_delete=True)),
        (KombuExchange("jobs"), JOBS),
        (KombuExchange(""), Exchange("", "direct")),
        (JOBS, JOBS),
    ],
)
def test_exchanges(given: Any, taken: Exchange) -> None:
    assert exchange_from(given) == taken


def test_arguments_of_an_exchange() -> None:
    given = KombuExchange("jobs", type="direct", arguments={"alternate-exchange": "rest"})
    assert exchange_from(given).arguments == {"alternate-exchange": "rest"}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("mail", Queue("mail")),
        (Queue("mail", durable=False), Queue("mail", durable=False)),
        (KombuQueue("mail"), Queue("mail")),
        (KombuQueue("mail", durable=False, auto_delete=True), Queue("mail", durable=False, auto_delete=True)),
        # kombu makes an exclusive queue auto-delete as well
        (KombuQueue("mail", exclusive=True), Queue("mail", exclusive=True, auto_delete=True)),
        (
            KombuQueue("mail", KombuExchange("jobs"), routing_key="m"),
            Queue("mail", bindings=(Binding(JOBS, "m"),)),
        ),
        (
            KombuQueue("mail", [kombu_binding(KombuExchange("jobs"), routing_key=key) for key in "ab"]),
            Queue("mail", bindings=(Binding(JOBS, "a"), Binding(JOBS, "b"))),
        ),
    ],
)
def test_queues(given: Any, taken: Queue) -> None:
    found = queue_from(given)
    assert set(found.bindings) == set(taken.bindings)
    assert (found.name, found.durable, found.exclusive, found.auto_delete) == (
        taken.name,
        taken.durable,
        taken.exclusive,
        taken.auto_delete,
    )


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, {}),
        ({"queue_arguments": {"x-queue-type": "quorum"}}, {"x-queue-type": "quorum"}),
        ({"message_ttl": 1.5}, {"x-message-ttl": 1500}),
        ({"expires": 60}, {"x-expires": 60_000}),
        ({"max_length": 5, "max_length_bytes": 9}, {"x-max-length": 5, "x-max-length-bytes": 9}),
        ({"max_priority": 3}, {"x-max-priority": 3}),
    ],
)
def test_arguments_of_a_queue_are_whole_numbers_in_the_brokers_units(
    options: dict[str, Any], arguments: dict[str, Any]
) -> None:
    assert queue_from(KombuQueue("mail", **options)).arguments == arguments


def test_arguments_of_a_binding() -> None:
    queue = KombuQueue("mail", KombuExchange("jobs", type="headers"), binding_arguments={"x-match": "all"})
    (found,) = queue_from(queue).bindings
    assert found.arguments == {"x-match": "all"}


@pytest.mark.parametrize(("config", "auto_delete"), [({}, False), ({"AUTO_DELETE_EVENT_EXCHANGES": True}, True)])
def test_event_exchanges_as_configured(config: dict[str, Any], auto_delete: bool) -> None:
    expected = Exchange("payments.events", "topic", auto_delete=auto_delete)
    assert event_exchange_for("payments", Settings.from_mapping(config)) == expected


def test_options_of_kombu_that_would_be_ignored_are_refused_by_name() -> None:
    exchange = KombuExchange("shop", no_declare=True)
    queue = KombuQueue("jobs", consumer_arguments={"x-priority": 1})
    assert kombu_problems("QueueListener('jobs')", exchange, queue, "a name", None) == [
        "QueueListener('jobs'): no_declare of 'shop' is not built yet; leave it out",
        "QueueListener('jobs'): consumer_arguments of 'jobs' is not built yet; leave it out",
    ]
    assert kombu_problems("x", KombuExchange("shop"), KombuQueue("jobs")) == []


KOMBU_LATER = """
import sys

from micro_framework.amqp.dependencies import Publisher
from micro_framework.amqp.topology import kombu_kinds, queue_from

assert kombu_kinds("Exchange", "Queue") == () and "kombu" not in sys.modules
assert queue_from("mail").name == "mail"
assert "exchange must be" in str(Publisher(exchange=5).problems())

from kombu import Exchange, Queue

assert queue_from(Queue("mail")).name == "mail"
assert Publisher(exchange=Exchange("jobs"), declare=[Queue("mail")]).problems() == []
"""


def test_kombu_may_be_imported_later_or_never() -> None:
    subprocess.run([sys.executable, "-c", KOMBU_LATER], check=True, timeout=60)
