"""Verdicts become the fewest commands, and never one that closes the channel."""

import random
from collections.abc import Sequence

import pytest

from micro_framework.brokers.port import Verdict
from micro_framework.brokers.rabbitmq.acknowledgements import Acknowledgements, Command

ACK, REQUEUE, REJECT = Verdict.ACK, Verdict.REQUEUE, Verdict.REJECT


def acks(*tags: int) -> list[tuple[int, Verdict]]:
    return [(tag, ACK) for tag in tags]


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([acks(1)], [[(ACK, 1, False)]]),
        ([acks(1, 2, 3)], [[(ACK, 3, True)]]),
        ([acks(3, 1, 2)], [[(ACK, 3, True)]]),
        ([acks(2, 3)], [[(ACK, 2, False), (ACK, 3, False)]]),
        ([acks(1, 2, 4, 5)], [[(ACK, 2, True), (ACK, 4, False), (ACK, 5, False)]]),
        ([acks(2), acks(1)], [[(ACK, 2, False)], [(ACK, 1, False)]]),
        ([acks(2), acks(1, 3)], [[(ACK, 2, False)], [(ACK, 3, True)]]),
        ([acks(3), acks(1, 2)], [[(ACK, 3, False)], [(ACK, 2, True)]]),
        ([[(1, REQUEUE)]], [[(REQUEUE, 1, False)]]),
        ([[(1, ACK), (2, REJECT), (3, ACK)]], [[(REJECT, 2, False), (ACK, 3, True)]]),
        ([[(1, ACK), (1, REJECT)], [(1, REQUEUE)]], [[(ACK, 1, False)], []]),
        ([acks(5), acks(5)], [[(ACK, 5, False)], []]),
        ([[]], [[]]),
    ],
)
def test_batches_become_commands(
    batches: Sequence[Sequence[tuple[int, Verdict]]], expected: Sequence[Sequence[tuple[Verdict, int, bool]]]
) -> None:
    acknowledgements = Acknowledgements()
    assert [acknowledgements.settle(batch) for batch in batches] == [[Command(*c) for c in row] for row in expected]


def test_later_tags_never_wait_for_one_that_still_runs() -> None:
    acknowledgements = Acknowledgements()
    for tag in range(2, 50):
        assert acknowledgements.settle([(tag, ACK)]) == [Command(ACK, tag)]


class Broker:
    """Takes commands as RabbitMQ does: a tag that is not unsettled closes the channel."""

    def __init__(self, tags: int) -> None:
        self.unsettled = set(range(1, tags + 1))
        self.settled: dict[int, Verdict] = {}

    def obey(self, command: Command) -> None:
        assert command.tag in self.unsettled, f"406 PRECONDITION_FAILED - unknown delivery tag {command.tag}"
        tags = {tag for tag in self.unsettled if tag < command.tag} if command.multiple else set()
        for tag in tags | {command.tag}:
            self.unsettled.remove(tag)
            self.settled[tag] = command.verdict


@pytest.mark.parametrize("seed", range(200))
def test_any_order_settles_everything_as_it_was_meant(seed: int) -> None:
    chance = random.Random(seed)
    tags = chance.randint(1, 60)
    meant = {tag: chance.choice([ACK, ACK, ACK, REQUEUE, REJECT]) for tag in range(1, tags + 1)}
    order = list(meant)
    if seed % 3:
        chance.shuffle(order)
    broker, acknowledgements = Broker(tags), Acknowledgements()
    while order:
        count = chance.randint(1, 8)
        batch, order = order[:count], order[count:]
        again = chance.choice(list(meant))
        for command in acknowledgements.settle([*((tag, meant[tag]) for tag in batch)]):
            broker.obey(command)
        if again in broker.settled:
            assert acknowledgements.settle([(again, REQUEUE)]) == []
    assert broker.settled == meant
