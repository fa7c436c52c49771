"""The whole life of a takeover on a real broker, under calls: each is answered once and runs once."""

from contextlib import ExitStack

import pytest

from micro_framework.migrate.takeover import Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.takeover import Names
from tests.migrate.sides import Callers, Executed, new_side, old_side, plain_side

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]


@pytest.fixture
def executed() -> Executed:
    return Executed()


def answers_of(vhost: VHost, method: str) -> object:
    """Who answers one call."""
    with Callers(vhost, 1, [method]) as callers:
        callers.wait_for_more(1)
    return callers.answers[0][1]


@pytest.mark.parametrize("entry", ["policy", "binding"])
def test_every_call_is_answered_once_and_runs_once_from_prepare_to_finish(
    vhost: VHost, takeover: Takeover, names: Names, executed: Executed, entry: str
) -> None:
    with ExitStack() as old, ExitStack() as new, old_side(vhost, executed) as first:
        with Callers(vhost) as callers:
            callers.wait_for_more()
            takeover.prepare(entry)
            callers.wait_for_more()
            old.enter_context(old_side(vhost, executed, names.side))
            first.stop()
            new.enter_context(new_side(vhost, executed))
            callers.wait_for_more()
            takeover.move(["alpha"])
            callers.wait_for_more()
            assert takeover.state().keys == ["orders.alpha"]
            takeover.back(["alpha"])
            callers.wait_for_more()
            takeover.move(["alpha", "beta"])
            callers.wait_for_more()
            takeover.rollback()
            assert takeover.state().keys == []
            callers.wait_for_more()
            takeover.move(["beta", "alpha"])
            callers.wait_for_more()
            takeover.finish(0.5)
            vhost.wait_until_drained(names.old)
            old.close()
            takeover.finish(0.5)
            new_plain = ExitStack()
            new_plain.enter_context(plain_side(vhost, executed))
            callers.wait_for_more()
        new.close()
        takeover.finish(0.5)
        new_plain.close()
    failed = [each for each in callers.answers if each[1] not in ("old", "new", "plain")]
    assert failed == []
    assert {answer for _, answer in callers.answers} == {"old", "new", "plain"}
    assert executed.counts() == {call: 1 for call, _ in callers.answers}
    left = {name for name in vhost.exchanges() if "orders" in name or "legacy" in name or "entry" in name}
    assert left == set()
    assert [str(each.source) for each in vhost.bindings() if each.destination == names.old] == [names.main]
