"""The Django project among the examples: its README is followed line by line, in processes, on RabbitMQ."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import free_port

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "django"
SECONDS = 60.0
WRITTEN_PORT = "8000"
TEST_SECONDS = 300  # six interpreters that import Django, one after the other, on a machine with other work
QUEUES = ("rpc-warehouse", "evt-shop-order_placed--warehouse.pack")


def commands_of_the_readme() -> list[tuple[str, list[str]]]:
    """Each command of the page, and the lines it shows."""
    blocks = re.findall(r"^```console\n(.*?)^```$", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [
        (command, shown.splitlines())
        for block in blocks
        for command, shown in re.findall(r"^\$ ([^\n]*)\n((?:[^$\n][^\n]*\n)*)", block, re.MULTILINE)
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy, since the database is made beside the code."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "django", ignore=shutil.ignore_patterns("*.db", "__pycache__")))


@pytest.mark.timeout(TEST_SECONDS)
def test_the_readme_of_the_django_project_can_be_followed(project: Path, rabbit: VHost) -> None:
    variables = os.environ | {"AMQP_URI": rabbit.uri, "PYTHONPATH": str(ROOT)}
    done, port = [], ""
    with ExitStack() as stack:
        for written, shown in commands_of_the_readme():
            if "runserver" in written:
                port = str(free_port())  # not earlier: somebody else might take it
            program, *arguments = shlex.split(written.replace(WRITTEN_PORT, port))
            done.append(program)
            if program in ("cd", "pip"):
                continue  # the copy is the current directory, and Django is there
            elif program == "micro-framework":
                stack.enter_context(serving(["-m", "micro_framework", *arguments], project, variables))
                rabbit.wait_for_consumers(*QUEUES, timeout=SECONDS)
            elif program == "python" and "runserver" in arguments:
                stack.enter_context(serving([*arguments, "--noreload"], project, variables))
            elif program == "python":
                check_shown(shown, output_of(arguments, project, variables))
            else:
                assert program == "curl"
                check_answer(arguments, shown)
    assert [done.count(program) for program in ("python", "micro-framework", "curl")] == [4, 1, 3]


@contextmanager
def serving(arguments: Sequence[str], folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """A process that ends within the deadline when it is told to."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.DEVNULL) as process:
        try:
            yield
            assert process.poll() is None, f"{command} has ended"
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)
        finally:
            process.kill()


def output_of(arguments: Sequence[str], folder: Path, variables: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def check_shown(shown: Sequence[str], output: str) -> None:
    for line in shown:
        assert re.search(f"^{re.escape(line)}$", output, re.MULTILINE), f"{line!r} is not in:\n{output}"


def check_answer(arguments: Sequence[str], shown: Sequence[str]) -> None:
    """Ask as curl does; a GET again until it shows what the page does, which comes about a moment later."""
    *options, url = arguments
    (expected,) = shown
    body = options[1].encode() if options else None
    deadline = time.monotonic() + SECONDS
    while (got := answer(url, body, deadline)) != expected and not body and time.monotonic() < deadline:
        time.sleep(0.05)
    assert got == expected


def answer(url: str, body: bytes | None, deadline: float) -> str:
    """What a server answers, with whatever status, once it listens."""
    while True:
        try:
            with urllib.request.urlopen(url, body, timeout=SECONDS) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return str(error.read().decode())
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
