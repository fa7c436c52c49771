from types import SimpleNamespace
from typing import Any, cast

from micro_framework.amqp.arriving import arriving
from micro_framework.entrypoints import RouteHandle

ROUTE = cast(RouteHandle, SimpleNamespace(service="orders", method="create"))


def test_context_and_parents_come_from_the_headers_and_the_calls_own_id_is_new() -> None:
    headers: dict[str, Any] = {"nameko.language": "en", "nameko.call_id_stack": ["a.b.1", "c.d.2"]}
    context, identity = arriving(headers, ROUTE, 10)
    assert context == {"language": "en"}
    assert identity.stack[:-1] == ("a.b.1", "c.d.2")
    assert identity.call_id.startswith("orders.create.")
    assert (identity.origin, identity.parent) == ("a.b.1", "c.d.2")
    assert arriving(headers, ROUTE, 10)[1].call_id != identity.call_id


def test_only_so_many_parents_are_kept() -> None:
    _, identity = arriving({"nameko.call_id_stack": ["a", "b", "c"]}, ROUTE, 1)
    assert identity.stack[:-1] == ("c",)
    assert identity.origin == "a"


def test_what_the_broker_added_to_a_copy_does_not_travel_on() -> None:
    traces = {"x-death": [{"count": 1}], "x-first-death-queue": "q", "x-foreign": 1}
    assert arriving(traces, ROUTE, 10)[0] == traces, "a foreign message is taken as Nameko takes it"
    copied = {**traces, "mf-exchange": "e", "mf-routing-key": "k"}
    assert arriving(copied, ROUTE, 10)[0] == {"x-foreign": 1}
