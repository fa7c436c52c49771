"""Calls that pass through both: Nameko to us to Nameko and back, with what context data and call id stacks become."""

import re
from typing import Any

import pytest

from interop_tests.nameko_process import Nameko, NamekoPeer
from interop_tests.raw_messages import publish
from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import CallContext
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.testing.services import running

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


class TooEarlyError(Exception):
    """The first attempt fails with it."""


class Middle:
    """Ours: hears Nameko, and is heard by Nameko."""

    name = "middle"
    dispatch = Producer()

    @EventListener("source", "through")
    def on_through(self, payload: Any) -> None:
        self.dispatch("passed", payload)


class Hesitating:
    """Ours, under the same name: fails at first and succeeds when it is tried again."""

    name = "middle"
    dispatch = Producer()
    retry = BackOffData()

    @route(EventListener("source", "through.later"), backoff=AsyncBackOff(max_retries=2, interval=50))
    def on_through_later(self, payload: Any) -> None:
        if self.retry.retry_count == 0:
            raise TooEarlyError("not yet")
        self.dispatch("passed", payload)


class Chain(NamekoPeer):
    """Nameko's `source` at the beginning and `witness` at the end."""

    def witnessed(self, marker: str) -> dict[str, Any]:
        """The one record that the witness has of a payload, once it is there."""
        self.vhost.wait_for(lambda _: self.records(marker), what="the witness to hear it")
        self.vhost.wait_until_drained()
        (record,) = self.records(marker)
        return record

    def records(self, marker: str) -> list[dict[str, Any]]:
        return [record for record in self.driver.call("witness", "log") if record["payload"] == marker]


@pytest.fixture(scope="module")
def chain(shared_nameko: Nameko) -> Chain:
    shared_nameko.run("nameko_services:Source", "interop_peers:Witness", "interop_peers:Relay")
    return Chain(shared_nameko.driver(), shared_nameko.vhost)


def names_of(stack: list[str]) -> list[str]:
    """``service.method`` of each call id; the last part must be a uuid4."""
    assert all(re.search(rf"\.{UUID4}$", call_id) for call_id in stack)
    return [call_id.rsplit(".", 1)[0] for call_id in stack]


# -- Nameko, we, Nameko


def test_context_passes_through_us_and_the_stack_grows_by_one_each_hop(chain: Chain, marker: str) -> None:
    context = {"user_id": 7, "language": "de", "nested": {"a": [1, "é"]}, "flag": False}
    with running(Middle, config=chain.config):
        chain.driver.call("source", "emit", ["through", marker], context_data=context)
        record = chain.witnessed(marker)
    assert record["context"] == context
    assert names_of(record["stack"])[1:] == ["source.emit", "middle.on_through", "witness.on_passed"]
    assert len(record["stack"]) == 4


def test_a_long_stack_is_trimmed_to_eleven(chain: Chain, marker: str) -> None:
    stack = [f"older.call.{number}" for number in range(15)]
    with running(Middle, config=chain.config):
        publish(chain.vhost.uri, "source.events", "through", marker, {"nameko.call_id_stack": stack})
        record = chain.witnessed(marker)
    assert record["stack"][:9] == stack[6:]
    assert names_of(record["stack"][9:]) == ["middle.on_through", "witness.on_passed"]


@pytest.mark.parametrize("headers", [{}, {"nameko.call_id_stack": []}])
def test_a_message_without_a_stack_begins_one(chain: Chain, marker: str, headers: dict[str, Any]) -> None:
    with running(Middle, config=chain.config):
        publish(chain.vhost.uri, "source.events", "through", marker, headers)
        record = chain.witnessed(marker)
    assert names_of(record["stack"]) == ["middle.on_through", "witness.on_passed"]


