"""kill -9 of the broker, twice, under a thousand calls or more: each ends before its deadline, nothing stays behind.

1,000 calls, or 10,000 in a soak (`make soak`). Each caller gets its answer or an error with a name; which calls took
longer than they should once the broker was back is told at the end, and is a failure.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interop_tests.own_process import OwnService, Runs
from micro_framework.exceptions import PublishError, ReplyQueueLost, RPCTimeout, UnknownService
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode

CALLS, MOST = 1_000, 10_000
CALLERS = 50
TIMEOUT = 60.0
KILLS = 2
BACK_WITHIN = 5.0
"""Seconds after the broker's return by which a call must have ended that was made before it."""
LATE = 2.0
"""Seconds by which a caller may learn of its deadline late, on a machine that is busy."""
NAMED = (RPCTimeout, ReplyQueueLost, PublishError, UnknownService)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


@dataclass
class Outcome:
    """How one call ended, and when, in ``time.monotonic()`` seconds."""

    number: int
    began: float
    ended: float
    error: BaseException | None

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class Tally:
    """Hands out numbers to the callers, and takes down what became of each."""

    count: int
    outcomes: list[Outcome] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    given: int = 0

    def next(self) -> int | None:
        with self.changed:
            if self.given == self.count:
                return None
            self.given += 1
            return self.given - 1

    def add(self, outcome: Outcome) -> None:
        with self.changed:
            self.outcomes.append(outcome)
            self.changed.notify_all()

    def wait_for(self, count: int, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.outcomes) >= count, seconds)


def call_all(client: RPCClient, tally: Tally, folder: Path) -> None:
    """One caller: call until there are no numbers left."""
    while (number := tally.next()) is not None:
        began, error = time.monotonic(), None
        try:
            assert client.working.work(number, str(folder)) == number
        except Exception as raised:
            error = raised
        tally.add(Outcome(number, began, time.monotonic(), error))


@pytest.fixture
def count(soak_size: Callable[[int], int]) -> int:
    return min(MOST, soak_size(CALLS))


@pytest.fixture
def vhost(own_node: RabbitMQNode) -> VHost:
    return own_node.vhost()


def test_every_call_ends_though_the_broker_is_killed_twice(
    own_node: RabbitMQNode, vhost: VHost, count: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally, returns = Tally(count), []
    threads_before = set(threading.enumerate())
    with OwnService(vhost, "Working") as service:
        client = RPCClient(vhost.uri, timeout=TIMEOUT)
        assert client.working.work(-1, str(tmp_path)) == -1
        own_node.persist_declarations()
        callers = [
            threading.Thread(target=call_all, args=(client, tally, tmp_path), name=f"caller-{number}")
            for number in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        for kill in range(1, KILLS + 1):
            assert tally.wait_for(count * kill // (KILLS + 1), TIMEOUT + LATE)
            own_node.kill()
            own_node.start()
            returns.append(time.monotonic())
        for caller in callers:
            caller.join(2 * TIMEOUT)
        assert not [caller.name for caller in callers if caller.is_alive()]
        assert service.is_running()
        vhost.wait_until_drained("rpc-working", timeout=30)
        client.stop()
        # -- nothing is left behind
        assert own_threads(threads_before) == []
        assert [name for name in vhost.queues() if name.startswith("rpc.reply-")] == []
        vhost.wait_for(lambda _: len(vhost.connections()) == 1, what="the client's connections to go")
    errors = Counter(type(outcome.error).__name__ for outcome in tally.outcomes if outcome.error)
    slowest = max(outcome.seconds for outcome in tally.outcomes)
    runs = len(Runs(tmp_path).all())
    record_property("calls", f"{count}, errors {dict(errors)}, {runs} runs, slowest {slowest:.2f} s")
    print(f"{count} calls: errors {dict(errors)}, {runs} runs, slowest {slowest:.2f} s, {stalled(tally, returns)}")
    assert sorted(outcome.number for outcome in tally.outcomes) == list(range(count))
    for outcome in tally.outcomes:
        assert outcome.error is None or isinstance(outcome.error, NAMED), outcome
        assert outcome.seconds < TIMEOUT + LATE, outcome
    assert stalled(tally, returns) == []


def own_threads(before: set[threading.Thread]) -> list[str]:
    """The framework's threads that were not there before."""
    return [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("mf-")]


def stalled(tally: Tally, returns: list[float]) -> list[str]:
    """Calls that took longer than they should though the broker was there."""
    found = []
    for outcome in tally.outcomes:
        # A call that was under way when the broker came back has until then; any other one has the time from its start.
        since = max([outcome.began, *(back for back in returns if outcome.began < back < outcome.ended)])
        if outcome.ended - since > BACK_WITHIN:
            found.append(f"call {outcome.number}: {outcome.seconds:.1f} s, {outcome.ended - since:.1f} s with a broker")
    return found
