"""What `migrate status` says."""

import pytest

from micro_framework.takeover.procedure import Takeover
from micro_framework.takeover.status import lines
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.takeover import Names
from tests.takeover.sides import Executed, new_side, old_side

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]


def test_each_stage_is_told(vhost: VHost, takeover: Takeover, names: Names) -> None:
    with old_side(vhost, Executed(), names.main), new_side(vhost, Executed()):
        assert "not prepared" in "\n".join(lines(takeover))
        takeover.prepare("policy")
        assert "everything runs on the old side" in "\n".join(lines(takeover))
        takeover.move(["alpha"])
        vhost.wait_for_consumers(names.old)
        found = list(lines(takeover))
    assert "  orders.alpha: new side" in found
    assert "  orders.beta: old side" in found
    assert any("with the old" in line for line in found)
