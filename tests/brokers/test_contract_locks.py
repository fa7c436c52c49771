"""What the broker port promises about locks, held against every broker."""

from queue import SimpleQueue

import pytest

from micro_framework.brokers.port import DoorEvents, Lock
from micro_framework.exceptions import BrokerError
from tests.brokers.probes import Contender, Diary, Doors, soon

NAME = "mf-timer.orders.tick"


def two_contenders(doors: Doors) -> tuple[Contender, Contender]:
    """The holder, and one who waits."""
    first = doors.contender(NAME)
    assert first.next_news() == "joined, holds"
    second = doors.contender(NAME)
    assert second.next_news() == "joined, waits"
    return first, second


def test_one_holds_it_and_the_next_gets_it_when_that_one_goes(doors: Doors) -> None:
    first, second = two_contenders(doors)
    third = doors.contender(NAME)
    assert third.next_news() == "joined, waits"
    second.news = third.news = SimpleQueue()  # on RabbitMQ whoever asks first is next
    first.door.stop(soon())
    assert second.next_news() == "holds"
    assert sorted([second.announce("x"), third.announce("x")]) == [False, True]
    assert second.news.empty()


def test_different_names_are_held_apart(doors: Doors) -> None:
    assert doors.contender("mf-timer.a.tick").next_news() == "joined, holds"
    assert doors.contender("mf-timer.b.tick").next_news() == "joined, holds"


def test_one_door_takes_part_in_many(doors: Doors) -> None:
    door = doors.broker.locks("many")
    doors.opened.append(door)
    contenders = [Contender(door, f"lock {number}") for number in range(5)]
    door.start(DoorEvents())
    assert {each.next_news() for each in contenders} == {"joined, holds"}
    assert contenders[3].announce("three")
    assert contenders[3].next_word() == "three"
    assert all(each.words.empty() for each in contenders)


def test_what_the_holder_announces_everybody_hears_in_order(doors: Doors) -> None:
    first, second = two_contenders(doors)
    assert [first.announce(word) for word in ("one", "zwei ü", "")] == [True, True, True]
    for each in (first, second):
        assert [each.next_word() for _ in range(3)] == ["one", "zwei ü", ""]


def test_the_holder_has_heard_its_word_itself_when_it_is_told_that_it_held_the_lock(doors: Doors) -> None:
    first, _ = two_contenders(doors)
    heard: list[int] = []
    done = first.announce("x")
    heard.append(first.words.qsize())
    assert (done, heard) == (True, [1])


def test_who_waits_announces_nothing(doors: Doors) -> None:
    first, second = two_contenders(doors)
    assert second.announce("mine!") is False
    assert first.announce("after it")
    assert [first.next_word(), second.next_word()] == ["after it", "after it"]


def test_what_was_announced_before_one_joins_is_not_heard(doors: Doors) -> None:
    first, _ = two_contenders(doors)
    assert first.announce("early")
    late = doors.contender(NAME)
    assert late.next_news() == "joined, waits"
    assert first.announce("late")
    assert late.next_word() == "late"


def test_the_next_holder_knows_all_that_was_announced(doors: Doors) -> None:
    first, second = two_contenders(doors)
    for number in range(20):
        assert first.announce(str(number))
    first.door.stop(soon())
    assert second.next_news() == "holds"
    assert [second.next_word() for _ in range(20)] == [str(number) for number in range(20)]
    assert second.announce("mine now")


def test_nobody_announces_before_the_start_or_after_the_end(doors: Doors) -> None:
    door = doors.broker.locks("early")
    contender = Contender(door, NAME)
    assert contender.announce("early") is False
    door.start(DoorEvents())
    assert contender.next_news() == "joined, holds"
    door.stop(soon())
    assert contender.announce("late") is False


def test_a_name_can_be_taken_again_at_once_by_a_new_door(doors: Doors) -> None:
    for _ in range(5):
        contender = doors.contender(NAME)
        assert contender.next_news() == "joined, holds"
        contender.door.stop(soon())


def test_what_is_wanted_is_said_before_the_start_and_once(doors: Doors) -> None:
    door = doors.broker.locks("strict")
    doors.opened.append(door)
    Contender(door, NAME)
    with pytest.raises(BrokerError, match="already"):
        Contender(door, NAME)
    diary = Diary()
    door.start(diary.events)
    diary.wait_for("ready")
    with pytest.raises(BrokerError, match="before start"):
        Contender(door, "another")


def test_a_callback_that_raises_does_no_harm(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    door = doors.broker.locks("clumsy")
    doors.opened.append(door)

    def fail(*_: object) -> None:
        raise ValueError("clumsy")

    door.want(Lock("other", fail, fail, fail))
    contender = Contender(door, NAME)
    door.start(DoorEvents())
    assert contender.next_news() == "joined, holds"
    assert contender.announce("x")
    assert "clumsy" in caplog.text
