"""Services written for nameko-amqp-retry: calls that raise `Backoff` come again, on either broker."""

import threading
from typing import Any

import pytest
from kombu import Queue

from micro_framework.calls import Attempt
from nameko_compat.amqp_retry import Backoff, entrypoint_retry, expect_backoff_exception
from nameko_compat.amqp_retry.events import event_handler
from nameko_compat.amqp_retry.messaging import consume
from nameko_compat.amqp_retry.rpc import rpc
from nameko_compat.exceptions import RemoteError
from nameko_compat.messaging import Publisher
from nameko_compat.runners import run_services
from nameko_compat.standalone.events import event_dispatcher
from nameko_compat.standalone.rpc import ServiceRpcProxy
from tests.outside import SECONDS, memory_uri


class Soon(Backoff):
    schedule = (5, 10)
    limit = 3
    random_sigma = 0


class Tries:
    """What was tried, of whom."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.done = threading.Event()

    def count(self, what: str) -> int:
        self.counts[what] = self.counts.get(what, 0) + 1
        return self.counts[what]


tries = Tries()


class Shop:
    name = "shop"
    publish = Publisher()

    @rpc
    def at_the_third(self) -> int:
        number = tries.count("rpc")
        if number < 3:
            raise Soon
        return number

    @rpc
    def never(self) -> None:
        tries.count("never")
        raise Soon

    @rpc
    @entrypoint_retry(retry_for=LookupError, limit=2, schedule=(5,), random_sigma=0)
    def decorated(self, kind: str) -> int:
        number = tries.count(kind)
        if kind == "value":
            raise ValueError("not tried again")
        if number < 2:
            raise KeyError("tried again")
        return number

    @event_handler("source", "happened")
    def happened(self, payload: str) -> None:
        if tries.count("event") < 2:
            raise Soon
        self.publish(payload, routing_key="things")

    @consume(Queue("things"))
    def thing(self, payload: str) -> None:
        if tries.count(payload) < 2:
            raise Soon
        tries.done.set()


@pytest.fixture(params=["memory", "rabbitmq"])
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    global tries
    tries = Tries()
    return {"AMQP_URI": memory_uri() if request.param == "memory" else request.getfixturevalue("rabbit").uri}


def test_calls_are_tried_again_and_answered_once(config: dict[str, Any]) -> None:
    with run_services(config, Shop), ServiceRpcProxy("shop", config, timeout=SECONDS) as shop:
        assert shop.at_the_third() == 3
        assert shop.decorated("key") == 2
        with pytest.raises(RemoteError, match="not tried again"):
            shop.decorated("value")
        assert tries.counts["value"] == 1


def test_what_is_tried_too_often_has_expired(config: dict[str, Any]) -> None:
    with run_services(config, Shop), ServiceRpcProxy("shop", config, timeout=SECONDS) as shop:
        with pytest.raises(RemoteError, match="Backoff aborted after '3' retries") as caught:
            shop.never()
        assert caught.value.exc_type == "Expired"
        assert tries.counts["never"] == 4


def test_events_and_messages_are_tried_again(config: dict[str, Any]) -> None:
    with run_services(config, Shop):
        event_dispatcher(config)("source", "happened", "tea")
        assert tries.done.wait(SECONDS)
    assert tries.counts == {"event": 2, "tea": 2}


def test_the_delays_are_those_of_the_schedule() -> None:
    class Spread(Backoff):
        schedule = (1000, 5000)

    assert [Spread.get_next_schedule_item(number) for number in range(4)] == [1000, 5000, 5000, 5000]
    assert Soon().max_delay == 25
    delays = {Spread().delay_after(Attempt(1), random / 1000) for random in range(1001)}
    assert min(delays) < 4800 < 5000 < 5200 < max(delays)
    assert all(delay % 20 == 0 for delay in delays)
    asked = Soon()
    assert str(asked) == "Backoff(uninitialised)"
    asked.delay_after(Attempt(1), 0.5)
    assert str(asked) == "Backoff(retry #2 in 10ms)"


def test_without_a_limit_it_never_expires() -> None:
    class Stubborn(Backoff):
        limit = 0

    assert Stubborn().expired_after(Attempt(10_000)) is None
    assert isinstance(Soon().expired_after(Attempt(3)), Backoff.Expired)


def test_backoff_is_expected() -> None:
    assert expect_backoff_exception(()) == (Backoff,)
    assert expect_backoff_exception(ValueError) == (ValueError, Backoff)
    assert expect_backoff_exception((ValueError, Exception)) == (ValueError, Exception)


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="does not take sigma; it takes limit"):
        entrypoint_retry(sigma=1)
    with pytest.raises(ImportError, match="BackoffPublisher is not in nameko_compat"):
        from nameko_compat.amqp_retry import BackoffPublisher  # noqa: F401
