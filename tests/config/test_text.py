"""The text of a config file."""

import datetime as dt

import pytest

from micro_framework.config.text import parse_config, substitute
from micro_framework.exceptions import ConfigError

ENVIRON = {
    "FOO": "7",
    "PASSWORD": "hunter2: x: y",
    "ALIAS": "*hunter2",
    "SELF": "x${SELF}",
    "INNER": "${FOO}",
    "QUOTED": '"0123"',
    "EMPTY": "",
}

# Seen on Nameko 2.14.1 and 3.0.0rc11 (`nameko show-config`).
NAMEKO_SUBSTITUTIONS = [
    ("a: ${FOO}", {"a": 7}),
    ("a: ${NOPE:42}", {"a": 42}),
    ("a: ${NOPE}", {"a": None}),
    ("a: ${NOPE:}", {"a": None}),
    ("a: ${TS:2020-01-01}", {"a": dt.date(2020, 1, 1)}),
    ("a: ${URI:pyamqp://u:p@h/v}", {"a": "pyamqp://u:p@h/v"}),
    ("a: ${X_1:a}-${X_1:b}", {"a": "a-b"}),
    ("key${FOO}: 1", {"key7": 1}),
    ('a: "${FOO}"', {"a": "${FOO}"}),
    ("a: '${FOO}'", {"a": "${FOO}"}),
    ('a: !env_var "${FOO}"', {"a": 7}),
    ('a: !raw_env_var "${FOO}"', {"a": "7"}),
    ("a: ${LST:[1, 2]}", {"a": [1, 2]}),
    ("a: $FOO", {"a": "$FOO"}),
]

# Nameko needs a package of its own for braces in braces; these are what it gives with it.
NESTED_SUBSTITUTIONS = [
    ("a: ${A:${B}}", {"a": None}),
    ("a: ${A:${FOO}}", {"a": 7}),
    ("a: ${A:x${B:y}z}", {"a": "xyz"}),
    ('a: !env_var "${A:{b: 1}}"', {"a": {"b": 1}}),
    ("a: ${INNER}", {"a": 7}),
    ("a: ${QUOTED}", {"a": "0123"}),
    ("a: ${EMPTY:5}", {"a": None}),
    ("a: ${}", {"a": "${}"}),
    ("a: ${two words}", {"a": "${two words}"}),
    ('a: [!env_var "${FOO}"]', {"a": [7]}),
]


@pytest.mark.parametrize(("text", "expected"), NAMEKO_SUBSTITUTIONS + NESTED_SUBSTITUTIONS)
def test_variables_are_substituted_as_nameko_does(text, expected):
    assert parse_config(text, ENVIRON, source="c.yaml") == expected


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_is_an_empty_configuration(text):
    assert parse_config(text, {}, source="c.yaml") == {}


def test_json_is_read_where_yaml_readers_stumble():
    text = '{\n\t"MAX_WORKERS":\t3,\n\t"rate": 1e5, "smile": "\\ud83d\\ude00", "literal": "${FOO}"}'
    expected = {"MAX_WORKERS": 3, "rate": 100000.0, "smile": "\U0001f600", "literal": "${FOO}"}
    assert parse_config(text, ENVIRON, source="c.json") == expected


def test_merged_keys_are_read():
    text = "base: &base {x: 1}\nmore:\n  <<: *base\n  y: 2\n"
    assert parse_config(text, {}, source="c.yaml")["more"] == {"x": 1, "y": 2}


MISTAKES = [
    ("ok: 1\na: ${PASSWORD}", "line 2, column 4", "!raw_env_var"),
    ("a: ${ALIAS}", "line 1, column 4", "${ALIAS}"),
    ("a: ${SELF}", "line 1, column 4", "refer to each other"),
    ("a: x${A:{}", "line 1, column 4", "not balanced"),
    ("a: *hunter2", "line 1, column 4", "starts with '*'"),
    ("a: !hunter2 x", "line 1, column 4", "!env_var and !raw_env_var"),
    ("a: !!python/object/apply:os.system [hunter2]", "line 1", "!env_var and !raw_env_var"),
    ("a: ${A: hunter2: x}", "line 1, column 7", "quote a value"),
    ("a: [${FOO}]", "line 1, column 6", '!env_var "${NAME}"'),
    ("a: {b: ${FOO}}", "line 1, column 9", '!env_var "${NAME}"'),
    ("\ta: 1", "line 1, column 1", "'\\t'"),
    ("b: 1\na: @hunter2", "line 2, column 4", "'@'"),
    ("a: 1\n---\nb: 2", "line 2, column 1", "one document"),
    ("a: 'x", "line 1", "not closed"),
    ("a: 1\nb: [hunter2", "line 2", "[ or { is not closed"),
    ("a:\n  b: hunter2\n   c: 1", "line 3", "quote a value"),
    ("a: 1\n b: hunter2", "line 2", "quote a value"),
    ("- hunter2\nb: 1", "line 2", "indentation"),
    ("a: 1\nhunter2\nb: 1", "line 3", "'KEY: value'"),
    ("a: 1\nb: \x07", "line 2", "UTF-8"),
    ("a: !env_var [1]", "line 1, column 4", "scalar"),
    ("? [1]\n: 2", "line 1", "plain word"),
    ("- hunter2", "a list", "keys with values"),
    ("amqp://u:hunter2@h", "single value", "keys with values"),
]


@pytest.mark.parametrize(("text", "where", "fix"), MISTAKES)
def test_a_mistake_is_reported_with_file_line_and_fix_and_without_the_value(text, where, fix):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, ENVIRON, source="conf/c.yaml")
    message = str(caught.value)
    assert "conf/c.yaml" in message
    assert where in message
    assert fix in message
    assert "hunter2" not in message


def test_substitution_alone_gives_text():
    assert substitute("a ${FOO} b ${NOPE:[1, ${FOO}]}", ENVIRON) == "a 7 b [1, 7]"
