"""What is found out about a broker, with real permissions; nothing is changed there."""

from collections.abc import Iterator
from urllib.parse import quote, urlsplit
from uuid import uuid4

import amqp
import kombu
import pytest

from micro_framework.brokers.rabbitmq.endpoints import Endpoints
from micro_framework.brokers.rabbitmq.inspection import Inspection, Wanted, inspect_broker
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.erlang import ErlangAdmin
from micro_framework.testing.management import ManagementAdmin
from micro_framework.wire.naming import Binding, Exchange, Queue

PASSWORD = "s3cretword"
ADD_USER = f"""
ok = rabbit_auth_backend_internal:add_user(%(user)s, <<"{PASSWORD}">>, <<"t">>),
ok = rabbit_auth_backend_internal:set_permissions(%(user)s, %(vhost)s, %(configure)s, %(write)s, %(read)s, <<"t">>),
[]
"""
DELETE_USER = """
ok = rabbit_auth_backend_internal:delete_user(%(user)s, <<"t">>),
[]
"""
EVENTS = Exchange("shop.events")
QUEUE = Queue("orders", bindings=(Binding(EVENTS, "paid"),))


def wanted(**more: object) -> Wanted:
    """A queue that is bound, consumed and put off, and an exchange that is published to."""
    return Wanted({EVENTS.name: EVENTS}, {QUEUE.name: QUEUE}, {QUEUE.name}, {EVENTS.name}, {QUEUE.name}, **more)  # type: ignore[arg-type]


def found(uri: str, what: Wanted) -> list[tuple[str, str, str]]:
    return [(each.level, each.what, each.text) for each in inspect_broker(uri, what, {})]


def errors(uri: str, what: Wanted) -> list[str]:
    return [f"{each.what}: {each.text}" for each in inspect_broker(uri, what, {}) if each.level == "error"]


def declare_everything(uri: str) -> None:
    with kombu.Connection(uri) as connection:
        channel = connection.default_channel
        channel.exchange_declare(EVENTS.name, "topic", durable=True, auto_delete=False)
        channel.queue_declare(QUEUE.name, durable=True, auto_delete=False)
        channel.queue_bind(QUEUE.name, EVENTS.name, "paid")


@pytest.fixture
def login(rabbit: VHost, broker: ErlangAdmin | ManagementAdmin) -> Iterator[object]:
    """Log in as a user of its own, with these permissions to configure, write and read."""
    users = []

    def login(configure: str, write: str, read: str) -> str:
        users.append(user := f"check-{uuid4().hex[:8]}")
        permissions = {"configure": configure, "write": write, "read": read}
        if isinstance(broker, ErlangAdmin):
            broker.evaluate(ADD_USER, user=user, vhost=rabbit.name, **permissions)
        else:
            broker.ask("PUT", f"users/{user}", {"password": PASSWORD, "tags": ""})
            broker.ask("PUT", f"permissions/{quote(rabbit.name, safe='')}/{user}", permissions)
        return rabbit.uri.replace(urlsplit(rabbit.uri).netloc.rpartition("@")[0], f"{user}:{PASSWORD}")

    yield login
    for user in users:
        if isinstance(broker, ErlangAdmin):
            broker.evaluate(DELETE_USER, user=user)
        else:
            broker.ask("DELETE", f"users/{user}")


def state(rabbit: VHost) -> object:
    return (
        sorted((queue.name, queue.depth) for queue in rabbit.queues().values()),
        sorted(rabbit.exchanges()),
        sorted(map(str, rabbit.bindings())),
    )


@pytest.mark.parametrize("exists", [False, True])
def test_with_all_permissions_nothing_is_wrong_and_nothing_is_changed(rabbit: VHost, exists: bool) -> None:
    if exists:
        declare_everything(rabbit.uri)
        with kombu.Connection(rabbit.uri) as connection:
            connection.default_channel.basic_publish(amqp.Message("one"), "", "orders")
        rabbit.wait_for(lambda vhost: vhost.depth("orders") == 1)
    before = state(rabbit)
    findings = found(rabbit.uri, wanted())
    assert {level for level, *_ in findings} == {"note"}
    absent = [what for _, what, text in findings if "does not exist yet" in text]
    assert absent == ([] if exists else ["exchange 'shop.events'", "queue 'orders'"])
    assert state(rabbit) == before


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("permissions", "refused"),
    [
        (("^$", ".*", ".*"), ["exchange 'shop.events'", "queue 'orders'", "queues for retries 'orders.mf-delay.*'"]),
        ((".*", ".*", "^shop"), ["queue 'orders'"]),
        ((".*", "^orders", ".*"), ["exchange 'shop.events'"]),
        (("^(orders|shop.events)$", ".*", ".*"), ["queues for retries 'orders.mf-delay.*'"]),
        ((".*", ".*", "^orders"), ["queue 'orders'"]),
    ],
)
def test_a_permission_that_is_missing_is_named(
    rabbit: VHost, login: object, exists: bool, permissions: tuple[str, str, str], refused: list[str]
) -> None:
    if exists:
        declare_everything(rabbit.uri)
    before = state(rabbit)
    text = errors(login(*permissions), wanted())  # type: ignore[operator]
    assert list(dict.fromkeys(each.partition(": ")[0] for each in text)) == refused
    assert all("set_permissions" in each for each in text)
    assert not any("s3cretword" in each for each in text)
    assert state(rabbit) == before


def test_flags_that_clash(rabbit: VHost) -> None:
    with kombu.Connection(rabbit.uri) as connection:
        channel = connection.default_channel
        channel.exchange_declare(EVENTS.name, "topic", durable=False, auto_delete=False)
        channel.queue_declare(QUEUE.name, durable=True, auto_delete=False, arguments={"x-message-ttl": 1000})
    levels = {what: level for level, what, _ in found(rabbit.uri, wanted())}
    assert levels["exchange 'shop.events'"] == "warning"
    assert levels["queue 'orders'"] == "error"


def test_what_the_broker_lacks(rabbit: VHost) -> None:
    (error,) = errors(rabbit.uri, wanted(plugin=True))
    assert "rabbitmq_delayed_message_exchange" in error


def test_a_wrong_password_and_a_missing_vhost(rabbit: VHost) -> None:
    (error,) = errors(rabbit.uri.replace("guest:guest@", "guest:wr0ngword@"), wanted())
    assert "login as 'guest' was refused" in error
    assert "wr0ngword" not in error
    (error,) = errors(f"{rabbit.uri}-nowhere", wanted())
    assert "does not exist" in error


def test_transient_queues_are_deprecated_from_rabbitmq_4_on(rabbit: VHost) -> None:
    transient = Wanted(queues={"q": Queue("q", durable=False, auto_delete=True)})

    class Newer(Inspection):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.release = (4, 3)

    endpoints = Endpoints(rabbit.uri)
    connection = endpoints.connect_apart("test")
    try:
        texts = [each.text for each in Newer(connection, endpoints.current, transient).findings()]
    finally:
        connection.drop()
    assert any("deprecates" in text for text in texts)


def test_of_several_hosts_one_that_answers_is_enough(rabbit: VHost) -> None:
    findings = found(f"amqp://guest:guest@127.0.0.1:1;{rabbit.uri}", wanted())
    assert [level for level, *_ in findings].count("warning") == 1
    assert not [level for level, *_ in findings if level == "error"]
