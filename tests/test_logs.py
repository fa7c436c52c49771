"""What log lines carry of the call during which they were written."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from micro_framework.calls import Call, CallIdentity
from micro_framework.logs import CallFilter, JSONFormatter, TextFormatter, call_fields, running_call
from tests.processes import ServiceProcess

IDENTITY = CallIdentity("orders", "create", ("shop.buy.0", "orders.create.1"), "shop.buy.0", "shop.buy.0")
CALL = Call(IDENTITY)
FIELDS = {
    "service": "orders",
    "method": "create",
    "call_id": "orders.create.1",
    "origin_call_id": "shop.buy.0",
}


@contextmanager
def during_call(call: Call) -> Iterator[None]:
    """As a worker does it."""
    token = running_call.set(call)
    try:
        yield
    finally:
        running_call.reset(token)


def record(message="hello %s", *args, **extra):
    made = logging.LogRecord("orders", logging.WARNING, __file__, 1, message, args or ("you",), None)
    made.created = 1700000000.25
    made.__dict__.update(extra)
    return made


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


def test_lines_of_a_call_carry_its_fields():
    with during_call(CALL):
        entry = json.loads(JSONFormatter().format(record()))
        text = TextFormatter().format(record())
    assert {name: entry[name] for name in FIELDS} == FIELDS
    assert text.endswith("hello you [orders.create.1 from shop.buy.0]")
    assert "call_id" not in json.loads(JSONFormatter().format(record()))
    assert running_call.get() is None


def test_a_line_that_names_another_call_keeps_what_it_says():
    with during_call(CALL):
        entry = json.loads(JSONFormatter().format(record(service="stock", method="take", call_id="stock.take.9")))
    assert (entry["service"], entry["call_id"]) == ("stock", "stock.take.9")
    assert "origin_call_id" not in entry


def test_a_call_that_nothing_caused_is_its_own_origin():
    assert call_fields(CallIdentity("orders", "tick", ("orders.tick.1",)))["origin_call_id"] == "orders.tick.1"


def test_the_filter_lets_any_formatter_name_the_fields():
    formatter = logging.Formatter("%(call_id)s %(origin_call_id)s %(message)s")
    outside, inside = record(), record()
    assert CallFilter().filter(outside)
    with during_call(CALL):
        assert CallFilter().filter(inside)
    assert formatter.format(outside) == "None None hello you"
    assert formatter.format(inside) == "orders.create.1 shop.buy.0 hello you"


def test_a_thread_of_ones_own_knows_of_no_call():
    found = []
    with during_call(CALL):
        thread = threading.Thread(target=lambda: found.append(running_call.get()), name="test-own")
        thread.start()
        thread.join(30)
    assert found == [None]


def test_colours_are_for_the_level_and_the_call():
    with during_call(CALL):
        line = TextFormatter(colour=True).format(record())
    assert "\x1b[33mWARNING \x1b[0m orders: hello you \x1b[90m[orders.create.1" in line


SERVICE = """
import logging
from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.entrypoints import TimeEntrypoint

logger = logging.getLogger("user")

class Shop:
    name = "shop"
    dispatch = Producer()

    @TimeEntrypoint(interval=3600, eager=True)
    def tick(self):
        self.dispatch("bought", {"id": 7, "card": "4111-secret"})

    @EventListener("shop", "bought", sensitive_arguments=["payload.card"])
    async def bought(self, payload):
        logger.info("handling %s", payload["id"])
        raise ValueError("no stock")
"""


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_line_of_user_code_and_the_line_of_its_failure_carry_the_call(tmp_path: Path, amqp_uri: str, mode: str):
    (tmp_path / "shop.py").write_text(SERVICE)
    arguments = ["-m", "micro_framework", "run", "shop", "--broker", amqp_uri, "-d", f"WORKER_MODE={mode}"]
    process = ServiceProcess(tmp_path, [*arguments, "-d", "MAX_WORKERS=1"])
    try:
        process.errors.wait_for('"handling 7"')
        process.errors.wait_for("no stock")
        lines = process.log()
    finally:
        process.close()
    (handling,) = [line for line in lines if line["logger"] == "user"]
    (failed,) = [line for line in lines if "called with" in line["message"]]
    assert (handling["service"], handling["method"]) == ("shop", "bought")
    assert handling["origin_call_id"].startswith("shop.tick.")
    for name in ("call_id", "origin_call_id", "service", "method"):
        assert failed[name] == handling[name]
    assert "4111-secret" not in json.dumps(lines)
    assert "'id': 7" in failed["message"]
