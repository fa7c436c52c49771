"""One connection for both on RabbitMQ itself: its channels, and what happens to one half when the other has trouble."""

import logging
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Thread

import pytest

from micro_framework.brokers.port import Confirmation, Delivery, Duplex, Subscription, Verdict
from micro_framework.brokers.rabbitmq import RabbitMQBroker, consumer as consumer_module
from micro_framework.brokers.rabbitmq.link import Link
from micro_framework.exceptions import PublishError, UnknownExchange
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import RabbitMQNode
from tests.brokers.probes import SECONDS, Diary, Doors, Inbox, RabbitMQOperator, Told, message, mf_threads, queue, soon

REQUESTS = queue("requests")
REPLIES = queue("replies")
MINE = queue("mine")


def link_of(door: Duplex) -> Link:
    link: Link = door._link  # type: ignore[attr-defined]
    return link


def open_channels(door: Duplex) -> list[int]:
    """The numbers of the channels as the client counts them; 0 is the connection itself."""
    connection = link_of(door).connection
    assert connection is not None
    return sorted(connection.channels)


def break_the_consuming_channel(door: Duplex, delivery: Delivery) -> None:
    """Acknowledge what never was delivered."""
    delivery._channel.finished.append((99, Verdict.ACK))  # type: ignore[attr-defined]
    link_of(door).flush()


class Server:
    """Answers requests on a thread of its own, and acknowledges each once the reply is safe."""

    def __init__(self, doors: Doors, *, prefetch: int = 50) -> None:
        self.diary = Diary()
        self.answered: list[Confirmation] = []
        self.work: SimpleQueue[Delivery | None] = SimpleQueue()
        doors.declare(REPLIES)
        self.door = doors.duplex(Subscription(REQUESTS, prefetch, self.work.put), events=self.diary.events)
        self.thread = Thread(target=self.run)
        self.thread.start()
        assert self.door.wait_ready(soon())

    def run(self) -> None:
        while (delivery := self.work.get()) is not None:
            self.answer(delivery)

    def answer(self, delivery: Delivery) -> None:
        def settle(error: BaseException | None) -> None:
            delivery.settle(Verdict.ACK if error is None else Verdict.REQUEUE)

        confirmation = self.door.publish(message("replies", delivery.body, mandatory=True))
        confirmation.add_done_callback(settle)
        self.answered.append(confirmation)

    def close(self) -> None:
        self.work.put(None)
        self.thread.join(SECONDS)


@pytest.fixture
def server(doors: Doors) -> Iterator[Server]:
    server = Server(doors)
    yield server
    server.close()


# The connection


def test_both_halves_share_one_connection_with_three_channels(doors: Doors, rabbit: VHost) -> None:
    door = doors.duplex(Subscription(REQUESTS, 10, Inbox().take))
    assert door.wait_ready(soon())
    assert open_channels(door) == [0, 1, 2, 4]
    rabbit.wait_for(lambda vhost: [found.channels for found in vhost.connections()] == [3])
    [connection] = rabbit.connections()
    assert "mf-duplex-test-0" in connection.client_name
    assert mf_threads() == ["mf-duplex-test-0"]


def test_the_channels_keep_their_numbers_when_they_are_opened_again(doors: Doors, rabbit: VHost) -> None:
    diary, inbox = Diary(), Inbox()
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    door.publish(message("requests", "held")).wait(soon())
    with pytest.raises(UnknownExchange):
        door.publish(message("key", to="no-such-exchange")).wait(soon())
    break_the_consuming_channel(door, inbox.next())
    inbox.next()
    door.publish(message("nowhere")).wait(soon())
    assert open_channels(door) == [0, 1, 2, 4]
    rabbit.close_connections()
    diary.wait_for("ready", "lost", "ready")
    assert open_channels(door) == [0, 1, 2, 4]


# Trouble of one half


def test_a_publish_that_closes_its_channel_leaves_consuming_alone(doors: Doors, rabbit: VHost) -> None:
    diary, inbox = Diary(), Inbox()
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    doors.send(message("requests", "before"))
    held = inbox.next()
    sent = [door.publish(message("key" if n == 10 else "replies", to="missing" if n == 10 else "")) for n in range(20)]
    with pytest.raises(UnknownExchange):
        sent.pop(10).wait(soon())
    for confirmation in sent:
        confirmation.wait(soon())
    doors.send(message("requests", "after"))
    after = inbox.next()
    assert (after.body, after.redelivered) == (b"after", False)
    held.settle(Verdict.ACK)
    after.settle(Verdict.ACK)
    rabbit.wait_until_drained("requests")
    assert diary.names == ["ready"]


