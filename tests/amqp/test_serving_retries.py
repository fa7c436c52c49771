"""RPC calls that are tried again: their caller is answered once, at the end."""

import time
from typing import Any

import pytest

from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.calls import Attempt
from micro_framework.dependencies import CallContext
from micro_framework.exceptions import IncorrectSignature, RemoteError
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.standalone import RPCClient
from micro_framework.testing import running
from micro_framework.testing.broker_state import VHost

SECONDS = 20.0


class Payments:
    name = "payments"
    retry = BackOffData()
    call = CallContext()
    seen: list[tuple[int, Any]] = []

    def note(self) -> int:
        attempt: Attempt = self.retry
        self.seen.append((attempt.retry_count, dict(self.call.data)))
        return attempt.retry_count

    @route(RPCListener(), backoff=AsyncBackOff(3, 50, [ConnectionError]), on_failure="gave_up")
    def charge(self, until: int) -> str:
        count = self.note()
        if count < until:
            raise ConnectionError(f"down at attempt {count}")
        return f"charged at attempt {count}"

    def gave_up(self, until: int, exception: BaseException) -> None:
        self.seen.append((-1, str(exception)))

    @route(RPCListener(), backoff=AsyncBackOff(3, 600_000))
    def late(self) -> None:
        self.note()
        raise ConnectionError("down")


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    Payments.seen.clear()


def test_a_call_that_succeeds_at_last_is_answered_once(broker_uri: str) -> None:
    with (
        running(Payments, config={"AMQP_URI": broker_uri}),
        RPCClient(broker_uri, SECONDS, {"user_id": 7}) as rpc,
    ):
        assert rpc.payments.charge(2) == "charged at attempt 2"
    assert Payments.seen == [(count, {"user_id": 7}) for count in range(3)]


def test_the_last_failure_is_the_answer_and_the_callback_runs_once(broker_uri: str) -> None:
    with running(Payments, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri, SECONDS) as rpc:
        with pytest.raises(RemoteError, match="ConnectionError down at attempt 3"):
            rpc.payments.charge(9)
    assert [count for count, _ in Payments.seen] == [0, 1, 2, 3, -1]


def test_a_retry_that_nobody_would_wait_for_is_not_made(broker_uri: str) -> None:
    with running(Payments, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri, SECONDS) as rpc:
        began = time.monotonic()
        with pytest.raises(RemoteError, match="ConnectionError down"):
            rpc.payments.late()
        assert time.monotonic() - began < SECONDS
    assert len(Payments.seen) == 1


def test_what_the_caller_must_mend_is_not_tried_again(broker_uri: str) -> None:
    with running(Payments, config={"AMQP_URI": broker_uri}), RPCClient(broker_uri, SECONDS) as rpc:
        with pytest.raises(IncorrectSignature):
            rpc.payments.charge()
    assert Payments.seen == []


def test_a_call_that_is_put_off_comes_back_through_the_rpc_exchange(rabbit: VHost) -> None:
    """So that a Nameko process on the same queue could take it, too."""
    with running(Payments, config={"AMQP_URI": rabbit.uri}), RPCClient(rabbit.uri, SECONDS) as rpc:
        call = rpc.payments.late.with_timeout(3_600).call_async()
        rabbit.wait_for(
            lambda vhost: any("delay" in name for name in vhost.queues()), timeout=SECONDS, what="a delay queue"
        )
        (queue,) = (queue for name, queue in rabbit.queues().items() if "delay" in name)
        assert queue.arguments["x-dead-letter-exchange"] == "nameko-rpc"
        assert queue.arguments["x-dead-letter-routing-key"] == "payments.late"
        rabbit.wait_until_drained("rpc-payments")
        assert not call.done()
