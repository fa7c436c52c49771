"""Plays the pages of the documentation: runs their code, types what their terminals show, compares what is printed.

Every ``python`` block of a page runs, from top to bottom in one namespace, unless a comment before it says otherwise:

- ``<!-- test: file NAME -->``: the block is written to that file, which later blocks import and commands name;
- ``<!-- test: other side -->``: code for an environment with Nameko; it is compiled, not run;
- ``<!-- test: service -->``: the block's one ``$ `` line is a service: it starts, and stops cleanly on SIGTERM;
- ``<!-- test: command -->``: every ``$ `` line is run and shows the other lines of the block; ``...`` is any text;
- ``<!-- test: part of PATH -->``: the block stands in that file of the repository, line for line;
- ``<!-- test: terminal NAME -->``: what a terminal shows, typed and compared line by line (`tests/terminals.py`).

The terminal ``nameko`` is in an environment with Nameko; `interop_tests/test_pages.py` plays pages that have it.
The terminals of the tutorial are in an environment with what the tutorial installs, and nothing more.

The README and a page of an example begin beside a copy of the examples, so that ``cd examples/NAME`` leads there. Ports
in the copy are other ones, for those written down may be taken. Where a page says ``amqp://guest:guest@localhost:5672``,
and in ``AMQP_URI``, is the broker of the test, unless the page starts one itself.
"""

import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from micro_framework.testing.rabbitmq import free_port
from tests.terminals import Terminals

