"""Messages on the desk: looked at, replayed, dropped, and back in their places, on every broker."""

import time

import pytest

from micro_framework.brokers.port import Verdict
from micro_framework.cli.dead_letters.choice import Choice
from micro_framework.cli.dead_letters.desk import WORN_OUT, Desk
from micro_framework.cli.dead_letters.places import Place
from micro_framework.cli.errors import FailedError
from micro_framework.config import Settings
from micro_framework.exceptions import BrokerError, BrokerRefused, Unroutable
from micro_framework.parking import times_returned
from micro_framework.wire.naming import Queue
from tests.cli.dead_letters.letters import parked_message, unknown_message
from tests.outside import Outside

PARKED = Queue("jobs.parked")
JOBS = Queue("jobs")
PLACE = Place("jobs.parked")
EVERYTHING = Choice()


def settings(uri, **others):
    return Settings.from_mapping({"AMQP_URI": uri, **others})


@pytest.fixture
def desk(broker_uri, outside):
    """An open desk; five messages are parked."""
    outside.doors.declare(PARKED)
    outside.doors.send(*map(parked_message, range(5)))
    with Desk(settings(broker_uri)) as desk:
        yield desk


def numbers_of(letters):
    return [int(letter.delivery.body) for letter in letters]


def left(outside, queue=PARKED):
    """The bodies in a queue, which is empty then."""
    return [delivery.body.decode() for delivery in outside.take_all(queue)]


def test_letters_come_in_order_and_go_back_in_order(desk, outside):
    letters = list(desk.letters(PLACE, EVERYTHING))
    assert numbers_of(letters) == [0, 1, 2, 3, 4]
    assert letters[2].parked.text == "expired 2"
    desk.release()
    assert left(outside) == ["0", "1", "2", "3", "4"]


def test_a_limit_leaves_the_rest_untouched(desk, outside):
    assert numbers_of(desk.letters(PLACE, EVERYTHING, 2)) == [0, 1]
    desk.release()
    deliveries = outside.take_all(PARKED)
    assert [(delivery.body, delivery.redelivered) for delivery in deliveries] == [
        (b"0", True), (b"1", True), (b"2", False), (b"3", False), (b"4", False),
    ]  # fmt: skip


def test_what_is_not_meant_or_not_ours_is_passed_over_and_stays(desk, outside):
    outside.doors.send(unknown_message())
    letters = list(desk.letters(PLACE, Choice(ids=("00000001", "00000003"))))
    assert numbers_of(letters) == [1, 3]
    desk.release()
    assert left(outside) == ["0", "1", "2", "3", "4", "unknown"]


def test_a_limit_counts_what_is_meant(desk):
    assert numbers_of(desk.letters(PLACE, Choice(ids=("00000001", "00000003")), 1)) == [1]


def test_what_is_parked_meanwhile_is_not_looked_at(desk, outside):
    found = []
    for letter in desk.letters(PLACE, EVERYTHING):
        found.append(letter)
        outside.doors.send(parked_message(9))
    assert numbers_of(found) == [0, 1, 2, 3, 4]


def test_a_replayed_message_is_back_in_its_queue_and_no_longer_parked(desk, outside):
    outside.doors.declare(JOBS)
    told = []
    for letter in desk.letters(PLACE, Choice(ids=("00000001", "00000003"))):
        desk.replay(letter, told.append)
    desk.release()
    assert told == [None, None]
    replayed = outside.take_all(JOBS)
    assert [delivery.body for delivery in replayed] == [b"1", b"3"]
    assert replayed[0].headers == {"own": 1, "mf-exchange": "payments.events", "mf-routing-key": "refunded"}
    assert (replayed[0].content_type, replayed[0].properties.correlation_id) == ("application/json", "c-1")
    assert left(outside) == ["0", "2", "4"]


def test_a_message_whose_queue_is_gone_stays_parked(desk, outside):
    told = []
    for letter in desk.letters(PLACE, EVERYTHING, 2):
        desk.replay(letter, told.append)
    desk.release()
    assert [type(error) for error in told] == [Unroutable, Unroutable]
    assert left(outside) == ["0", "1", "2", "3", "4"]


def test_many_messages_are_replayed_in_order(broker_uri, outside):
    outside.doors.declare(PARKED, JOBS)
    outside.doors.send(*map(parked_message, range(350)))
    told = []
    with Desk(settings(broker_uri)) as desk:
        for letter in desk.letters(PLACE, EVERYTHING):
            desk.replay(letter, told.append)
        desk.release()
    assert told == [None] * 350
    assert left(outside, JOBS) == list(map(str, range(350)))
    assert left(outside) == []


