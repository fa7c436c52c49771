"""Calls that waited before their method was moved run on the new side; none is lost, none runs twice."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from micro_framework.standalone import RPCClient
from micro_framework.takeover.procedure import Refused, Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.takeover import Names
from tests.takeover.sides import METHODS, Executed, new_side, old_side

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]

CALLS = 20


@contextmanager
def waiting_calls(vhost: VHost, names: Names, methods: Sequence[str] = METHODS) -> Iterator[dict[int, object]]:
    """Calls of these methods in turn that wait in the old queue; at the end all are answered."""
    answers: dict[int, object] = {}

    def call(rpc: RPCClient, number: int) -> None:
        answers[number] = rpc.orders[methods[number % len(methods)]](str(number))

    with RPCClient(vhost.uri, timeout=60) as rpc:
        threads = [threading.Thread(target=call, args=(rpc, number)) for number in range(CALLS)]
        for thread in threads:
            thread.start()
        vhost.wait_for(lambda _: vhost.depth(names.old) == CALLS, what="the calls to wait")
        yield answers
        for thread in threads:
            thread.join()


def test_what_waits_for_a_moved_method_is_sent_on(
    vhost: VHost, takeover: Takeover, names: Names, said: list[str]
) -> None:
    executed = Executed()
    with old_side(vhost, executed):
        takeover.prepare("policy")
    with new_side(vhost, executed), waiting_calls(vhost, names) as answers:
        takeover.plan = True
        takeover.move(["alpha"], waiting=True)
        assert vhost.depth(names.old) == CALLS
        takeover.plan = False
        takeover.move(["alpha"], waiting=True)
        assert f"sent on: {CALLS // 2} calls that waited in rpc-orders" in said
        assert vhost.depth(names.old) == CALLS // 2
        old = old_side(vhost, executed, names.side)
        with old:
            vhost.wait_until_drained(names.old)
    assert answers == {number: "old" if number % 2 else "new" for number in range(CALLS)}
    assert executed.counts() == {str(number): 1 for number in range(CALLS)}


def test_without_it_they_run_on_the_old_side_and_that_is_said(
    vhost: VHost, takeover: Takeover, names: Names, said: list[str]
) -> None:
    executed = Executed()
    with old_side(vhost, executed):
        takeover.prepare("policy")
    with new_side(vhost, executed), waiting_calls(vhost, names) as answers:
        takeover.move(["alpha"])
        with old_side(vhost, executed, names.side):
            vhost.wait_until_drained(names.old)
    assert any("migrate move --waiting" in line for line in said)
    assert set(answers.values()) == {"old"}


def test_where_calls_wait_and_nobody_would_run_them_nothing_is_switched(
    vhost: VHost, takeover: Takeover, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micro_framework.takeover.procedure.LAG_SECONDS", 1.0)
    executed = Executed()
    with old_side(vhost, executed):
        takeover.prepare("policy")
    with new_side(vhost, executed):
        takeover.move(["alpha"])
        with waiting_calls(vhost, names, methods=["beta"]):
            for step in (takeover.rollback, lambda: takeover.back(["alpha"]), lambda: takeover.finish(0)):
                with pytest.raises(Refused, match=r"rpc-orders holds 20 messages and nobody consumes it"):
                    step()
            with old_side(vhost, executed, names.side):
                vhost.wait_until_drained(names.old)
    assert executed.counts() == {str(number): 1 for number in range(CALLS)}
