"""The demo from start to summary, as a user runs it."""

import logging
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
from contextlib import suppress

import pytest
from click.testing import CliRunner

from micro_framework.cli import main
from micro_framework.cli.demo import shop, show
from micro_framework.cli.demo.ledger import Ledger
from micro_framework.cli.demo.show import LogNotes, StopRequests, run_demo
from micro_framework.exceptions import ConfigError

DEADLINE = 45.0
COMPLETE = re.compile(r"every message sent has arrived \((\d+) of \1\)")
COMMAND = [sys.executable, "-m", "micro_framework", "demo"]


@pytest.fixture
def environment():
    return {name: value for name, value in os.environ.items() if name != "AMQP_URI"} | {"TERM": "xterm"}


def test_without_a_terminal_it_prints_lines_and_a_summary(environment):
    done = subprocess.run(
        [*COMMAND, "--seconds", "1"], env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.isascii()
    assert COMPLETE.search(done.stdout)
    assert " 1.0 s  " in done.stdout
    assert re.search(r"Payments\.charge +order_placed +\d+ +\d+ +[1-9]\d* +[1-9]\d* +0\n", done.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_summary(environment, number):
    with subprocess.Popen(
        [*COMMAND, "--seconds", "600"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline()
        process.send_signal(number)
        output, _ = process.communicate(timeout=DEADLINE)
    assert "taking orders" in first
    assert COMPLETE.search(output)
    assert process.returncode == 0


def test_on_a_terminal_it_draws_and_gives_the_terminal_back(environment):
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = subprocess.Popen([*COMMAND, "--seconds", "1"], env=environment, stdin=terminal, stdout=terminal)
    os.close(terminal)
    output = read_to_the_end(controller)
    assert process.wait(DEADLINE) == 0
    entered, left = output.index("\x1b[?1049h"), output.index("\x1b[?1049l")
    assert "what happened last" in output[entered:left]
    assert COMPLETE.search(output[left:])


def read_to_the_end(file):
    data = b""
    with suppress(OSError):  # Linux ends a pseudoterminal whose other side is closed with EIO
        while chunk := os.read(file, 65536):
            data += chunk
    os.close(file)
    return data.decode()


def test_what_is_missing_makes_it_fail(monkeypatch, capsys):
    monkeypatch.setattr(show, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(shop, "BUSY_EVERY", 1)  # every order is put off at first, so some always are at the end
    assert run_demo(0.6, None) is False
    assert re.search(r"MISSING: \d+ of \d+ messages .*order_placed-\d+", capsys.readouterr().out)


def test_a_run_with_something_missing_has_exit_code_1(monkeypatch):
    monkeypatch.setattr(show, "run_demo", lambda seconds, uri: False)
    assert CliRunner().invoke(main, ["demo"]).exit_code == 1


def test_the_uri_comes_from_the_option_or_the_environment(monkeypatch):
    given = []
    monkeypatch.setattr(show, "run_demo", lambda seconds, uri: given.append((seconds, uri)) or True)
    monkeypatch.delenv("AMQP_URI", raising=False)
    for arguments, environment in [
        ([], {}),
        ([], {"AMQP_URI": ""}),
        ([], {"AMQP_URI": "amqp://env"}),
        (["--amqp-uri", "amqp://option", "--seconds", "3"], {"AMQP_URI": "amqp://env"}),
    ]:
        assert CliRunner().invoke(main, ["demo", *arguments], env=environment).exit_code == 0
    assert given == [(15.0, None), (15.0, None), (15.0, "amqp://env"), (3.0, "amqp://option")]


def test_an_unusable_uri_is_one_message():
    result = CliRunner().invoke(main, ["demo", "--amqp-uri", "http://somewhere"])
    assert result.exit_code == 1
    assert "AMQP_URI" in result.output
    assert "Traceback" not in result.output
    with pytest.raises(ConfigError):
        run_demo(1, "http://somewhere")


def test_no_broker_is_one_message_after_the_deadline(monkeypatch):
    monkeypatch.setattr(show, "START_SECONDS", 1)
    result = CliRunner().invoke(main, ["demo", "--amqp-uri", f"amqp://guest:secret@127.0.0.1:{unused_port()}/"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no broker at amqp://guest:***@127.0.0.1:")
    assert "within 1 s" in result.stderr
    assert "is RabbitMQ running there" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.output


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_on_rabbitmq_everything_arrives_and_nothing_is_left(rabbit, capsys, monkeypatch):
    monkeypatch.setattr(shop, "QUEUE_LEASE", 2000)
    before = set(rabbit.exchanges())
    assert run_demo(1, rabbit.uri) is True
    assert COMPLETE.search(capsys.readouterr().out)
    # The queue of the retries has a lease of its own, a minute beyond the delay.
    rabbit.wait_for(lambda vhost: all(".mf-delay." in name for name in vhost.queues()), timeout=DEADLINE)
    rabbit.wait_for(lambda vhost: set(vhost.exchanges()) == before, timeout=DEADLINE)


def test_stop_requests_come_from_signals_and_the_handlers_go_back():
    before = signal.getsignal(signal.SIGINT)
    with StopRequests() as stops:
        assert not stops.wait(0)
        signal.raise_signal(signal.SIGINT)
        assert stops.wait(DEADLINE)
        assert not stops.wait(0)
    assert signal.getsignal(signal.SIGINT) is before


def test_log_records_become_notes_but_those_that_the_services_note_themselves():
    ledger = Ledger()
    with LogNotes(ledger) as notes:
        logging.getLogger("micro_framework.routes").error("told already")
        logging.getLogger("micro_framework.brokers").warning("the broker is away\nfor a while")
        logging.getLogger("micro_framework.brokers").info("chat")
    assert [event.text for event in ledger.snapshot().events] == ["the broker is away"]
    assert notes.last == "the broker is away"
    assert notes not in logging.getLogger().handlers