def test_a_verdict_that_closes_its_channel_leaves_publishing_alone(doors: Doors, rabbit: VHost) -> None:
    """Every message is confirmed, and none is sent twice."""
    diary, inbox = Diary(), Inbox()
    doors.declare(REPLIES)
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    doors.send(message("requests", "again"))
    held = inbox.next()
    sent = [door.publish(message("replies", str(number))) for number in range(200)]
    break_the_consuming_channel(door, held)
    sent += [door.publish(message("replies", str(number))) for number in range(200, 400)]
    for confirmation in sent:
        confirmation.wait(soon())
    again = inbox.next()
    assert (again.body, again.redelivered) == (b"again", True)
    again.settle(Verdict.ACK)
    rabbit.wait_until_drained("requests")
    assert rabbit.depth("replies") == 400
    assert diary.names == ["ready"]


def test_a_verdict_that_another_thread_writes_while_the_channel_closes_does_no_harm(
    doors: Doors, rabbit: VHost
) -> None:
    """The broker forgives it until it has our answer, which must wait for that thread."""
    diary, inbox = Diary(), Inbox()
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    doors.send(message("requests", "again"))
    generation, link = inbox.next()._channel, link_of(door)  # type: ignore[attr-defined]
    with link.gate:
        generation.finished.append((99, Verdict.ACK))
        assert link._write()
        deadline = time.monotonic() + 0.3
        while generation.channel.connection is not None and time.monotonic() < deadline:
            pass  # were it answered now, what follows would be an error of the connection
        generation.finished.append((98, Verdict.ACK))
        assert link._write()
    inbox.next().settle(Verdict.ACK)
    rabbit.wait_until_drained("requests")
    door.publish(message("nowhere")).wait(soon())
    assert diary.names == ["ready"]


def test_a_channel_that_is_closed_again_and_again_costs_the_connection_and_no_message(
    doors: Doors, rabbit: VHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "QUICK_SECONDS", 600.0)
    diary, inbox = Diary(), Inbox()
    doors.declare(REPLIES)
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    doors.send(message("requests", "again"))
    break_the_consuming_channel(door, inbox.next())
    break_the_consuming_channel(door, inbox.next())
    sent = [door.publish(message("replies", str(number))) for number in range(100)]
    diary.wait_for("ready", "lost", "ready")
    for confirmation in sent:
        confirmation.wait(soon())
    inbox.next().settle(Verdict.ACK)
    rabbit.wait_until_drained("requests")


# Losses


