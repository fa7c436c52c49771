"""`rollout=`: a share of a moved method's requests runs here, the rest on the old side; each runs once."""

from typing import Any
from uuid import uuid4

import pytest

from micro_framework.amqp.dependencies import LegacyService
from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.amqp.rollout import PASSED_ON, Rollout, rollout_problem
from micro_framework.exceptions import DeclarationError
from micro_framework.runner import Runner
from micro_framework.takeover.procedure import Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.messages import Properties
from micro_framework.wire.takeover import Names
from tests.scraping import Scraper, eventually
from tests.takeover.conftest import managed, managed_node, management, names, said, takeover, vhost
from tests.takeover.sides import Callers, Executed, old_side

__all__ = ["managed", "managed_node", "management", "names", "said", "takeover", "vhost"]  # fixtures

NAMES = Names("orders")


class Sent:
    """A request as far as a rollout looks at it."""

    body = b'{"args": [], "kwargs": {}}'
    routing_key = "orders.alpha"

    def __init__(self, **headers: Any) -> None:
        self.headers = headers
        self.properties = Properties(
            "application/json", "utf-8", headers, correlation_id=str(uuid4()), reply_to="me", user_id="somebody"
        )


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (0.25, 380, 620), (1, 2000, 2000)])
def test_about_the_share_is_kept(share: float, least: int, most: int) -> None:
    rollout = Rollout(share, NAMES)
    kept = sum(rollout.keeps(Sent()) for _ in range(2000))  # type: ignore[arg-type]
    assert least <= kept <= most


def test_a_request_that_is_delivered_again_goes_the_same_way() -> None:
    rollout, requests = Rollout(0.5, NAMES), [Sent() for _ in range(50)]
    first = [rollout.keeps(each) for each in requests]  # type: ignore[arg-type]
    assert [rollout.keeps(each) for each in requests] == first  # type: ignore[arg-type]


def test_what_is_passed_on_is_untouched_but_for_a_mark_that_ends_its_way() -> None:
    rollout, request = Rollout(0, NAMES), Sent(**{"nameko.language": "en"})
    copy = rollout.passed_on(request)  # type: ignore[arg-type]
    assert (copy.exchange, copy.routing_key, copy.body, copy.mandatory) == (
        "orders.rest",
        "orders.alpha",
        request.body,
        True,
    )
    assert copy.properties.headers == {"nameko.language": "en", PASSED_ON: 1}
    assert (copy.properties.reply_to, copy.properties.correlation_id, copy.properties.user_id) == (
        "me",
        request.properties.correlation_id,
        None,
    )
    assert rollout.keeps(Sent(**{PASSED_ON: 1}))  # type: ignore[arg-type]


class Unreadable(Sent):
    """A request that the client library cannot read."""

    @property
    def properties(self) -> Properties:  # type: ignore[override]
        raise ValueError("no table")

    @properties.setter
    def properties(self, value: Properties) -> None: ...


def test_what_cannot_be_read_is_left_to_a_worker_who_refuses_it() -> None:
    assert Rollout(0, NAMES).keeps(Unreadable())  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [1.01, -0.1, "0.5", True])
def test_what_is_no_share_is_refused(share: object) -> None:
    assert "a share from 0 to 1" in str(rollout_problem(share, NAMES))


def test_without_a_takeover_it_is_refused() -> None:
    class Plain:
        name = "orders"

        @RPCListener(rollout=0.5)
        def alpha(self) -> None: ...

    with pytest.raises(DeclarationError, match=r"declare LegacyService\(\) on the class"):
        Runner([Plain], {"AMQP_URI": "memory://"})


def half(executed: Executed) -> type:
    """A class that takes alpha over, half of it."""

    class Orders:
        name = "orders"
        legacy = LegacyService()

        @RPCListener(rollout=0.5)
        def alpha(self, call: str) -> str:
            executed.note("new", call)
            return "new"

    return Orders


@pytest.mark.kills_broker
@pytest.mark.timeout(120)
def test_both_sides_answer_and_every_request_runs_once(vhost: VHost, takeover: Takeover, names: Names) -> None:
    executed = Executed()
    config = {"AMQP_URI": vhost.uri, "ENABLE_METRICS": True, "METRICS": {"HOST": "127.0.0.1", "PORT": 0}}
    with old_side(vhost, executed, names.main), Runner([half(executed)], config) as runner:
        takeover.prepare("policy")
        takeover.move(["alpha"])
        with Callers(vhost, methods=["alpha"]) as callers:
            callers.wait_for_more(100)
        scraper = Scraper(runner.observing.port)
        passed_on = sum(side == "old" for side, _ in executed.runs)
        assert scraper.total("calls_passed_on_total", service="orders", method="alpha") == passed_on
        eventually(lambda: scraper.total("takeover_consumers", service="orders", side="old") == 1)
        eventually(lambda: scraper.total("takeover_consumers", service="orders", side="new") == 1)
        assert scraper.total("takeover_waiting", service="orders") == 0
    assert {answer for _, answer in callers.answers} == {"old", "new"}
    assert executed.counts() == {call: 1 for call, _ in callers.answers}


@pytest.mark.kills_broker
@pytest.mark.timeout(120)
def test_where_the_old_side_has_no_queue_any_more_all_runs_here(vhost: VHost, takeover: Takeover, names: Names) -> None:
    executed = Executed()
    with old_side(vhost, executed), Runner([half(executed)], {"AMQP_URI": vhost.uri}):
        takeover.prepare("policy")
        takeover.move(["alpha"])
    with Runner([half(executed)], {"AMQP_URI": vhost.uri}):
        vhost.delete_queue(names.old)
        with Callers(vhost, methods=["alpha"]) as callers:
            callers.wait_for_more(20)
    assert {answer for _, answer in callers.answers} == {"new"}
