"""README and docs say what is so: their examples run, their configs are accepted, their links lead somewhere.

Every ``python`` block of a page runs, from top to bottom in one namespace, unless a comment before it says otherwise:

- ``<!-- test: file NAME -->``: the block is written to that file, which later blocks import and commands name;
- ``<!-- test: other side -->``: code for an environment with Nameko; it is compiled, not run;
- ``<!-- test: service -->``: the block's one ``$ `` line is a service: it starts, and stops cleanly on SIGTERM;
- ``<!-- test: command -->``: every ``$ `` line is run and shows the other lines of the block; ``...`` is any text;
- ``<!-- test: part of PATH -->``: the block stands in that file of the repository, line for line;
- ``<!-- test: terminal NAME -->``: what a terminal shows, typed and compared line by line (`tests/terminals.py`).

Every other ``yaml`` block is a configuration that is accepted.
"""

import configparser
import contextlib
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from micro_framework.config import Settings, parse_config
from micro_framework.supervisor import STOP_MARGIN
from tests.terminals import Terminals

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / "README.md", ROOT / "examples" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
DEADLINE = 20.0
TERMINAL_SECONDS = 360

BLOCK = re.compile(
    r"^(?:<!-- test: (?P<mark>[^\n]+?) -->\n+)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass
class Block:
    language: str
    mark: str
    code: str
    line: int

    @property
    def commands(self):
        return [line[2:] for line in self.code.splitlines() if line.startswith("$ ")]


def blocks_of(page):
    text = page.read_text()
    return [
        Block(found["language"], found["mark"] or "", found["code"], text[: found.start("code")].count("\n"))
        for found in BLOCK.finditer(text)
    ]


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current directory to import from; modules imported from it are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def with_its_marks(page):
    """A page that starts a broker is not for a run on somebody else's; one of terminals starts many processes."""
    text, marks = page.read_text(), []
    if "import RabbitMQNode" in text:
        marks.append(pytest.mark.kills_broker)
    if "<!-- test: terminal " in text:
        marks.append(pytest.mark.timeout(TERMINAL_SECONDS))
    return pytest.param(page, marks=marks)


@pytest.fixture
def terminals(folder):
    """Terminals in that folder."""
    with contextlib.closing(Terminals(folder, {"PYTHONPATH": str(ROOT)})) as opened:
        yield opened


@pytest.mark.parametrize("page", [with_its_marks(page) for page in PAGES], ids=name_of)
def test_examples_run(page, folder, terminals, request):
    namespace = {"__name__": "page"}
    for block in blocks_of(page):
        kind, _, rest = block.mark.partition(" ")
        if kind == "service":
            check_service(block.commands, folder, request.getfixturevalue("rabbit").uri)
        elif kind == "terminal":
            if "export AMQP_URI" not in page.read_text():
                terminals.environment["AMQP_URI"] = request.getfixturevalue("rabbit").uri
            terminals.play(rest, block.code)
        else:
            run_block(block, page, namespace, folder)


def run_block(block, page, namespace, folder):
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


def check_service(commands, folder, uri):
    (command,) = commands
    variables = environment() | {"AMQP_URI": uri}
    with subprocess.Popen(
        arguments_of(command), cwd=folder, env=variables, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            log = [process.stderr.readline()]
            while log[-1] and "ready: " not in log[-1]:
                log.append(process.stderr.readline())
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0, log
        finally:
            process.kill()


def check_commands(block, folder):
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


def arguments_of(command):
    program, *arguments = shlex.split(command, comments=True)
    if program == "micro-framework":
        return [sys.executable, "-m", "micro_framework", *arguments]
    assert program == "python", f"a page runs micro-framework or python, not {program}"
    return [sys.executable, *arguments]


def environment():
    return os.environ | {"AMQP_URI": "memory://", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configurations_are_accepted(page):
    for block in blocks_of(page):
        if block.language == "yaml" and not block.mark.startswith("part of "):
            Settings.from_mapping(parse_config(block.code, {}, source=page.name))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_marks_are_known_and_belong_to_a_block(page):
    marks = re.findall(r"<!-- test: (.*?) -->", page.read_text())
    assert [mark for mark in marks if mark] == [block.mark for block in blocks_of(page) if block.mark]
    assert all(
        re.fullmatch(r"file [\w.]+|part of [\w./]+|other side|service|command|terminal \w+", mark) for mark in marks
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_tests_named_are_there(page):
    for path, test in re.findall(r"`(?!application/|\.cache/)((?:[\w.]+/)+[\w.]*)(?:::(\w+))?`", page.read_text()):
        bases = (ROOT, ROOT / "micro_framework", page.parent)
        found = next((base / path for base in bases if (base / path).exists()), None)
        assert found is not None, f"{page.name} names {path}"
        if test:
            assert re.search(rf"^def {test}\(", found.read_text(), re.MULTILINE), f"{page.name} names {path}::{test}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md" and page.name not in index]
    assert missing == []


def test_every_example_is_in_the_table_with_a_command_that_its_page_gives():
    folder = ROOT / "examples"
    rows = re.findall(r"^\| \[([\w-]+)\]\((.+?)\) \|.*\| `(.+)` \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(path.name for path in folder.iterdir() if path.is_dir())
    for _, page, command in rows:
        assert command in (folder / page).read_text(), f"{page} does not give {command!r}"


def test_the_readme_shows_the_first_example_as_it_is():
    by_mark = {block.mark: block.code for block in blocks_of(ROOT / "README.md")}
    for name in ("shipping.py", "config.yaml"):
        shown = by_mark[f"file {name}"]
        assert shown.strip() == (ROOT / "examples" / "first_service" / name).read_text().strip()


def test_sphinx_reads_the_documentation_without_a_warning(tmp_path: Path) -> None:
    options = ["-q", "-W", "--keep-going", "-b", "dummy", "-c", "docs"]  # resolves every reference, and writes nothing
    command = [sys.executable, "-m", "sphinx", *options, ".", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_page_is_in_the_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "index.md":
            assert str(page.relative_to(ROOT / "docs").with_suffix("")) in index


def test_the_unit_of_the_tutorial_leaves_the_services_the_time_that_they_need() -> None:
    blocks = blocks_of(ROOT / "docs" / "tutorial.md")
    codes = {block.mark: block.code for block in blocks}
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(codes["file shop.service"])
    settings = Settings.from_mapping(parse_config(codes["file config.yaml"], {}, source="config.yaml"))
    assert float(unit["Service"]["TimeoutStopSec"]) > settings.shutdown_timeout + STOP_MARGIN
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert Path(program).name == "micro-framework"
    typed = f"micro-framework {' '.join(arguments)} "
    assert any(command.startswith(typed) for block in blocks for command in block.commands)


def test_the_image_for_kubernetes_runs_what_the_pods_run() -> None:
    codes = {block.mark: block.code for block in blocks_of(ROOT / "docs" / "howto-kubernetes.md")}
    command = json.loads(codes["file Dockerfile"].splitlines()[-1].removeprefix("CMD "))
    manifests = yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "deployment.yaml").read_text())
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"] == command