@pytest.mark.fault
@pytest.mark.timeout(180)
def test_every_reply_is_confirmed_and_every_request_settled_though_the_connection_is_closed_amid(
    doors: Doors, server: Server, rabbit: VHost, soak_size: Callable[[int], int]
) -> None:
    count, answers, client_diary = soak_size(500), Inbox(Verdict.ACK), Diary()
    client = doors.duplex(Subscription(REPLIES, 50, answers.take), events=client_diary.events)
    client_diary.wait_for("ready")
    sent = [client.publish(message("requests", str(number), mandatory=True)) for number in range(count)]
    found = {delivery.body for delivery in answers.several(count // 5)}
    rabbit.wait_for(lambda vhost: len(vhost.connections()) == 2)
    assert rabbit.close_connections() == 2
    while len(found) < count:
        found.add(answers.next().body)
    assert found == {str(number).encode() for number in range(count)}
    rabbit.wait_until_drained("requests", "replies")
    deadline = soon()
    for confirmation in [*sent, *server.answered]:
        confirmation.wait(deadline)
    server.diary.wait_for("ready", "lost", "ready")
    client_diary.wait_for("ready", "lost", "ready")


def test_a_reply_published_while_the_connection_is_away_is_sent_when_it_is_back(doors: Doors, rabbit: VHost) -> None:
    operator, inbox, sent = RabbitMQOperator(rabbit), Inbox(), []
    replies, _ = doors.consuming(REPLIES)
    door = doors.duplex(Subscription(REQUESTS, 10, inbox.take), events=operator.events)
    assert door.wait_ready(soon())
    doors.send(message("requests", "ping"))
    old = inbox.next()

    def answer() -> None:
        sent.append(door.publish(message("replies", "pong", mandatory=True)))
        sent[0].add_done_callback(lambda _error: old.settle(Verdict.ACK))

    operator.cut(meanwhile=answer)
    sent[0].wait(soon())
    assert replies.bodies(1) == ["pong"]
    again = inbox.next()  # it was taken back with the connection, and the late verdict is not about this delivery
    assert (again.body, again.redelivered) == (b"ping", True)
    again.settle(Verdict.ACK)
    rabbit.wait_until_drained("requests")


def test_a_queue_that_expired_while_the_connection_was_away_is_told(doors: Doors, rabbit: VHost) -> None:
    operator, lost, inbox = RabbitMQOperator(rabbit), Told(), Inbox(Verdict.ACK)
    short = queue("mine", arguments={"x-expires": 1000})
    door = doors.duplex(Subscription(short, 10, inbox.take, on_lost=lost), events=operator.events)
    assert door.wait_ready(soon())
    operator.cut(meanwhile=lambda: rabbit.wait_for(lambda vhost: "mine" not in vhost.queues()))
    lost.wait_for(1)
    doors.send_once_declared(message("mine", "after", mandatory=True))
    assert inbox.bodies(1) == ["after"]


# Alarms


def test_under_a_memory_alarm_replies_wait_and_nothing_is_lost(
    own_node: RabbitMQNode, hurt: VHost, hurt_doors: Doors
) -> None:
    """A broker with an alarm reads nothing from a connection that publishes, verdicts included."""
    hurt_doors.declare(REQUESTS)
    hurt_doors.send(*(message("requests", str(number)) for number in range(50)))
    with own_node.memory_alarm():
        server = Server(hurt_doors, prefetch=5)
        deadline = soon()
        while not link_of(server.door).blocked:
            assert time.monotonic() < deadline
        assert hurt.depth("requests") == 50
    hurt.wait_until_drained("requests")
    server.close()
    assert server.diary.names == ["ready"]
    assert hurt.depth("replies") == 50


def test_a_stop_under_a_memory_alarm_keeps_its_deadline_and_gives_the_requests_back(
    own_node: RabbitMQNode, hurt: VHost, hurt_doors: Doors
) -> None:
    hurt_doors.declare(REQUESTS)
    hurt_doors.send(*(message("requests", str(number)) for number in range(5)))
    with own_node.memory_alarm():
        server = Server(hurt_doors)
        deadline = soon()
        while not link_of(server.door).blocked:
            assert time.monotonic() < deadline
        server.close()
        began = time.monotonic()
        server.door.stop(began + 0.5)
        assert time.monotonic() - began < 5
    for confirmation in server.answered:
        with pytest.raises(PublishError):
            confirmation.wait(soon())
    inbox, _ = hurt_doors.consuming(REQUESTS)
    assert sorted(inbox.bodies(5)) == ["0", "1", "2", "3", "4"]


# Queues deleted at the stop


def test_a_stop_that_has_a_queue_to_delete_gives_a_paused_broker_up_at_the_deadline(
    own_node: RabbitMQNode, hurt: VHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "CANCEL_SECONDS", 600.0)
    doors = Doors(RabbitMQBroker(hurt.uri, heartbeat=0))
    door = doors.duplex(Subscription(MINE, 10, Inbox().take, delete_at_stop=True))
    assert door.wait_ready(soon())
    with own_node.paused():
        began = time.monotonic()
        door.stop(began + 0.5)
        assert time.monotonic() - began < 5
        door.stop(soon())
        assert mf_threads() == []


def test_a_stop_on_top_of_another_has_nothing_to_delete(
    own_node: RabbitMQNode, hurt: VHost, caplog: pytest.LogCaptureFixture
) -> None:
    entered, leave = Event(), Event()

    def on_message(_delivery: Delivery) -> None:
        entered.set()
        leave.wait(SECONDS)

    doors = Doors(RabbitMQBroker(hurt.uri, heartbeat=0))
    door = doors.duplex(Subscription(MINE, 10, on_message, delete_at_stop=True))
    assert door.wait_ready(soon())
    doors.send(message("mine"))
    assert entered.wait(SECONDS)
    with own_node.paused():
        for _ in range(3):
            door.stop(time.monotonic())
        leave.set()
        door.stop(soon())
    doors.close()
    assert [record.getMessage().count("could not be deleted") for record in caplog.records] == [1]


def test_a_queue_that_may_not_be_deleted_stays_behind_with_a_word(
    own_node: RabbitMQNode, hurt: VHost, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal closes a channel, which is not the one that requests are acknowledged on, not even right then."""
    user = f"server-{hurt.name}"
    own_node.call(f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"secret">>, <<"t">>).')
    permit(own_node, hurt, user, configure=".*")
    doors, inbox = Doors(RabbitMQBroker(hurt.uri.replace("guest:guest", f"{user}:secret"))), Inbox()
    door = doors.duplex(
        Subscription(REQUESTS, 10, inbox.take), Subscription(MINE, 10, Inbox().take, delete_at_stop=True)
    )
    assert door.wait_ready(soon())
    door.publish(message("requests", "x")).wait(soon())
    delivery = inbox.next()
    permit(own_node, hurt, user, configure="^$")
    caplog.set_level(logging.WARNING, "micro_framework")
    settling = logging.Handler()
    settling.emit = lambda record: delivery.settle(Verdict.ACK)  # type: ignore[method-assign]
    consumer_module.logger.addHandler(settling)
    try:
        door.stop(soon())
    finally:
        consumer_module.logger.removeHandler(settling)
    [record] = caplog.records
    assert "could not be deleted" in record.getMessage()
    assert "'mine'" in record.getMessage()
    assert set(hurt.queues()) == {"requests", "mine"}
    assert hurt.depth("requests") == 0


def permit(node: RabbitMQNode, vhost: VHost, user: str, *, configure: str) -> None:
    node.call(
        f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost.name}">>, '
        f'<<"{configure}">>, <<".*">>, <<".*">>, <<"t">>).'
    )
