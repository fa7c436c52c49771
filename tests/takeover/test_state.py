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


BILLING_ALONG = Binding(NAMES.side, "billing.*", "rpc-billing")
OTHERS_BINDING = Binding(NAMES.main, "payments.*", "rpc-payments")
BY_BINDING = Binding(NAMES.main, NAMES.all_methods, NAMES.gate, to_queue=False)
WAY_OUT = Binding(NAMES.side, "payments.*", NAMES.main, to_queue=False)
GATE = {NAMES.main: {}, NAMES.gate: {}}
BY_POLICY = {
    "exchanges": {NAMES.main: {"policy": "a"}, NAMES.side: {"policy": "b"}, NAMES.gate: {}},
    "policies": {
        "a": {"definition": {"alternate-exchange": NAMES.entry}},
        "b": {"definition": {"alternate-exchange": NAMES.main}},
    },
}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (state(BILLING_ALONG), "also hosts billing"),
        (state(BY_BINDING, OTHERS_BINDING, exchanges=GATE), "could not call payments"),
    ],
)
def test_processes_of_the_old_side_that_are_not_as_they_must_be(found: State, words: str) -> None:
    problems = list(found.process_problems())
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize(
    "found",
    [
        state(BILLING_ALONG, exchanges={NAMES.main: {}, "billing.gate": {}}),
        state(BY_BINDING, OTHERS_BINDING, WAY_OUT, exchanges=GATE),
        state(OTHERS_BINDING, **BY_POLICY),
        state(Binding(NAMES.side, "some-id", "rpc.reply-x"), Binding(NAMES.side, NAMES.all_methods, NAMES.old)),
    ],
)
def test_processes_of_the_old_side_that_are(found: State) -> None:
    assert list(found.process_problems()) == []


def test_only_what_is_alive_keeps_the_side_exchange() -> None:
    reply = Binding(NAMES.side, "some-id", "rpc.reply-x")
    assert state(reply, queues={"rpc.reply-x": QueueSeen(0, 0, {})}).using_side() == []
    assert len(state(reply, queues={"rpc.reply-x": QueueSeen(0, 1, {})}).using_side()) == 1
    assert len(state(BILLING_ALONG).using_side()) == 1


def test_an_old_broker_and_calls_that_wait_are_worth_a_note() -> None:
    queues = {NAMES.old: QueueSeen(3, 1, {"durable": True})}
    moved = frozenset([BY_BINDING, Binding(NAMES.gate, "orders.alpha", NAMES.new)])
    notes = list(state(exchanges=GATE, queues=queues, bindings=moved).warnings((3, 9, 1)))
    assert [("RabbitMQ 3.9.1" in note, "3 calls" in note) for note in notes] == [(True, False), (False, True)]
    assert list(state().warnings((4, 0, 0))) == []


@pytest.mark.parametrize(("healing", "consumers", "problems"), [(True, 0, 1), (True, 1, 0), (False, 0, 0)])
def test_nobody_heals_where_nobody_consumes(healing: bool, consumers: int, problems: int) -> None:
    queues = {NAMES.new: QueueSeen(0, consumers, {})} | ({NAMES.healing: QueueSeen(0, 0, {})} if healing else {})
    assert len(state(queues=queues).unhealed()) == problems
