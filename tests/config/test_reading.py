"""Going through a mapping with a table of keys."""

from micro_framework.config import kinds
from micro_framework.config.keys import Key, Section
from micro_framework.config.reading import Reading

TABLE = (
    Key("COUNT", kinds.whole(1), "3"),
    Key("MODE", kinds.choice("fast", "safe"), "safe", not_built=lambda mode: mode == "fast", instead="use safe"),
    Key("SECRET", kinds.text, "abc", secret=True),
    Key("LIMIT", kinds.seconds(), "3", null=0.0),
    Key("ONE", Section((Key("A", kinds.text, "x", required=True), Key("B", kinds.flag, "true"))), "{A: x}"),
    Key("MANY", Section((Key("A", kinds.whole(0), "1"),), named=True), "{slow: {A: 1}}"),
)


def read(mapping):
    reading = Reading()
    return reading.table(mapping, TABLE), reading.problems


def test_given_keys_are_read_and_others_left_alone():
    values, problems = read({"COUNT": 4, "other": 1, "MODE": None, "LIMIT": None, "MANY": {"x": None, 2: {"A": 1}}})
    assert values == {"COUNT": 4, "LIMIT": 0.0, "MANY": {"x": {}, "2": {"A": 1}}}
    assert problems == []


def test_every_problem_is_collected():
    values, problems = read({"COUNT": "4", "MODE": "fast", "SECRET": 5, "ONE": {"C": 1, "B": 1}, "MANY": {"x": 3}})
    assert values["MODE"] == "fast"
    assert problems == [
        "COUNT is '4'; expected a whole number of at least 1, for example COUNT: 3; write the number without quotes",
        "MODE='fast' is not built yet in this version; use safe",
        "SECRET is of type int; expected a text, for example SECRET: abc",
        "ONE.C is not a known key; did you mean A?",
        "ONE.B is 1; expected true or false, for example B: true",
        "ONE.A is missing; for example A: x",
        "MANY.x is 3; expected a mapping, for example MANY: {slow: {A: 1}}",
    ]


def test_what_was_got_is_shown_short_and_without_secrets():
    problems = [read({"COUNT": value})[1][0] for value in ("x" * 99, "amqp://u:hunter2@h", [1], {}, "", object())]
    shown = [problem.split(";")[0].removeprefix("COUNT is ") for problem in problems]
    assert shown == [
        repr("x" * 57 + "..."),
        "'amqp://u:***@h'",
        "a list",
        "a mapping",
        "''",
        "of type object",
    ]


def test_a_misspelt_choice_names_the_nearest():
    assert "did you mean 'safe'?" in read({"MODE": "sfae"})[1][0]


def test_a_section_must_be_a_mapping():
    assert read({"ONE": 1})[1] == ["ONE is 1; expected a mapping, for example ONE: {A: x}"]
    assert "a mapping of names to mappings" in read({"MANY": [1]})[1][0]
