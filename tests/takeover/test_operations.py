"""Operations: their lines in a plan, and that each can be done twice."""

import pytest

from micro_framework.takeover.management import Management
from micro_framework.takeover.operations import (
    Binding,
    bind,
    clear_policy,
    declare_exchange,
    declare_queue,
    delete_exchange,
    delete_queue,
    set_policy,
    unbind,
)

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]

BINDING = Binding("a/b.gate", "orders.*", "rpc orders")


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (bind(BINDING), "bind a/b.gate --orders.*--> rpc orders"),
        (unbind(BINDING), "unbind a/b.gate --orders.*--> rpc orders"),
        (declare_exchange("g", {"alternate-exchange": "r"}), "declare exchange g  (alternate-exchange: r)"),
        (delete_queue("q", ("if-empty",)), "delete queue q  (if-empty)"),
        (set_policy("p", "nameko-rpc", "e"), "set policy p: nameko-rpc --(no match)--> e"),
    ],
)
def test_a_plan_says_what_is_done(operation: object, text: str) -> None:
    assert operation.text == text  # type: ignore[attr-defined]


def test_an_operator_is_given_a_command_line() -> None:
    assert set_policy("p", "nameko.rpc", "e").for_operators == (
        "rabbitmqctl set_policy -p {vhost} --apply-to exchanges p '^nameko[.]rpc$' '{\"alternate-exchange\": \"e\"}'"
    )


def test_every_operation_can_be_done_twice(management: Management) -> None:
    operations = [
        *[declare_exchange("a/b.gate"), declare_queue("rpc orders"), bind(BINDING), set_policy("p", "a/b.gate", "e")],
        *[clear_policy("p"), unbind(BINDING), delete_queue("rpc orders"), delete_exchange("a/b.gate")],
    ]
    for operation in operations:
        operation.perform(management)
        operation.perform(management)
