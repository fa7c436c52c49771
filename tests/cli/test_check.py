"""``micro-framework check``: the command; what it asks a broker is in tests/brokers/rabbitmq/test_inspection.py."""

import json
import sys
import textwrap

import pytest
from click.testing import CliRunner

from micro_framework.cli import main

SERVICE = """
    from micro_framework.amqp.dependencies import Producer, RPCProxy
    from micro_framework.amqp.entrypoints import EventListener, RPCListener
    from micro_framework.dependencies import Dependency
    from micro_framework.retry import AsyncBackOff
    from micro_framework.routes import route

    class Database(Dependency[str]):
        def setup(self):
            raise RuntimeError("check must not set this up")

    class Checked:
        name = "checked"
        database = Database()
        dispatch = Producer()
        payments = RPCProxy("payments")

        @RPCListener()
        def create(self, number): ...

        @route(
            EventListener("payments", "refunded"),
            backoff=AsyncBackOff(max_retries=2, interval=1000),
            dead_letter=True,
        )
        def refund(self, payload): ...
"""

NOWHERE = """
    from micro_framework.amqp.entrypoints import EventListener
    from micro_framework.routes import Route

    routes = [Route("mf_nowhere.task", entrypoint=EventListener("a", "b"))]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in a directory with modules of these names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    made = []

    def run(*arguments, **modules):
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
            made.append(name)
        return CliRunner().invoke(main, ["check", *arguments])

    yield run
    for name in made:
        sys.modules.pop(name, None)


def levels(result):
    return [(each["level"], each["what"]) for each in json.loads(result.stdout)["findings"]]


def test_what_would_start(run):
    result = run("mf_checked", "-d", "AMQP_URI=amqp://localhost", mf_checked=SERVICE)
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        ["note     services: checked: 2 targets", "would start"],
    )


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("def broken(:\n    pass", [], "SyntaxError"),
        ("import no_such_library", [], "No module named 'no_such_library'"),
        (SERVICE, [], "AMQP_URI is missing"),
        (SERVICE, ["-d", "MAX_WORKERS=many"], "MAX_WORKERS is 'many'"),
        (SERVICE, ["-d", "AMQP_URI=amqp://localhost", "-d", "LOGGING={handlers: {a: {class: no.Such}}}"], "'a' cannot"),
        (SERVICE.replace("AsyncBackOff(max_retries=2,", "AsyncBackOff(max_retries=-2,"), [], "max_retries"),
        (
            NOWHERE,
            ["-d", "AMQP_URI=amqp://localhost", "-d", "SERVICE_NAME=s", "-d", "WORKER_MODE=process"],
            "mf_nowhere",
        ),
    ],
)
def test_what_would_not_start(run, source, options, text):
    result = run("mf_faulty", *options, mf_faulty=source)
    assert result.exit_code == 1
    assert text in result.stdout
    assert result.stdout.splitlines()[-1].startswith("would not start: ")
    assert "Traceback" not in result.output


def test_a_handlers_file_is_not_touched(run, tmp_path):
    logging = "LOGGING={handlers: {a: {class: logging.FileHandler, filename: made.log}}}"
    result = run("mf_checked", "-d", "AMQP_URI=amqp://localhost", "-d", logging, mf_checked=SERVICE)
    assert (result.exit_code, (tmp_path / "made.log").exists()) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["mf_checked", "--broker"], "there is no broker to compare with"),
        (["./mf_checked.py"], "is a path, expected a module"),
        ([], "Missing argument"),
        (["mf_checked", "--config", "nope.yaml"], "there is no config file"),
    ],
)
def test_wrong_usage(run, arguments, text):
    result = run(*arguments, mf_checked=SERVICE)
    assert result.exit_code == 2
    assert text in result.stderr


def test_compared_with_a_broker_nothing_is_made(run, rabbit):
    result = run("mf_checked", f"--broker={rabbit.uri}", "--format", "json", mf_checked=SERVICE)
    assert result.exit_code == 0, result.output
    found = levels(result)
    for what in ("queue 'rpc-checked'", "queue 'evt-payments-refunded--checked.refund'", "exchange 'checked.events'"):
        assert ("note", what) in found
    assert ("note", "consumer timeout") in found
    assert rabbit.queues() == {}
    assert not [name for name in rabbit.exchanges() if name and not name.startswith("amq.")]


def test_a_queue_with_other_flags_would_end_the_start(run, rabbit, declare):
    declare(rabbit.uri, "evt-payments-refunded--checked.refund", durable=False)
    result = run("mf_checked", "-d", f"AMQP_URI={rabbit.uri}", "--broker", mf_checked=SERVICE)
    assert result.exit_code == 1
    assert "something exists with other flags" in result.stdout


@pytest.mark.parametrize("uri", ["amqp://guest:s3cretword@127.0.0.1:1", "amqps://guest:s3cretword@127.0.0.1:1/shop"])
def test_a_broker_that_cannot_be_reached_is_an_error_without_the_password(run, uri):
    result = run("mf_checked", "--broker", uri, mf_checked=SERVICE)
    assert result.exit_code == 1
    assert "cannot be reached: connection refused" in result.stdout.lower()
    assert "s3cretword" not in result.output


def test_the_embedded_broker_has_nothing_to_compare_with(run):
    result = run("mf_checked", "--broker", "memory://", mf_checked=SERVICE)
    assert result.exit_code == 0
    assert "nothing to compare with" in result.stdout


@pytest.fixture
def declare():
    """Declare a queue with a client of one's own."""
    import kombu

    def declare(uri, name, **flags):
        with kombu.Connection(uri) as connection:
            connection.default_channel.queue_declare(name, auto_delete=False, **flags)

    return declare
