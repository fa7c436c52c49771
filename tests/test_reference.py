"""The reference pages say what the code says, all of it and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import nameko_compat.constants
from micro_framework.cli import main
from micro_framework.config import Settings
from micro_framework.config.keys import KEYS, Key, Section
from micro_framework.config.text import parse_config
from nameko_compat.web.server import DEFAULT_ADDRESS

DOCS = Path(__file__).resolve().parent.parent / "docs"

Row = list[str]


def rows_of(text: str) -> Iterator[Row]:
    """The rows of all tables, without the heads."""
    for table in re.findall(r"^\|[ |-]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def section_of(page: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level."""
    return page.split(f"\n## {heading}\n")[1].split("\n## ")[0]


# ---- configuration.md

CONFIGURATION = (DOCS / "configuration.md").read_text()

FROM_NAMEKO = {
    *(value for name, value in vars(nameko_compat.constants).items() if name.endswith("_CONFIG_KEY")),
    "AUTO_DELETE_EVENT_EXCHANGES",
    "DECLARE_EVENT_EXCHANGES",
    "LOGGING",
}

WITHOUT_A_VALUE = {"PREFETCH_COUNT": "as many as workers"}
"""Defaults that are no value, in the words of the page."""

WITHIN_SECTIONS = {"WEBSOCKET.ORIGINS": "pages of the same host", "WEBSOCKET.SSL.keyfile": "in `certfile`"}


def key_rows() -> dict[str, Row]:
    """The page's rows by the keys' paths: ``WEBSOCKET.SSL.certfile``."""
    rows = {}
    for part in CONFIGURATION.split("\n## "):
        heading, _, text = part.partition("\n")
        found = re.fullmatch(r"Keys of (?:each entry of )?`([\w.]+)`", heading)
        for row in rows_of(text):
            if len(row) == 5:
                rows[(f"{found[1]}." if found else "") + row[0].strip("`")] = row
    return rows


def paths_of(keys: tuple[Key, ...], before: str = "") -> Iterator[tuple[str, Key]]:
    for key in keys:
        yield before + key.name, key
        if isinstance(key.kind, Section):
            yield from paths_of(key.kind.keys, f"{before}{key.name}.")


ALL_KEYS = dict(paths_of(KEYS))


def test_the_page_has_every_key_and_no_other() -> None:
    assert sorted(key_rows()) == sorted(ALL_KEYS)


@pytest.mark.parametrize("path", ALL_KEYS)
def test_the_page_says_what_a_key_may_be(path: str) -> None:
    kind = ALL_KEYS[path].kind
    if isinstance(kind, Section):
        expected = "mapping of names to mappings" if kind.named else "mapping"
    else:
        expected = kind.expected.removeprefix("a ").removeprefix("number of ").replace(" (at most 1000000000)", "")
        if expected.startswith("one of "):
            expected = "one of " + ", ".join(f"`{word}`" for word in expected[7:].split(", "))
    assert key_rows()[path][1] == expected


@pytest.mark.parametrize("path", ALL_KEYS)
def test_the_page_says_what_a_key_is_by_default(path: str) -> None:
    assert key_rows()[path][2] == shown_default(path, ALL_KEYS[path])


def shown_default(path: str, key: Key) -> str:
    section, _, name = path.rpartition(".")
    if section == "CONTEXTS":
        return "as above"
    if key.required:
        return "required"
    if path in WITHIN_SECTIONS:
        return WITHIN_SECTIONS[path]
    if path == "WEB_SERVER_ADDRESS":
        value: Any = DEFAULT_ADDRESS
    elif section == "SERIALIZERS":
        mapping = {"SERIALIZERS": {"one": {"encoder": "a.b", "decoder": "a.c", "content_type": "text/one"}}}
        value = getattr(Settings.from_mapping(mapping).serializers["one"], name)
    else:
        holder: Any = Settings.from_mapping({})
        for part in section.lower().split(".") if section else ():
            holder = getattr(holder, part)
        value = getattr(holder, name.lower(), None)
    if value in (None, (), {}) or isinstance(key.kind, Section):
        return WITHOUT_A_VALUE.get(name, "none")
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


