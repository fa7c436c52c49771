"""`call` and `emit` against a service on a real broker."""

import json
import queue
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.cli import main
from micro_framework.testing import running
from micro_framework.testing.rabbitmq import free_port

SECONDS = 40


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def heard(amqp_uri: str) -> Iterator["queue.SimpleQueue[object]"]:
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()

    class Payments:
        name = "payments"

        @RPCListener()
        def charge(self, customer: int, items: list[int]) -> dict[str, object]:
            if not items:
                raise ValueError("nothing to charge for")
            return {"customer": customer, "items": items, "näme": "é"}

        @EventListener("shop", "sold")
        def sold(self, payload: object) -> None:
            heard.put(payload)

    with running(Payments, config={"AMQP_URI": amqp_uri}):
        yield heard


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("arguments", ["[7, [1]]", '{"customer": 7, "items": [1]}'])
def test_the_result_is_printed_as_json(amqp_uri: str, arguments: str) -> None:
    done = invoke("call", "payments", "charge", "--json", arguments, "--broker", amqp_uri)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"customer": 7, "items": [1], "näme": "é"}


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["payments", "charge", "--json", "[7, []]"], "payments.charge raised ValueError: nothing to charge for"),
        (["payments", "charge"], "IncorrectSignature: charge() missing 2 required positional arguments"),
        (["payments", "nope"], "MethodNotFound: nope"),
        (["nobody", "charge"], "UnknownService: Unknown service `nobody`"),
    ],
)
def test_a_call_that_fails_is_one_message_and_exit_code_1(amqp_uri: str, arguments: list[str], message: str) -> None:
    done = invoke("call", *arguments, "--broker", amqp_uri)
    assert done.exit_code == 1
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_single_value_is_no_list_of_arguments() -> None:
    done = invoke("call", "payments", "charge", "--json", "7", "--broker", "amqp://h")
    assert done.exit_code == 2
    assert "a list of positional arguments" in done.stderr


def test_a_call_without_a_broker_is_wrong_usage() -> None:
    for command in (["call", "a", "b"], ["emit", "a", "b"]):
        done = invoke(*command)
        assert done.exit_code == 2
        assert "--broker" in done.stderr


def test_a_wrong_password_is_told_at_once_and_not_shown(amqp_uri: str) -> None:
    wrong = amqp_uri.replace("guest:guest@", "guest:hunter2@")
    done = invoke("call", "a", "b", "--broker", wrong, "--timeout", "30")
    assert done.exit_code == 1
    assert "hunter2" not in done.output
    assert "refused" in done.stderr.lower() or "password" in done.stderr


def test_an_event_is_heard(amqp_uri: str, heard: "queue.SimpleQueue[object]") -> None:
    done = invoke("emit", "shop", "sold", "--json", '{"id": 7}', "--mandatory", "--broker", amqp_uri)
    assert (done.exit_code, done.output) == (0, "")
    assert heard.get(timeout=SECONDS) == {"id": 7}


def test_a_mandatory_event_that_nobody_hears_fails(amqp_uri: str) -> None:
    done = invoke("emit", "shop", "sold", "--mandatory", "--broker", amqp_uri)
    assert done.exit_code == 1
    assert "Unroutable" in done.stderr


@pytest.mark.parametrize("command", [["call", "orders", "get", "--timeout", "0.5"], ["emit", "orders", "made"]])
def test_a_broker_that_is_not_there_is_one_message_and_nothing_else(
    command: list[str],
) -> None:
    uri = f"amqp://guest:s3cret@127.0.0.1:{free_port()}"
    arguments = [sys.executable, "-m", "micro_framework", *command, "--broker", uri]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: BrokerError: no connection to amqp://guest@127.0.0.1")
    assert "refused" in line
