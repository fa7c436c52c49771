"""Logging of the command line."""

import io
import json
import logging

import pytest

from micro_framework.cli.logs import configure_logging
from micro_framework.exceptions import ConfigError


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def logging_restored():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for library in ("amqp", "kombu"):
        logging.getLogger(library).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO(), True), (Terminal(), False)])
def test_the_default_is_text_on_a_terminal_and_json_otherwise(stream, is_json):
    configure_logging(None, stream)
    logging.getLogger("orders").info("started")
    logging.getLogger("orders").debug("not shown")
    logging.getLogger("amqp.connection").info("not shown")
    logging.getLogger("kombu").warning("shown")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert (json.loads(lines[0])["message"] == "started") if is_json else lines[0].endswith("orders: started")


@pytest.mark.usefixtures("logging_restored")
def test_the_users_logging_wins_and_leaves_existing_loggers_on():
    existing = logging.getLogger("micro_framework.tests.existing")
    stream = io.StringIO()
    handler = {"class": "logging.StreamHandler", "stream": stream, "formatter": "json"}
    configure_logging(
        {
            "formatters": {"json": {"()": "micro_framework.logs.JSONFormatter"}},
            "handlers": {"out": handler},
            "root": {"level": "INFO", "handlers": ["out"]},
        }
    )
    existing.info("still here")
    assert json.loads(stream.getvalue())["message"] == "still here"


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize(
    "bad", [{"handlers": {"out": {"class": "no.such.Handler"}}}, {"version": 2}, {"root": {"handlers": ["nope"]}}]
)
def test_a_bad_logging_is_a_config_error(bad):
    with pytest.raises(ConfigError, match=r"LOGGING is not a valid logging\.config\.dictConfig"):
        configure_logging(bad)


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_has_colours_unless_they_are_unwanted(monkeypatch, environment, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configure_logging(None, stream := Terminal())
    logging.getLogger("orders").warning("careful")
    assert ("\x1b[33mWARNING" in stream.getvalue()) == coloured


def test_libraries_that_log_each_connection_are_heard_only_when_something_is_wrong():
    configure_logging(None, io.StringIO())
    for library in ("amqp", "kombu", "websockets.server"):
        assert not logging.getLogger(library).isEnabledFor(logging.INFO)
        assert logging.getLogger(library).isEnabledFor(logging.WARNING)
