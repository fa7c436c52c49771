"""The whole life of a takeover, with real Nameko on every other end, under calls and events.

The service that is taken over calls itself and another service, is called by that one, by a client of ours and by one
of Nameko's, hears events and dispatches some. Its replicas are killed, come back with the old configuration, and the
broker restarts in the middle. Each call and each event is counted by its identifier, whoever ran it.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interop_tests.conftest import NAMEKO_VERSIONS
from interop_tests.nameko_process import Nameko, NamekoProcess
from micro_framework.amqp.dependencies import LegacyService, Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.exceptions import BrokerError
from micro_framework.runner import Runner
from micro_framework.standalone import EventProducer
from micro_framework.takeover.procedure import Refused, Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.management import ManagementAdmin
from micro_framework.testing.rabbitmq import RabbitMQNode
from micro_framework.wire.takeover import Names
from tests.takeover.conftest import managed, managed_node, management, names, said, takeover, vhost
from tests.takeover.sides import Callers, Executed

__all__ = ["managed", "managed_node", "management", "names", "said", "takeover", "vhost"]  # fixtures

pytestmark = [pytest.mark.kills_broker, pytest.mark.fault, pytest.mark.timeout(300)]

ORDERS, BILLING = "taken_orders:Orders", "taken_orders:Billing"
METHODS = ("alpha", "beta", "itself", "chain")
SIDES = {"old", "new", "plain"}
PAUSE = 0.03
"""Seconds between two calls of a caller. There are enough at each step, since each waits for more of them, and time for
the processes that start meanwhile; what only a flood finds out is in `tests/takeover/test_switch.py`."""
EVERY_CASE = [(version, entry) for entry in ("policy", "binding") for version in NAMEKO_VERSIONS]
CASES = EVERY_CASE if "MF_SOAK" in os.environ else [EVERY_CASE[0], EVERY_CASE[-1]]
"""Each version and each entry once; all four with MF_SOAK."""


def new_orders(executed: Executed, side: str, *, taking_over: bool) -> type:
    """The class that takes over, or the same one without `LegacyService`."""

    def note(call: str) -> str:
        executed.note(side, call.rpartition("|")[2])
        return side

    class Orders:
        name = "orders"
        orders = RPCProxy("orders")
        billing = RPCProxy("billing")
        dispatch = Producer()
        if taking_over:
            legacy = LegacyService()

        @RPCListener()
        def alpha(self, call: str) -> str:
            return note(call)

        @RPCListener()
        def beta(self, call: str) -> str:
            self.dispatch("made", f"{call}.made")
            return note(call)

        @RPCListener()
        def itself(self, call: str) -> object:
            note(call)
            return self.orders.alpha(f"{call}.inner")

        @RPCListener()
        def chain(self, call: str) -> object:
            note(call)
            return self.billing.charge(f"{call}.inner")

        @EventListener("shop", "paid")
        def on_paid(self, call: str) -> None:
            note(call)

    return Orders


class NamekoCallers(Callers):
    """The same with Nameko's own client, which calls the third service too."""

    def __init__(self, nameko: Nameko, prefix: str) -> None:
        super().__init__(nameko.vhost, threads=1, prefix=prefix, pause=PAUSE)
        self.driver = nameko.driver(timeout=30)

    def work(self, number: int) -> None:
        count = 0
        while not self.ended.wait(self.pause):
            count += 1
            service, method = [("orders", "beta"), ("billing", "through")][count % 2]
            call = f"{self.prefix}nameko-{method}-{count}"
            self.answers.append((call, self.driver.call(service, method, [call])))


class Events(threading.Thread):
    """Events for the service, one after the other; their identifiers are kept."""

    def __init__(self, vhost: VHost, prefix: str) -> None:
        super().__init__(name="mf-test-events")
        self.vhost = vhost
        self.prefix = prefix
        self.ended = threading.Event()
        self.sent: list[str] = []

    def run(self) -> None:
        with EventProducer("shop", self.vhost.uri) as dispatch:
            while not self.ended.wait(PAUSE):
                event = f"{self.prefix}event-{len(self.sent)}"
                dispatch("paid", event)
                self.sent.append(event)


