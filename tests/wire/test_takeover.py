"""The names of a takeover."""

from micro_framework.wire.naming import Binding, Exchange
from micro_framework.wire.takeover import Names


def test_the_names_are_those_of_the_picture() -> None:
    names = Names("orders")
    assert (names.main, names.side, names.entry) == ("nameko-rpc", "nameko-rpc-legacy", "nameko-rpc.entry")
    assert (names.gate, names.rest, names.healing) == ("orders.gate", "orders.rest", "orders.healing")
    assert (names.old, names.new) == ("rpc-orders", "rpc-orders.takeover")
    assert (names.all_methods, names.key("create")) == ("orders.*", "orders.create")


def test_another_main_exchange_has_another_side() -> None:
    assert Names("orders", "calls").side == "calls-legacy"


def test_the_gate_sends_the_rest_on() -> None:
    names = Names("orders")
    assert names.gate_exchange().arguments == {"alternate-exchange": "orders.rest"}
    assert [each.name for each in names.exchanges()] == ["orders.rest", "orders.gate"]
    assert names.old_queue().bindings == (Binding(Exchange("orders.rest"), "orders.*"),)
    assert names.new_queue().bindings == ()