__all__ = [
    "EXAMPLES",
    "NAMEKO",
    "PAGES",
    "ROOT",
    "TUTORIAL",
    "Block",
    "blocks_of",
    "page_folder",
    "play",
    "runs_nameko",
    "with_its_marks",
]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = [
    *(README, EXAMPLES / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(EXAMPLES.glob("*/README.md")),
]
DEADLINE = 20.0
TERMINAL_SECONDS = 360
INSTALL_SECONDS = 300
NAMEKO = "nameko"
USUAL_BROKER = "amqp://guest:guest@localhost:5672"
BROKER_OF_ITS_OWN = "python broker.py"
WRITTEN_PORTS = {"metrics": "8000", "websocket": "8765"}
BLOCK = re.compile(
    r"^(?:<!-- test: (?P<mark>[^\n]+?) -->\n+)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass
class Block:
    """A block of code.

    Attributes:
        language: What follows its backticks.
        mark: What the comment before it says; nothing without one.
        code: Its text.
        line: Where in the page it begins.
    """

    language: str
    mark: str
    code: str
    line: int

    @property
    def commands(self) -> list[str]:
        """What is typed in it."""
        return [line[2:] for line in self.code.splitlines() if line.startswith("$ ")]


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page."""
    text = page.read_text()
    return [
        Block(found["language"], found["mark"] or "", found["code"], text[: found.start("code")].count("\n"))
        for found in BLOCK.finditer(text)
    ]


def runs_nameko(page: Path) -> bool:
    """Whether a page has a terminal with Nameko."""
    return f"<!-- test: terminal {NAMEKO} -->" in page.read_text()


def names_its_broker(page: Path) -> bool:
    """Whether a page says where its broker is, other than where brokers usually are."""
    return "export AMQP_URI=" in page.read_text().replace(f"export AMQP_URI={USUAL_BROKER}", "")


def with_its_marks(page: Path) -> Any:
    """A page as a parameter; one that starts a broker is not for a run on somebody else's, and terminals take time."""
    text, marks = page.read_text(), []
    if "import RabbitMQNode" in text or BROKER_OF_ITS_OWN in text:
        marks.append(pytest.mark.kills_broker)
    if "<!-- test: terminal " in text:
        marks.append(pytest.mark.timeout(TERMINAL_SECONDS))
    return pytest.param(page, marks=marks, id=str(page.relative_to(ROOT)))


@pytest.fixture
def page_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory to import from; modules imported from it, and variables set, are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before, variables = set(sys.modules), dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(variables)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def play(page: Path, folder: Path, broker: Callable[[], str], nameko: Path | None = None) -> None:
    """Do all that a page says.

    Args:
        page: The page.
        folder: Where it begins, the current directory.
        broker: Gives the address of a broker, if one is needed.
        nameko: The Python of an environment with Nameko, if the page has a terminal there.

    Raises:
        AssertionError: Something else is printed than it shows.
    """
    namespace: dict[str, object] = {"__name__": "page"}
    with opened(page, folder) as terminals:
        for block in blocks_of(page):
            kind, _, rest = block.mark.partition(" ")
            if kind == "service":
                check_service(block.commands, folder, broker())
            elif kind == "terminal":
                if not names_its_broker(page):
                    with_broker(terminals, broker())
                if nameko is not None and NAMEKO not in terminals.by_name:
                    with_nameko(terminals, nameko)
                terminals.play(rest, block.code)
            else:
                run_block(block, page, namespace, folder)


@contextmanager
def opened(page: Path, folder: Path) -> Iterator[Terminals]:
    """Terminals for a page, in its folder."""
    programs = tutorial_python() if page == TUTORIAL else Path(sys.executable)
    variables = {} if page == TUTORIAL else {"PYTHONPATH": str(ROOT)}
    terminals = Terminals(folder, variables, programs.parent)
    if page == README or page.parent.parent == EXAMPLES:
        copy = shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("__pycache__", "*.db"))
        for name, written in WRITTEN_PORTS.items():
            with_another_port(terminals, copy / name / "config.yaml", written)
    try:
        yield terminals
    finally:
        terminals.close()


def tutorial_python() -> Path:
    """The Python of the environment that the tutorial has its readers make."""
    command = [sys.executable, str(ROOT / "scripts" / "environments.py"), "tutorial"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=INSTALL_SECONDS, check=True)
    return Path(done.stdout.strip())


def with_another_port(terminals: Terminals, config: Path, written: str) -> None:
    free = str(free_port())
    config.write_text(config.read_text().replace(written, free))
    terminals.known[f"http://127.0.0.1:{written}"] = f"http://127.0.0.1:{free}"


def with_broker(terminals: Terminals, uri: str) -> None:
    terminals.environment["AMQP_URI"] = uri
    terminals.known[USUAL_BROKER] = uri


def with_nameko(terminals: Terminals, python: Path) -> None:
    environment = terminals.terminal(NAMEKO).environment
    del environment["PYTHONPATH"]  # there is no micro_framework where Nameko is
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"


def run_block(block: Block, page: Path, namespace: dict[str, object], folder: Path) -> None:
    kind, _, rest = block.mark.partition(" ")
    if kind == "file":
        (folder / rest).write_text(block.code)
        importlib.invalidate_caches()
    elif kind == "part":
        path = rest.removeprefix("of ")
        assert block.code in (ROOT / path).read_text(), f"{path} has no such lines"
    elif block.mark == "command":
        check_commands(block, folder)
    elif block.language == "python":
        # The line numbers of tracebacks are those of the page.
        code = compile("\n" * block.line + block.code, str(page), "exec", dont_inherit=True)
        if block.mark != "other side":
            exec(code, namespace)  # noqa: S102 -- the project's own pages


def check_service(commands: list[str], folder: Path, uri: str) -> None:
    (command,) = commands
    variables = environment() | {"AMQP_URI": uri}
    with subprocess.Popen(
        arguments_of(command), cwd=folder, env=variables, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            log = [process.stderr.readline()]
            while log[-1] and "ready: " not in log[-1]:
                log.append(process.stderr.readline())
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0, log
        finally:
            process.kill()


def check_commands(block: Block, folder: Path) -> None:
    shown = [line for line in block.code.splitlines() if line and not line.startswith("$ ")]
    output = ""
    for command in block.commands:
        done = subprocess.run(
            arguments_of(command),
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        output += done.stdout
    for line in shown:
        pattern = ".*".join(map(re.escape, line.split("...")))
        assert re.search(f"^{pattern}$", output, re.MULTILINE), f"{line!r} is not in:\n{output}"


def arguments_of(command: str) -> list[str]:
    program, *arguments = shlex.split(command, comments=True)
    if program == "micro-framework":
        return [sys.executable, "-m", "micro_framework", *arguments]
    assert program == "python", f"a page runs micro-framework or python, not {program}"
    return [sys.executable, *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"AMQP_URI": "memory://", "PYTHONPATH": str(ROOT)}
