"""README and docs say what is so: their examples run, their configs are accepted, their links lead somewhere.

How a page is run is told in `tests/pages.py`; those with a terminal of Nameko are run by `interop_tests/test_pages.py`.
Every other ``yaml`` block is a configuration that is accepted.
"""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from micro_framework.config import Settings
from micro_framework.config.text import parse_config
from micro_framework.supervisor import STOP_MARGIN
from scripts.environments import NAMEKO_VERSIONS, PEERS
from tests.pages import EXAMPLES, PAGES, ROOT, TUTORIAL, blocks_of, page_folder, play, runs_nameko, with_its_marks

__all__ = ["page_folder"]  # a fixture

PLAYED_ELSEWHERE = {
    "django": "tests/test_django_example.py",
    "kubernetes": "tests/test_examples.py",
    "mixed_cluster": "interop_tests/test_mixed_cluster.py",
}
"""Examples whose pages need more than terminals."""


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [with_its_marks(page) for page in PAGES if not runs_nameko(page)])
def test_examples_run(page, page_folder, request):
    play(page, page_folder, lambda: request.getfixturevalue("rabbit").uri)


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
    table = (EXAMPLES / "README.md").read_text()
    rows = re.findall(r"^\| \[([\w-]+)\]\((.+?)\) \|.*\| `(.+)` \|$", table, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    for _, page, command in rows:
        assert command in (EXAMPLES / page).read_text(), f"{page} does not give {command!r}"


def test_every_command_that_is_typed_on_a_page_is_run_by_a_test():
    played = {EXAMPLES / name / "README.md" for name in PLAYED_ELSEWHERE}
    for page in set(PAGES) - played:
        typed = [block.commands for block in blocks_of(page) if block.commands and not block.mark]
        assert typed == [], name_of(page)


def test_every_example_is_played_from_its_page_or_by_a_test_of_its_own():
    for page in EXAMPLES.glob("*/README.md"):
        if other := PLAYED_ELSEWHERE.get(page.parent.name):
            assert f'"{page.parent.name}"' in (ROOT / other).read_text(), other
        else:
            assert any(block.mark.startswith("terminal ") for block in blocks_of(page)), name_of(page)


def test_the_comparison_is_with_the_versions_that_the_benchmarks_install():
    table = (ROOT / "README.md").read_text().partition("## Beside others")[2]
    for each in (f"nameko=={NAMEKO_VERSIONS[-1]}", *PEERS.values()):
        name, version = re.fullmatch(r"(\w+)(?:\[\w+\])?==(.+)", each).groups()
        assert re.search(rf"\b{name} {re.escape(version)}[ ,]", table, re.IGNORECASE), each


def test_the_readme_shows_the_first_example_as_it_is():
    by_mark = {block.mark: block.code for block in blocks_of(ROOT / "README.md")}
    for name in ("shipping.py", "config.yaml"):
        shown = by_mark[f"file {name}"]
        assert shown.strip() == (EXAMPLES / "first_service" / name).read_text().strip()


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
    blocks = blocks_of(TUTORIAL)
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
    manifests = yaml.safe_load_all((EXAMPLES / "kubernetes" / "deployment.yaml").read_text())
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"] == command
