"""A real Nameko service is taken over under calls, with replicas that start with the old configuration meanwhile."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from interop_tests.conftest import NAMEKO_VERSIONS
from interop_tests.nameko_process import Nameko
from micro_framework.exceptions import BrokerError
from micro_framework.takeover.procedure import Refused, Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.takeover import Names
from tests.takeover.conftest import managed, management, names, said, takeover, vhost
from tests.takeover.sides import Callers, Executed, new_side, plain_side

__all__ = ["managed", "management", "names", "said", "takeover", "vhost"]  # fixtures

pytestmark = [pytest.mark.kills_broker, pytest.mark.fault, pytest.mark.timeout(300)]

SERVICE = "taken_orders:Orders"
EVERY_CASE = [(version, entry) for entry in ("policy", "binding") for version in NAMEKO_VERSIONS]
CASES = EVERY_CASE if "MF_SOAK" in os.environ else [EVERY_CASE[0], EVERY_CASE[-1]]
"""Each version and each entry once; all four with MF_SOAK."""


@pytest.fixture
def real(version: str, vhost: VHost) -> Iterator[Nameko]:
    with contextlib.closing(Nameko(version, vhost)) as nameko:
        yield nameko


@pytest.mark.parametrize(("version", "entry"), CASES)
def test_a_nameko_service_is_taken_over_while_it_is_called(
    real: Nameko,
    takeover: Takeover,
    names: Names,
    tmp_path: Path,
    entry: str,
) -> None:
    vhost, path, executed = real.vhost, tmp_path / "executed", Executed()
    answers: list[tuple[str, object]] = []
    side = {"rpc_exchange": names.side}
    first = real.run(SERVICE)
    with ExitStack() as new, ExitStack() as plain:
        with calling(vhost, path, "before", answers) as callers:
            takeover.prepare(entry)
            callers.wait_for_more()
            second = real.run(SERVICE, config=side)
            new.enter_context(new_side(vhost, executed))
            callers.wait_for_more()
            if entry == "binding":
                with pytest.raises(Refused, match="old config"):
                    takeover.move(["alpha"])
            else:
                takeover.move(["alpha"])
                callers.wait_for_more()
        first.stop()  # between calls: Nameko 3 runs what it has under way twice when it is stopped
        with calling(vhost, path, "moved", answers) as callers:
            takeover.move(["alpha"])
            callers.wait_for_more()
            stray = real.run(SERVICE)
            vhost.wait_for(lambda _: not direct(vhost, names), what="the stray's binding to go")
            callers.wait_for_more()
            takeover.back(["alpha"])
            callers.wait_for_more()
            as_often_as_told(lambda: takeover.move(["alpha", "beta"]))  # the stray may bind its queue once more
            callers.wait_for_more()
            takeover.rollback()
            callers.wait_for_more()
        stray.stop()
        with calling(vhost, path, "forward", answers) as callers:
            takeover.move(["alpha", "beta"])
            callers.wait_for_more()
            takeover.finish(0.5)
            vhost.wait_until_drained(names.old)
            second.stop()
            takeover.finish(0.5)
            plain.enter_context(plain_side(vhost, executed))
            callers.wait_for_more()
        new.close()
        takeover.finish(0.5)
    ran = executed.counts() + Counter(path.read_text().split())
    ran = Counter({call.rpartition("|")[2]: count for call, count in ran.items()})
    assert [each for each in answers if each[1] not in ("old", "new", "plain")] == []
    assert {answer for _, answer in answers} == {"old", "new", "plain"}
    called = {call.rpartition("|")[2] for call, _ in answers}
    assert set(ran) == called
    doubled = [call for call, count in ran.items() if count > 1]
    if entry == "policy":
        assert doubled == []
    else:  # only while the stray's binding stood, and only calls of the method that was moved
        print(f"{len(doubled)} of {len(called)} calls ran on both sides")
        assert all(call.startswith("moved") for call in doubled)
    assert names.gate not in vhost.exchanges()


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


@contextlib.contextmanager
def calling(vhost: VHost, path: Path, phase: str, answers: list[tuple[str, object]]) -> Iterator[Callers]:
    """Callers whose calls carry where to note them, and when they were made; what they were answered is kept."""
    with Callers(vhost, prefix=f"{path}|{phase}-") as callers:
        callers.wait_for_more()
        yield callers
    answers += callers.answers
