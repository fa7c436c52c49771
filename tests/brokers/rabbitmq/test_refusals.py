"""Answers that will not change end a door at once, with the fix in the message."""

import ssl

import amqp
import pytest
from amqp.exceptions import error_for_code

from micro_framework.brokers.port import Subscription
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.brokers.rabbitmq.endpoints import Address
from micro_framework.brokers.rabbitmq.refusals import is_away, overdue_after, readable, refusal_for
from micro_framework.exceptions import BrokerRefused
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.brokers.probes import Diary, Doors, Inbox, exchange, queue, soon

HERE = Address("broker", 5672, "joe", "shop one")


def answer(code: int, text: str, method: tuple[int, int] = (0, 0)) -> amqp.AMQPError:
    return error_for_code(code, text, method, amqp.ConnectionError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            answer(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."),
            "change_password joe",
        ),
        (answer(530, "NOT_ALLOWED - vhost shop one not found", (10, 40)), "rabbitmqctl add_vhost 'shop one'"),
        (answer(530, "NOT_ALLOWED - access to vhost 'x' refused for user 'joe'", (10, 40)), "set_permissions -p"),
        (answer(403, "ACCESS_REFUSED - access to queue 'q' in vhost", (50, 10)), "set_permissions -p 'shop one' joe"),
        (
            answer(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost", (50, 10)),
            "delete_queue",
        ),
        (answer(406, "PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'q'", (50, 10)), "other flags"),
        (answer(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'", (50, 10)), "exclusive"),
        (answer(503, "COMMAND_INVALID - unknown exchange type 'x-delayed-message'", (40, 10)), "plugin"),
        (answer(540, "NOT_IMPLEMENTED - x", (60, 20)), "lacks"),
        (
            amqp.ConnectionError("Couldn't find appropriate auth mechanism (can offer: X; available: PLAIN)"),
            "LOGIN_METHOD",
        ),
    ],
)
def test_answers_that_will_not_change(error: amqp.AMQPError, words: str) -> None:
    refusal = refusal_for(error, HERE)
    assert isinstance(refusal, BrokerRefused)
    assert words in str(refusal)
    assert "amqp://joe@broker:5672/shop%20one" in str(refusal)


def test_a_broker_that_wants_a_certificate_is_given_up_with_the_fix() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert "AMQP_SSL: {certfile" in str(refusal_for(error, HERE))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError("timed out"),
        answer(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"),
        answer(541, "INTERNAL_ERROR - vhost is down", (10, 40)),
        answer(
            530, "NOT_ALLOWED - access to vhost '/' refused for user 'joe': connection limit (1) is reached", (10, 40)
        ),
        answer(403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", (60, 20)),
        answer(404, "NOT_FOUND - home node 'a@b' of durable queue 'q' is down or inaccessible", (50, 10)),
        answer(404, "NOT_FOUND - no exchange 'x' in vhost '/'", (50, 20)),
        answer(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"),
        answer(406, "PRECONDITION_FAILED - unknown delivery tag 5", (60, 80)),
        answer(503, "COMMAND_INVALID - unexpected method in connection state running", (10, 40)),
        ssl.SSLError(1, "[SSL: SOMETHING] else"),
        ValueError("a defect"),
    ],
)
def test_answers_that_may_change(error: Exception) -> None:
    assert refusal_for(error, HERE) is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "timed out"),
        (answer(404, "NOT_FOUND - no queue", (50, 10)), "Queue.declare: NOT_FOUND - no queue"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_one_readable_line(error: Exception, text: str) -> None:
    assert readable(error) == text


# On the broker


def refused_text(uri: str, exchanges: bool = False) -> str:
    """Why a door to this URI is refused; with everything a refused door must show."""
    doors, diary = Doors(RabbitMQBroker(uri)), Diary()
    bound = queue("jobs", (exchange("events"), "#")) if exchanges else queue("jobs")
    consumer = doors.consumer(Subscription(bound, 1, Inbox().take), events=diary.events)
    assert consumer.wait_ready(soon()) is False
    diary.wait_for("refused")
    doors.close()
    return str(diary.errors[0])


def test_a_wrong_password_is_refused_and_never_shown(amqp_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    text = refused_text(amqp_uri.replace("guest:guest", "guest:hush-hush"))
    assert "rabbitmqctl change_password guest" in text
    assert "hush-hush" not in text + caplog.text


def test_a_missing_virtual_host_is_refused(amqp_uri: str) -> None:
    text = refused_text(amqp_uri + "-not")
    assert "does not exist" in text
    assert "rabbitmqctl add_vhost" in text


def make_user(node: RabbitMQNode, vhost: VHost, *permissions: str) -> str:
    """The URI of a user of his own."""
    user = f"user-{vhost.name}"
    node.call(f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"secret">>, <<"t">>).')
    if permissions:
        patterns = ", ".join(f'<<"{pattern}">>' for pattern in permissions)
        node.call(
            f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost.name}">>, {patterns}, <<"t">>).'
        )
    return vhost.uri.replace("guest:guest", f"{user}:secret")


def test_a_user_without_the_virtual_host_is_refused(own_node: RabbitMQNode, hurt: VHost) -> None:
    assert "set_permissions -p" in refused_text(make_user(own_node, hurt))


@pytest.mark.parametrize(("permissions", "what"), [(("^$", ".*", ".*"), "events"), ((".*", ".*", "^$"), "events")])
def test_a_missing_permission_is_refused(
    own_node: RabbitMQNode, hurt: VHost, permissions: tuple[str, str, str], what: str
) -> None:
    text = refused_text(make_user(own_node, hurt, *permissions), exchanges=True)
    assert what in text
    assert "set_permissions" in text
    assert "secret" not in text


def test_a_virtual_host_that_vanishes_is_tried_again_before_it_is_believed(own_node: RabbitMQNode) -> None:
    """A broker that starts may have its virtual hosts late; this one comes back."""
    vhost = own_node.vhost()
    doors, diary = Doors(RabbitMQBroker(vhost.uri)), Diary()
    doors.publisher(events=diary.events)
    diary.wait_for("ready")
    own_node.delete_vhost(vhost.name)
    diary.wait_for("ready", "lost")
    own_node.add_vhost(vhost.name)
    diary.wait_for("ready", "lost", "ready")
    doors.close()


def test_a_channel_closed_for_a_late_acknowledgement_tells_the_limit() -> None:
    text = (
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 10000 ms. This "
        "timeout value can be configured, see consumers doc guide to learn more"
    )
    assert overdue_after(answer(406, text)) == 10.0
    assert overdue_after(answer(406, "PRECONDITION_FAILED - unknown delivery tag 99")) is None
    assert overdue_after(ConnectionResetError(104, "timed out")) is None


def test_a_queue_of_a_node_that_is_down_is_away() -> None:
    text = "NOT_FOUND - home node 'a@localhost' of durable queue 'jobs' in vhost '/' is down or inaccessible"
    assert is_away(answer(404, text, (50, 10)))
    assert not is_away(answer(404, "NOT_FOUND - no queue 'jobs' in vhost '/'", (50, 10)))
    assert refusal_for(answer(404, text, (50, 10)), HERE) is None
