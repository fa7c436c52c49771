"""What the demo leaves on a RabbitMQ."""

import socket

from kombu.connection import Connection

from micro_framework.cli.demo.ledger import Ledger
from micro_framework.cli.demo.leftovers import Leftovers, delete, leftovers_of
from micro_framework.cli.demo.shop import open_shop
from micro_framework.cli.demo.show import tidy_up
from micro_framework.runner import Runner

CHARGE = "evt-demo-orders-x-order_placed--demo-payments-x.charge"


def runner_of_the_shop():
    return Runner(open_shop(Ledger(), run="x"), {"AMQP_URI": "memory://leftovers"})


def test_everything_the_services_declare_is_known():
    found = leftovers_of(runner_of_the_shop())
    assert set(found.queues) == {
        CHARGE,
        f"{CHARGE}.mf-delay.700",
        "evt-demo-payments-x-payment_taken--demo-orders-x.ship",
        "evt-demo-payments-x-payment_declined--demo-orders-x.cancel",
    }
    assert set(found.exchanges) == {"demo-orders-x.events", "demo-payments-x.events"}


def test_they_are_deleted_whether_they_exist_or_not(rabbit):
    before = set(rabbit.exchanges())
    with Connection(rabbit.uri) as connection:
        connection.default_channel.queue_declare("one")
        connection.default_channel.exchange_declare("two", "topic")
    delete(rabbit.uri, Leftovers(("one", "never-there"), ("two", "never-there")))
    assert rabbit.queues() == {}
    assert set(rabbit.exchanges()) == before


def test_what_cannot_be_deleted_is_named(capsys):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        tidy_up(runner_of_the_shop(), f"amqp://guest:secret@127.0.0.1:{listener.getsockname()[1]}/")
    told = capsys.readouterr().err
    assert CHARGE in told
    assert "secret" not in told
