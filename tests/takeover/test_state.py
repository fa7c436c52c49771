"""What is wrong with what a takeover finds."""

from typing import Any

import pytest

from micro_framework.takeover.operations import Binding
from micro_framework.takeover.state import QueueSeen, State, matches
from micro_framework.wire.takeover import Names

NAMES = Names("orders")
DIRECT = Binding(NAMES.main, NAMES.all_methods, NAMES.old)


def state(*bindings: Binding, **changes: Any) -> State:
    queue = QueueSeen(0, 1, {"durable": True, "auto_delete": False, "arguments": {}})
    given: dict[str, Any] = {
        "queues": {NAMES.old: queue},
        "exchanges": {NAMES.main: {}},
        "bindings": frozenset([DIRECT, *bindings]),
        "policies": {},
    }
    return State(NAMES, **(given | changes))


def test_a_nameko_service_as_it_is_has_no_problem() -> None:
    assert list(state().problems()) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (state(queues={}), "there is no queue rpc-orders"),
        (
            state(queues={NAMES.old: QueueSeen(0, 0, {"durable": True, "arguments": {"x-max-length": 1}})}),
            "not declared as Nameko",
        ),
        (state(Binding("amq.topic", "#", NAMES.old)), "neither Nameko's nor ours"),
        (state(Binding(NAMES.main, "orders.alpha", NAMES.old)), "neither Nameko's nor ours"),
        (state(Binding(NAMES.main, "#", NAMES.side, to_queue=False)), "also carries calls of orders"),
        (state(Binding(NAMES.side, "*.*", NAMES.main, to_queue=False)), "also carries calls of orders"),
        (state(Binding(NAMES.main, "orders.*", NAMES.side, to_queue=False)), "also carries calls of orders"),
        (state(exchanges={NAMES.main: {"arguments": {"alternate-exchange": "x"}}}), "alternate exchange of its own"),
        (
            state(exchanges={NAMES.main: {"policy": "theirs"}}, policies={"theirs": {"definition": {}}}),
            "the policy 'theirs' holds for nameko-rpc",
        ),
    ],
)
def test_what_is_in_the_way_is_named(found: State, words: str) -> None:
    problems = list(found.problems())
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize(
    ("key", "matched"),
    [("*", False), ("payments.*", False), ("#", True), ("*.*", True), ("orders.*", True), ("orders.#", True)],
)
def test_which_keys_carry_calls(key: str, matched: bool) -> None:
    assert matches(key, "orders") is matched


def test_other_services_are_found_by_their_bindings() -> None:
    found = state(Binding(NAMES.main, "payments.*", "rpc-payments"), Binding(NAMES.main, "some-id", "rpc.reply-x"))
    assert found.others == ["payments"]
