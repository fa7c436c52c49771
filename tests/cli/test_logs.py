"""Logging of the command line."""

import io
import json
import logging
import sys

import pytest

from micro_framework.cli.logs import JSONFormatter, TextFormatter, configure_logging
from micro_framework.exceptions import ConfigError


class Terminal(io.StringIO):
    def isatty(self):
        return True


def record(message="hello %s", *args, **extra):
    made = logging.LogRecord("orders", logging.WARNING, __file__, 1, message, args or ("you",), None)
    made.created = 1700000000.25
    made.__dict__.update(extra)
    return made


@pytest.fixture
def logging_restored():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for library in ("amqp", "kombu"):
        logging.getLogger(library).setLevel(logging.NOTSET)


def test_json_is_one_object_a_line():
    line = JSONFormatter().format(
        record("two\nlines %s", "caf\u00e9", service="orders", method="create", call_id="c.1")
    )
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "WARNING",
        "logger": "orders",
        "message": "two\nlines caf\u00e9",
        "service": "orders",
        "method": "create",
        "call_id": "c.1",
    }


def test_json_carries_the_exception_and_survives_odd_values():
    try:
        raise ValueError("bad")
    except ValueError:
        made = record(exc_info=sys.exc_info(), stack_info="Stack:\n  here", call_id=object)
    entry = json.loads(JSONFormatter().format(made))
    assert entry["exception"].endswith("ValueError: bad")
    assert "Traceback" in entry["exception"]
    assert entry["stack"] == "Stack:\n  here"
    assert entry["call_id"] == "<class 'object'>"


def test_text_is_for_people():
    assert TextFormatter().format(record()).endswith("WARNING  orders: hello you")
    assert TextFormatter().format(record(call_id="c.1")).endswith("WARNING  orders: hello you [c.1]")


def test_of_several_processes_each_names_itself():
    made = record(processName="copy-1", call_id="c.1")
    assert TextFormatter().format(made).endswith("WARNING  copy-1 orders: hello you [c.1]")
    assert json.loads(JSONFormatter().format(made))["process"] == "copy-1"
    assert "process" not in json.loads(JSONFormatter().format(record()))


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
            "formatters": {"json": {"()": "micro_framework.cli.logs.JSONFormatter"}},
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