@pytest.mark.parametrize("path", ALL_KEYS)
def test_the_page_says_where_a_key_comes_from(path: str) -> None:
    top, _, name = path.rpartition(".")
    from_nameko = top == "SERIALIZERS" or (not top and name in FROM_NAMEKO)
    assert key_rows()[path][3] == ("Nameko" if from_nameko else "ours")


def test_variables_are_read_as_the_page_says() -> None:
    rows = list(rows_of(section_of(CONFIGURATION, "Environment variables")))
    assert len(rows) > 10
    for written, read in rows:
        assert parse_config(written.strip("`"), {"WORKERS": "7"}, source="page") == json.loads(read.strip("`")), written


# ---- command-line.md

COMMAND_LINE = (DOCS / "command-line.md").read_text()

SHARED = ("configuration-options", "message-options", "takeover-options")
"""Labels of the tables that several commands have in common."""


def commands_below(group: click.Group, path: str = "micro-framework") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands_below(command, f"{path} {name}")


COMMANDS = dict(commands_below(main))


def command_texts() -> dict[str, str]:
    """What the page says of each command."""
    headed = re.compile(r"^##+ `([^`\n]+)`\n(.*?)(?=^\([\w-]+\)=\n|^##|\Z)", re.MULTILINE | re.DOTALL)
    return dict(headed.findall(COMMAND_LINE))


def options_said(command: str) -> dict[frozenset[str], Row]:
    """The rows of a command's options, by the options' spellings, with those of the tables that it refers to."""
    text = command_texts()[command]
    rows = list(rows_of(text))
    for label in SHARED:
        if f"(#{label})" in text:
            rows += rows_of(re.split(r"^##+ ", COMMAND_LINE.split(f"({label})=\n")[1], flags=re.MULTILINE)[1])
    found = {frozenset(re.findall(r"`(--?[\w-]+)", row[0])): row for row in rows if row[0].startswith("`-")}
    assert len(found) == len([row for row in rows if row[0].startswith("`-")]), "an option is there twice"
    return found


def options_of(command: str) -> dict[frozenset[str], click.Option]:
    return {frozenset(each.opts): each for each in COMMANDS[command].params if isinstance(each, click.Option)}


def test_the_page_has_every_command_and_no_other() -> None:
    assert sorted(command_texts()) == sorted(COMMANDS)


def test_the_overview_has_every_command() -> None:
    overview = COMMAND_LINE.split("\n## ")[0]
    assert sorted(re.findall(r"\[`([\w-]+)`\]", overview)) == sorted(main.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_every_option_and_no_other(command: str) -> None:
    assert set(options_said(command)) == set(options_of(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_says_how_a_command_is_used(command: str) -> None:
    context = click.Context(COMMANDS[command], info_name=command)
    assert (
        f"    {' '.join(COMMANDS[command].get_usage(context).removeprefix('Usage:').split())}\n"
        in (command_texts()[command])
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_says_what_options_take(command: str) -> None:
    for spellings, option in options_of(command).items():
        written, default, text = options_said(command)[spellings]
        takes_a_value = re.search(r"`--[\w-]+(?: |\[=)[^`]+`", written) is not None
        assert takes_a_value is not option.is_flag, written
        assert default == shown_option_default(option), written
        assert ("an be repeated" in text) is option.multiple, written
        if isinstance(option.type, click.Choice):
            assert all(f"`{choice}`" in text for choice in option.type.choices), written


def shown_option_default(option: click.Option) -> str:
    if option.is_flag:
        return "off"
    default = option.to_info_dict()["default"]
    if default in (None, ()):
        return "none"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
