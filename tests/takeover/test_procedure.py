"""The whole life of a takeover on a real broker, under calls: each is answered once and runs once."""

from contextlib import ExitStack

import pytest

from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.config import Settings
from micro_framework.exceptions import BrokerError
from micro_framework.takeover.management import Management
from micro_framework.takeover.operations import Binding, bind, declare_queue, unbind
from micro_framework.takeover.procedure import Refused, Takeover
from micro_framework.takeover.state import State
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.management import ManagementAdmin
from micro_framework.wire.takeover import Names
from tests.brokers.probes import Doors
from tests.takeover.sides import Callers, Executed, new_side, old_side, plain_side

pytestmark = [pytest.mark.kills_broker, pytest.mark.timeout(120)]


@pytest.fixture
def executed() -> Executed:
    return Executed()


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
            with pytest.raises(Refused, match="stop the old replicas once it is empty"):
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


def test_what_would_strand_or_lose_calls_is_refused(
    vhost: VHost, takeover: Takeover, names: Names, executed: Executed
) -> None:
    with pytest.raises(Refused, match="there is no queue rpc-orders"):
        takeover.prepare("policy")
    with old_side(vhost, executed):
        with pytest.raises(Refused, match="is not prepared"):
            takeover.move(["alpha"])
        takeover.prepare("policy")
        with pytest.raises(Refused, match="is prepared with the policy entry"):
            takeover.prepare("binding")
        with pytest.raises(Refused, match="start the new class"):
            takeover.move(["alpha"])
        with new_side(vhost, executed):
            with pytest.raises(Refused, match="no method 'gamma'; it has alpha, beta"):
                takeover.move(["gamma"])
            takeover.move(["alpha"])
            with Callers(vhost, 1, ["beta"]), pytest.raises(Refused, match="calls came to the old side: beta"):
                takeover.finish(1)
    assert takeover.state().keys == ["orders.alpha"]


def test_a_plan_changes_nothing_and_prints_a_line_for_operators(
    vhost: VHost, names: Names, takeover: Takeover, executed: Executed, said: list[str]
) -> None:
    takeover.plan = True
    with old_side(vhost, executed):
        before = takeover.state().bindings
        takeover.prepare("policy")
        assert takeover.state().bindings == before
        assert names.gate not in vhost.exchanges()
    assert any(f"rabbitmqctl set_policy -p {vhost.name} " in line for line in said)
    assert all(line.startswith(("would ", "    ")) for line in said)


def test_a_stray_replica_is_healed_and_nothing_runs_twice(
    vhost: VHost, takeover: Takeover, names: Names, executed: Executed
) -> None:
    def direct(_: VHost) -> bool:
        return any((each.source, each.destination) == (names.main, names.old) for each in vhost.bindings())

    with old_side(vhost, executed), new_side(vhost, executed), Callers(vhost) as callers:
        takeover.prepare("policy")
        takeover.move(["alpha"])
        callers.wait_for_more()
        takeover.perform([bind(Binding(names.main, names.all_methods, names.old))])
        vhost.wait_for(lambda _: not direct(vhost), what="the binding to go")
        callers.wait_for_more()
    assert [each for each in callers.answers if each[1] not in ("old", "new")] == []
    assert executed.counts() == {call: 1 for call, _ in callers.answers}


def user_without_policies(vhost: VHost, managed: ManagementAdmin) -> str:
    """The URI of the virtual host for somebody who may do anything there but set a policy."""
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    managed.ask("PUT", "users/plain", {"password": "secret", "tags": "management"})
    managed.ask("PUT", f"permissions/{vhost.name}/plain", everything)
    return vhost.uri.replace("guest:guest@", "plain:secret@")


def test_a_user_who_may_not_set_a_policy_is_told_what_to_do(
    vhost: VHost, managed: ManagementAdmin, names: Names, executed: Executed
) -> None:
    management = Management(user_without_policies(vhost, managed), managed.management_uri)
    takeover = Takeover(names, management, print, Settings.from_mapping({"AMQP_URI": vhost.uri}))
    with old_side(vhost, executed), pytest.raises(BrokerError) as refused:
        takeover.prepare("policy")
    assert f"have an operator run\n    rabbitmqctl set_policy -p {vhost.name} " in str(refused.value)
    assert "--entry binding" in str(refused.value)


def test_a_process_that_hosts_another_service_along_is_refused(
    vhost: VHost, takeover: Takeover, names: Names, executed: Executed
) -> None:
    with old_side(vhost, executed), new_side(vhost, executed):
        takeover.prepare("policy")
        along = Binding(names.side, "billing.*", "rpc-billing")
        takeover.perform([declare_queue("rpc-billing"), bind(along)])
        with pytest.raises(Refused, match="also hosts billing"):
            takeover.move(["alpha"])
        takeover.perform([unbind(along)])
        takeover.move(["alpha"])


def test_consumers_are_known_as_soon_as_they_are_there(
    vhost: VHost, takeover: Takeover, names: Names, executed: Executed
) -> None:
    with old_side(vhost, executed):
        assert takeover.state().queue(names.old).consumers == 1
        with old_side(vhost, executed):
            assert takeover.state().queue(names.old).consumers == 2
    assert takeover.state().queue(names.old).consumers == 0


def test_a_replica_that_answers_no_probe_may_have_the_old_config(
    vhost: VHost, takeover: Takeover, names: Names, executed: Executed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micro_framework.takeover.procedure.ANSWER_SECONDS", 1.0)
    silent = Doors(RabbitMQBroker(vhost.uri))
    with old_side(vhost, executed) as first:
        takeover.prepare("binding")
        with old_side(vhost, executed, names.side), new_side(vhost, executed):
            first.stop()
            silent.consuming(names.old_queue(), None)
            with pytest.raises(Refused, match="probes were not answered by the old side: a replica is too busy"):
                takeover.move(["alpha"])
            silent.close()
            takeover.move(["alpha"])


def test_a_class_that_heals_too_late_takes_nothing_away_at_a_rollback(
    vhost: VHost, takeover: Takeover, names: Names, executed: Executed, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = Binding(names.main, names.all_methods, names.old)

    def switch_back(state: State) -> None:
        Takeover.switch_back(takeover, state)
        takeover.perform([unbind(direct)])  # as the class does that has just found its healing queue

    with old_side(vhost, executed), new_side(vhost, executed):
        takeover.prepare("policy")
        takeover.move(["alpha"])
        monkeypatch.setattr(takeover, "switch_back", switch_back)
        takeover.rollback()
        assert takeover.state().has(direct)
