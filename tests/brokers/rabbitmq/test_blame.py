"""Which messages made the broker close the channel."""

import amqp
import pytest
from amqp.exceptions import error_for_code

from micro_framework.brokers.port import Publication
from micro_framework.brokers.rabbitmq.blame import blamed, locked_queue, missing_exchange, queue_away
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.exceptions import MessageTooLarge, PublishError, UnknownExchange, Unroutable
from micro_framework.wire.messages import Properties


def pending(
    exchange: str, key: str = "k", body: bytes = b"", queue: str | None = None, back_through: str = ""
) -> PendingPublish:
    return PendingPublish(Publication(exchange, key, body, Properties()), bytes, True, str, queue, back_through)


WRITTEN = [
    pending("a"),
    pending("b"),
    pending("", "q"),
    pending("a", body=b"x" * 100),
    pending("", "q.mf-delay.1", queue="q"),
    pending("", "k@back.mf-delay.1", queue="q2", back_through="back"),
]


def answer(code: int, text: str, method: tuple[int, int]) -> Exception:
    error: Exception = error_for_code(code, text, method, amqp.ChannelError)
    return error


@pytest.mark.parametrize(
    ("error", "who", "kind"),
    [
        (answer(404, "NOT_FOUND - no exchange 'a' in vhost '/'", (60, 40)), [0, 3], UnknownExchange),
        (answer(404, "NOT_FOUND - no exchange 'back' in vhost '/'", (40, 10)), [5], UnknownExchange),
        (answer(403, "ACCESS_REFUSED - access to exchange 'b' in vhost '/' refused", (60, 40)), [1], PublishError),
        (
            answer(403, "ACCESS_REFUSED - cannot publish to internal exchange 'b' in vhost '/'", (60, 40)),
            [1],
            PublishError,
        ),
        (answer(404, "NOT_FOUND - no queue 'q' in vhost '/'", (50, 10)), [2, 4], Unroutable),
        (answer(406, "inequivalent arg 'x' for queue 'q.mf-delay.1' in vhost '/'", (50, 10)), [4], PublishError),
        (answer(406, "message size 100 is larger than configured max size 50", (60, 40)), [3], MessageTooLarge),
        (answer(406, "message size 100 is larger than max size 50", (60, 40)), [3], MessageTooLarge),
        (answer(404, "NOT_FOUND - no exchange 'z' in vhost '/'", (60, 40)), [0, 1, 2, 3, 4, 5], PublishError),
        (answer(406, "PRECONDITION_FAILED - whatever", (60, 40)), [0, 1, 2, 3, 4, 5], PublishError),
    ],
)
def test_the_brokers_words_name_them(error: Exception, who: list[int], kind: type[PublishError]) -> None:
    found = blamed(error, WRITTEN)
    assert [WRITTEN.index(each) for each, _ in found] == who
    assert kind in {type(why) for _, why in found}


def test_the_exchange_that_is_not_there() -> None:
    assert missing_exchange(answer(404, "NOT_FOUND - no exchange 'a' in vhost '/'", (60, 40))) == "a"
    assert missing_exchange(answer(404, "NOT_FOUND - no queue 'a' in vhost '/'", (50, 10))) is None
    assert (
        missing_exchange(answer(403, "ACCESS_REFUSED - access to exchange 'a' in vhost '/' refused", (60, 40))) is None
    )


def test_a_locked_queue_is_nobodys_fault() -> None:
    error = answer(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'", (50, 10))
    assert locked_queue(error) == "q"
    assert blamed(error, WRITTEN) == []


def test_nobody_wrote_anything() -> None:
    assert blamed(answer(406, "whatever", (60, 40)), []) == []


def test_a_queue_on_a_node_that_is_down_is_named() -> None:
    text = "NOT_FOUND - home node 'a@here' of durable queue 'jobs.mf-delay.50' in vhost '/' is down or inaccessible"
    assert queue_away(error_for_code(404, text, (50, 10), amqp.ChannelError)) == "jobs.mf-delay.50"
    gone = "NOT_FOUND - no queue 'jobs' in vhost '/'"
    assert queue_away(error_for_code(404, gone, (50, 10), amqp.ChannelError)) is None