FOREIGN = [
    ({"x-foreign": "f"}, {"x-foreign": "f"}),
    ({"Nameko.caps": "c"}, {"Nameko.caps": "c"}),
    ({"nameko.nameko.twice": 2}, {"nameko.twice": 2}),
    ({"x-death": [{"count": 1, "queue": "q"}]}, {"x-death": [{"count": 1, "queue": "q"}]}),
    ({"nameko.nothing": None, "nameko.nested": {"none": None}}, {"nested": {"none": None}}),
]
OWN = [
    ({"mf-retry-count": 3, "nameko.user_id": 1}, {"user_id": 1}),
    ({"nameko.mf-retry-count": 3}, {}),
    ({"nameko.mf-anything": {"a": 1}, "mf-other": "x", "kept": 1}, {"kept": 1}),
]


@pytest.mark.parametrize(("headers", "context"), FOREIGN)
def test_a_foreign_header_becomes_the_same_through_us_as_through_nameko(
    chain: Chain, marker: str, headers: dict[str, Any], context: dict[str, Any]
) -> None:
    with running(Middle, config=chain.config):
        publish(chain.vhost.uri, "source.events", "through", marker, headers)
        through_us = chain.witnessed(marker)
    publish(chain.vhost.uri, "ours.events", "hop", f"{marker} again", headers)
    through_nameko = chain.witnessed(f"{marker} again")
    assert through_us["context"] == through_nameko["context"] == context


@pytest.mark.parametrize(("headers", "context"), FOREIGN + OWN)
def test_foreign_headers_become_context_data_and_our_own_never_travel_on(
    chain: Chain, marker: str, headers: dict[str, Any], context: dict[str, Any]
) -> None:
    with running(Middle, config=chain.config):
        publish(chain.vhost.uri, "source.events", "through", marker, headers)
        record = chain.witnessed(marker)
    assert record["context"] == context


def test_a_retried_call_sends_on_what_the_first_attempt_would_have_sent(chain: Chain, marker: str) -> None:
    with running(Hesitating, config=chain.config):
        chain.driver.call("source", "emit", ["through.later", marker], context_data={"user_id": 7})
        record = chain.witnessed(marker)
    assert record["context"] == {"user_id": 7}
    expected = ["source.emit", "middle.on_through_later", "witness.on_passed"]
    assert names_of(record["stack"])[1:] == expected


# -- we, Nameko, we


def hearing() -> tuple[type, list[dict[str, Any]]]:
    """A service of ours at the end of the chain, and what it gets."""
    heard: list[dict[str, Any]] = []

    class End:
        name = "end"
        context = CallContext()
        retry = BackOffData()

        @route(EventListener("relay", "hopped"), backoff=AsyncBackOff(max_retries=1, interval=50))
        def on_hopped(self, payload: Any) -> None:
            heard.append(
                {
                    "payload": payload,
                    "context": dict(self.context.data),
                    "stack": list(self.context.call_id_stack),
                    "retry_count": self.retry.retry_count,
                }
            )

    return End, heard


class Ours:
    """Ours, at the beginning."""

    name = "ours"
    dispatch = Producer()

    @EventListener("control", "go")
    def go(self, payload: Any) -> None:
        self.dispatch("hop", payload)


def test_context_passes_through_nameko_and_comes_back_to_us(chain: Chain, marker: str) -> None:
    end, heard = hearing()
    context = {"user_id": 7, "nested": {"a": [1, "é"]}}
    headers = {f"nameko.{key}": value for key, value in context.items()}
    with running(Ours, end, config=chain.config):
        publish(chain.vhost.uri, "control.events", "go", marker, headers)
        chain.vhost.wait_for(lambda _: heard, what="it to come back")
    (record,) = heard
    assert record["payload"] == marker
    assert record["context"] == context
    assert names_of(record["stack"]) == ["ours.go", "relay.on_hop", "end.on_hopped"]


def test_headers_of_ours_that_nameko_sends_on_mean_nothing(chain: Chain, marker: str) -> None:
    """A message that we had put off was handled by Nameko, which takes our headers for context data."""
    end, heard = hearing()
    headers = {"mf-retry-count": 1, "mf-exchange": "elsewhere", "nameko.user_id": 7}
    with running(Ours, end, config=chain.config):
        publish(chain.vhost.uri, "ours.events", "hop", marker, headers)
        chain.vhost.wait_for(lambda _: heard, what="it to come back")
    (record,) = heard
    assert record["context"] == {"user_id": 7}
    assert record["retry_count"] == 0