@dataclass
class Load:
    """Everybody who calls and dispatches.

    Args:
        nameko: The version of Nameko that calls.
        path: Where Nameko's services note what they run.
    """

    nameko: Nameko
    path: Path
    executed: Executed = field(default_factory=Executed)
    answers: list[tuple[str, object]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[Callable[[], None]]:
        """Call and dispatch; gives what waits for more answers. At the end everything has been handled."""
        vhost, prefix = self.nameko.vhost, f"{self.path}|{phase}-"
        theirs = NamekoCallers(self.nameko, prefix)
        ours = Callers(vhost, methods=METHODS, prefix=prefix, pause=PAUSE)
        events = Events(vhost, prefix)

        def wait_for_more() -> None:
            ours.wait_for_more()
            theirs.wait_for_more(5)

        events.start()
        try:
            with ours, theirs:
                wait_for_more()
                yield wait_for_more
        finally:
            events.ended.set()
            events.join()
            theirs.driver.close()
        self.answers += [*ours.answers, *theirs.answers]
        self.events += events.sent
        vhost.wait_until_drained("evt-shop-paid--orders.on_paid", "evt-orders-made--billing.on_made")

    def ran(self) -> Counter[str]:
        """How often each identifier was noted, on whichever side."""
        return self.executed.counts() + Counter(self.path.read_text().split())

    def expected(self) -> set[str]:
        """What is to be noted, each once."""
        found = set(self.events)
        for call, _ in self.answers:
            found.add(call)
            number = call.rpartition("-")[2]
            if "-nameko-" in call:
                found.add(f"{call}.inner" if "through" in call else f"{call}.made")
            else:
                method = METHODS[int(number) % len(METHODS)]
                found |= {f"{call}.made"} if method == "beta" else set()
                found |= {f"{call}.inner"} if method in ("itself", "chain") else set()
        return {each.rpartition("|")[2] for each in found}


@pytest.fixture
def real(version: str, vhost: VHost) -> Iterator[Nameko]:
    """The version that is taken over."""
    with contextlib.closing(Nameko(version, vhost)) as nameko:
        yield nameko


@pytest.fixture
def others(version: str, vhost: VHost) -> Iterator[Nameko]:
    """The other version, which the third service and a client are of."""
    (other,) = set(NAMEKO_VERSIONS) - {version}
    with contextlib.closing(Nameko(other, vhost)) as nameko:
        yield nameko


@pytest.fixture
def load(others: Nameko, tmp_path: Path) -> Load:
    return Load(others, tmp_path / "executed")


@pytest.mark.parametrize(("version", "entry"), CASES)
def test_a_nameko_service_is_taken_over_while_everything_goes_on(
    real: Nameko,
    others: Nameko,
    managed_node: tuple[RabbitMQNode, ManagementAdmin],
    takeover: Takeover,
    names: Names,
    load: Load,
    entry: str,
) -> None:
    vhost, config = real.vhost, {"AMQP_URI": real.vhost.uri, "MAX_WORKERS": 5}
    others.run(BILLING)
    first = real.run(ORDERS)
    with ExitStack() as new, ExitStack() as plain:
        with load.during("before") as wait_for_more:
            takeover.prepare(entry)
            wait_for_more()
            second = real.run(ORDERS, config={"rpc_exchange": names.side})
            new.enter_context(Runner([new_orders(load.executed, "new", taking_over=True)], config))
            wait_for_more()
            if entry == "binding":
                with pytest.raises(Refused, match="old config"):
                    takeover.move(["alpha"])
            else:
                takeover.move(["alpha"])
                wait_for_more()
        first.kill()
        with load.during("moved") as wait_for_more:
            takeover.move(["alpha"])
            wait_for_more()
            stray = come_back(real, vhost, names)
            wait_for_more()
            takeover.back(["alpha"])
            wait_for_more()
            as_often_as_told(lambda: takeover.move(METHODS))  # the stray may bind its queue once more
            wait_for_more()
            takeover.rollback()
            wait_for_more()
        stray.kill()
        managed_node[0].restart()
        vhost.wait_for_consumers(names.old, names.new, "rpc-billing", timeout=60)
        with load.during("forward") as wait_for_more:
            takeover.move(["alpha", "beta"])
            wait_for_more()
            takeover.move(METHODS)
            wait_for_more()
            takeover.finish(0.5)
            vhost.wait_until_drained(names.old)
        second.stop()
        with load.during("last") as wait_for_more:
            takeover.finish(0.5)  # hands the old queue over
            plain.enter_context(Runner([new_orders(load.executed, "plain", taking_over=False)], config))
            wait_for_more()
            new.close()
            takeover.finish(0.5)
            assert {names.gate, names.rest, names.side, names.entry}.isdisjoint(vhost.exchanges())
            wait_for_more()
    assert [each for each in load.answers if each[1] not in {*SIDES, "charged"}] == []
    assert {answer for _, answer in load.answers} == {*SIDES, "charged"}
    ran = load.ran()
    assert set(ran) == load.expected()
    doubled = [call for call, count in ran.items() if count > 1]
    if entry == "policy":
        assert doubled == []
    else:  # only while the stray's binding stood, and only calls of methods that were moved
        print(f"{len(doubled)} of {len(ran)} calls ran on both sides")
        assert all(call.startswith("moved") and "event" not in call for call in doubled)


def come_back(real: Nameko, vhost: VHost, names: Names) -> NamekoProcess:
    """A replica starts again with the old configuration, and what it binds is taken away again."""
    stray = real.run(ORDERS)
    vhost.wait_for(lambda _: not direct(vhost, names), what="the stray's binding to go")
    return stray


def direct(vhost: VHost, names: Names) -> bool:
    return any((each.source, each.destination) == (names.main, names.old) for each in vhost.bindings())


def as_often_as_told(step: Callable[[], None]) -> None:
    """Run a step again as its message says, if the binding of a replica with the old configuration came back in it."""
    for _ in range(10):
        try:
            return step()
        except BrokerError as error:
            if "came back" not in str(error):
                raise
    return step()
