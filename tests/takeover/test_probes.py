"""Questions to both sides that run no user code."""

import pytest

from micro_framework.takeover.management import Management
from micro_framework.takeover.operations import Binding, bind, declare_exchange, declare_queue
from micro_framework.takeover.probes import arriving, offered, old_configurations, publish
from micro_framework.takeover.procedure import Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.takeover import Names
from tests.takeover.sides import Executed, new_side, old_side

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]


def test_replicas_tell_their_configuration_and_run_nothing(
    vhost: VHost, takeover: Takeover, management: Management, names: Names
) -> None:
    executed = Executed()
    with old_side(vhost, executed):
        takeover.prepare("binding")
        with old_side(vhost, executed, names.side):
            mixed = old_configurations(management, names, 16, 20)
        old = old_configurations(management, names, 8, 20)
    assert mixed.side + mixed.main == 16
    assert min(mixed.side, mixed.main) > 0
    assert (old.side, old.main) == (0, 8)
    assert executed.runs == []


def test_the_new_side_tells_its_methods(vhost: VHost, management: Management, names: Names) -> None:
    with old_side(vhost, Executed()), new_side(vhost, Executed()):
        assert offered(management, names, 20) == {"alpha", "beta"}


def test_all_that_the_gate_passes_is_counted(
    management: Management, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micro_framework.takeover.probes.AT_ONCE", 3)
    declare_queue(names.old).perform(management)
    declare_exchange(names.rest).perform(management)
    bind(Binding(names.rest, names.all_methods, names.old)).perform(management)

    def called_meanwhile(seconds: float) -> None:
        for number in range(7):
            publish(management, names.rest, names.key("alpha" if number % 2 else "beta"), "nobody")

    monkeypatch.setattr("micro_framework.takeover.probes.time.sleep", called_meanwhile)
    assert arriving(management, names, 1) == {"alpha": 3, "beta": 4}
