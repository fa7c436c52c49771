"""The command line as a user meets it: most of it in processes of its own, with real signals."""

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from click.testing import CliRunner

from micro_framework import __version__
from micro_framework.cli import NOT_BUILT, main

SECONDS = 40

ORDERS = """
    import sys
    import time
    from micro_framework.entrypoints import TimeEntrypoint

    class Orders:
        name = "orders"

        @TimeEntrypoint(interval=3600, eager=True)
        def tick(self):
            print("ticked", flush=True)

    class Slow:
        name = "slow"

        @TimeEntrypoint(interval=3600, eager=True)
        def work(self):
            print("working", flush=True)
            sys.stdin.readline()
            print("worked", flush=True)

    class Plain:
        pass
"""


class Process:
    """A ``micro-framework`` process in a directory; its lines of output can be waited for."""

    def __init__(self, directory, *arguments):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "micro_framework", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors = []
        self.lines = queue.SimpleQueue()
        self.readers = [
            threading.Thread(target=self.read, args=(self.process.stdout, self.lines.put), name="test-stdout"),
            threading.Thread(target=self.read, args=(self.process.stderr, self.errors.append), name="test-stderr"),
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def read(stream, take):
        for line in stream:
            take(line.rstrip("\n"))

    def expect(self, line):
        try:
            assert self.lines.get(timeout=SECONDS) == line
        except queue.Empty:
            pytest.fail(f"no line {line!r} within {SECONDS} s; stderr: {self.errors}", pytrace=False)

    def send(self, number):
        self.process.send_signal(number)

    def answer(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        """Wait for the end; returns the exit code and stderr."""
        code = self.process.wait(SECONDS)
        for reader in self.readers:
            reader.join(SECONDS)
        return code, "\n".join(self.errors)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "orders.py").write_text(textwrap.dedent(ORDERS))
    (tmp_path / "config.yaml").write_text("AMQP_URI: memory://\nSHUTDOWN_TIMEOUT: ${BUDGET:10}\n")
    return tmp_path


@pytest.fixture
def start(directory):
    """Start processes in the directory; those still alive at the end are killed."""
    running = []

    def start(*arguments):
        running.append(Process(directory, *arguments))
        return running[-1]

    yield start
    for process in running:
        process.close()


# -- without a service


def test_help_and_version():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "run " in result.output
    assert CliRunner().invoke(main, ["--version"]).output == f"micro-framework {__version__}\n"


def test_help_loads_no_engine():
    script = (
        "import sys; sys.argv = ['x', 'run', '--help']\n"
        "import contextlib, io, micro_framework.cli as c\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): c.main()\n"
        "print([m for m in ('kombu', 'amqp', 'yaml', 'rich', 'micro_framework.runner') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", NOT_BUILT)
def test_a_promised_command_says_on_one_line_that_it_is_not_built_yet(command):
    result = CliRunner().invoke(main, [command, "some", "arguments"])
    assert result.exit_code == 2
    there_is = ", ".join(sorted(main.commands))
    assert result.stderr == f"Error: '{command}' is not built yet in this version; there is: {there_is}\n"


@pytest.mark.parametrize("arguments", [["run"], ["run", "--no-such-option", "x"], ["fly"]])
def test_wrong_usage_is_exit_code_2(arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


# -- mistakes, each with its exit code and a message without traceback

MISTAKES = [
    (["orders.py", "-c", "config.yaml"], 2, "did you mean 'orders'?"),
    (["orders:Orders", "--config", "nope.yaml"], 2, "there is no config file 'nope.yaml'"),
    (["ordres", "-c", "config.yaml"], 1, "did you mean 'orders'?"),
    (["orders:Order", "-c", "config.yaml"], 1, "did you mean 'orders:Orders'?"),
    (["orders:Plain", "-c", "config.yaml"], 1, "has no entrypoint"),
    (["broken", "-c", "config.yaml"], 1, "broken.py, line 2: import no_such_library"),
    (["orders:Orders", "-c", "bad.yaml"], 1, "bad.yaml cannot be read: line 3"),
    (["orders:Orders", "-c", "wrong.yaml"], 1, "MAX_WORKERS is 'many'"),
    (["orders:Orders", "-c", "wrong.yaml"], 1, "did you mean AMQP_URI?"),
    (["orders:Orders", "-c", "logging.yaml"], 1, "LOGGING is not a valid"),
    (["events", "-c", "empty.yaml"], 1, "AMQP_URI"),
    (["events"], 1, "memory://"),
    (["ready", "orders"], 2, "is run alone"),
    (["ready", "-c", "config.yaml"], 2, "leave out --config"),
]

FILES = {
    "broken.py": "\nimport no_such_library\n",
    "bad.yaml": "a: 1\nb: [\n",
    "wrong.yaml": "MAX_WORKERS: many\nAMQP_URL: memory://\n",
    "logging.yaml": "LOGGING: {version: 7}\n",
    "empty.yaml": "",
    "events.py": """
        from micro_framework.amqp.entrypoints import EventListener
        class Events:
            name = "events"
            @EventListener("payments", "refunded")
            def refund(self, payload): pass
    """,
    "ready.py": """
        from micro_framework.runner import Runner
        import orders
        runner = Runner([orders.Orders], {"AMQP_URI": "memory://"})
    """,
    "failing.py": """
        from micro_framework.dependencies import Dependency
        from micro_framework.entrypoints import TimeEntrypoint
        class Failing(Dependency[str]):
            def setup(self): raise RuntimeError("the disk is full")
        class Service:
            name = "service"
            failing = Failing()
            @TimeEntrypoint(interval=3600)
            def tick(self): pass
    """,
}


@pytest.fixture
def with_files(directory):
    for name, text in FILES.items():
        (directory / name).write_text(textwrap.dedent(text))
    return directory


@pytest.mark.usefixtures("with_files")
@pytest.mark.parametrize(("arguments", "code", "sign"), MISTAKES)
def test_a_mistake_is_told_without_a_traceback(start, arguments, code, sign):
    ended, errors = start("run", *arguments).end()
    assert sign in errors
    assert "Error: " in errors
    assert "Traceback" not in errors
    assert ended == code


@pytest.mark.usefixtures("with_files")
def test_a_failure_at_start_is_exit_code_1(start):
    code, errors = start("run", "failing", "-c", "config.yaml").end()
    assert "the disk is full" in errors
    assert code == 1


# -- running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly(start, number):
    process = start("run", "orders:Orders", "--config", "config.yaml")
    process.expect("ticked")
    process.send(number)
    code, errors = process.end()
    assert (code, "Traceback" in errors) == (0, False), errors


@pytest.mark.usefixtures("with_files")
def test_a_module_with_a_runner_of_its_own_is_run(start):
    process = start("run", "ready")
    process.expect("ticked")
    process.send(signal.SIGTERM)
    assert process.end()[0] == 0


def test_a_service_without_amqp_needs_no_config(start):
    process = start("run", "orders:Orders")
    process.expect("ticked")
    process.send(signal.SIGTERM)
    assert process.end()[0] == 0


def test_a_running_call_finishes_before_the_exit(start):
    process = start("run", "orders:Slow", "-c", "config.yaml")
    process.expect("working")
    process.send(signal.SIGTERM)
    process.answer()
    process.expect("worked")
    assert process.end()[0] == 0


def test_an_abandoned_call_is_exit_code_1(start, directory):
    (directory / "short.yaml").write_text("AMQP_URI: memory://\nSHUTDOWN_TIMEOUT: 0.2\n")
    process = start("run", "orders:Slow", "-c", "short.yaml")
    process.expect("working")
    process.send(signal.SIGTERM)
    code, errors = process.end()
    assert code == 1
    assert "Slow.work" in errors
    assert "SHUTDOWN_TIMEOUT" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(start, directory, number):
    process = start("run", "orders:Slow", "-c", "config.yaml")
    process.expect("working")
    # Two equal signals pending at once count as one, so the second is another kind.
    process.send(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
    process.send(number)
    assert process.end()[0] - 128 in (signal.SIGTERM, signal.SIGINT)


def test_logs_are_json_lines_when_stderr_is_no_terminal(start, directory):
    (directory / "chatty.py").write_text(
        textwrap.dedent("""
            import logging
            from micro_framework.entrypoints import TimeEntrypoint
            logging.getLogger("chatty").info("imported")
            class Chatty:
                name = "chatty"
                @TimeEntrypoint(interval=3600, eager=True)
                def tick(self): print("ticked", flush=True)
        """)
    )
    process = start("run", "chatty", "-c", "config.yaml")
    process.expect("ticked")
    process.send(signal.SIGTERM)
    code, errors = process.end()
    entries = [json.loads(line) for line in errors.splitlines()]
    assert code == 0
    assert {"level": "INFO", "logger": "chatty", "message": "imported"}.items() <= entries[0].items()