def test_a_dropped_message_is_gone(desk, outside):
    for letter in list(desk.letters(PLACE, Choice(ids=("00000001",)))):
        desk.drop(letter)
    desk.release()
    assert left(outside) == ["0", "2", "3", "4"]


def test_what_was_only_looked_at_is_back_when_the_desk_is_left_in_the_middle(broker_uri, outside):
    outside.doors.declare(PARKED)
    outside.doors.send(*map(parked_message, range(5)))
    with Desk(settings(broker_uri)) as desk:
        for letter in desk.letters(PLACE, EVERYTHING):
            if letter.delivery.body == b"2":
                break
    assert left(outside) == ["0", "1", "2", "3", "4"]


def test_a_queue_that_is_not_there_yet_is_empty_unless_it_was_named(desk, outside):
    assert list(desk.letters(Place("other.parked"), EVERYTHING)) == []
    for place, words in (
        (Place("other.parked", "other"), "there is no queue 'other', and no 'other.parked' in "),
        (Place("other.parked", "other.parked"), "there is no queue 'other.parked' in "),
    ):
        with pytest.raises(FailedError, match=words):
            list(desk.letters(place, EVERYTHING))
    outside.doors.declare(Queue("other"))
    assert list(desk.letters(Place("other.parked", "other"), EVERYTHING)) == []


# -- RabbitMQ


QUORUM = Queue("jobs.parked", arguments={"x-queue-type": "quorum"})


@pytest.fixture
def quorum(amqp_uri):
    """Five messages are parked in a quorum queue."""
    outside = Outside(amqp_uri)
    outside.doors.declare(QUORUM, JOBS)
    outside.doors.send(*map(parked_message, range(5)))
    yield outside
    outside.close()


def look(uri, limit=None):
    """The numbers of the messages, and how often the one that came back most came back."""
    with Desk(settings(uri)) as desk:
        letters = list(desk.letters(PLACE, EVERYTHING, limit))
        desk.release()
    return numbers_of(letters), max(times_returned(letter.delivery.headers) or 0 for letter in letters)


def test_a_quorum_queue_may_be_looked_into_any_number_of_times(amqp_uri, quorum):
    """RabbitMQ 4.0 to 4.2 drop a message that came back 20 times, so it is parked anew in time, and in order."""
    returned = []
    for _ in range(2 * WORN_OUT + 3):
        numbers, most = look(amqp_uri)
        assert numbers == [0, 1, 2, 3, 4]
        returned.append(most)
    assert returned == [*range(WORN_OUT + 1), *range(WORN_OUT + 1), 0]


def test_a_quorum_queue_keeps_its_order_when_only_the_first_are_looked_at(amqp_uri, quorum):
    for _ in range(3):
        assert look(amqp_uri, 2)[0] == [0, 1]
    assert look(amqp_uri)[0] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("handle", ["replay", "drop"])
def test_what_is_handled_is_not_parked_anew(amqp_uri, quorum, handle):
    for _ in range(WORN_OUT):
        look(amqp_uri)
    with Desk(settings(amqp_uri)) as desk:
        for letter in desk.letters(PLACE, Choice(ids=("00000001", "00000003"))):
            if handle == "replay":
                desk.replay(letter, lambda error: None)
            else:
                desk.drop(letter)
        desk.release()
    numbers, most = look(amqp_uri)
    assert (numbers, most) == ([0, 2, 4], 0)
    assert left(quorum, JOBS) == (["1", "3"] if handle == "replay" else [])


def test_a_lost_connection_is_told_and_nothing_is_lost(amqp_uri, rabbit):
    outside = Outside(amqp_uri)
    outside.doors.declare(PARKED, JOBS)
    outside.doors.send(*map(parked_message, range(5)))
    with Desk(settings(amqp_uri)) as desk:
        letters = desk.letters(PLACE, EVERYTHING)
        taken = next(letters)
        assert rabbit.close_connections() > 0
        taken.delivery.settle(Verdict.ACK)
        wait_until_back(desk)
        with pytest.raises(BrokerError, match="lost its connection"):
            next(letters)
        with pytest.raises(BrokerError, match="lost its connection"):
            desk.release()
    rabbit.wait_for(lambda it: it.queue("jobs.parked").ready == 5, what="everything to be back")
    outside.close()


def wait_until_back(desk):
    """The door connects again by itself."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            desk.browser.count("jobs.parked", deadline)
        except BrokerError:
            desk.browser.wait_ready(deadline)
        else:
            return


def test_a_refusal_is_told_with_its_fix(amqp_uri):
    with pytest.raises(BrokerRefused, match="virtual host 'nowhere' does not exist"):
        Desk(settings(amqp_uri.rpartition("/")[0] + "/nowhere")).__enter__()
