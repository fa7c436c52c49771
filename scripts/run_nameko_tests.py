"""Runs the tests that others wrote for Nameko, unmodified, against `nameko_compat`; prints what passed and what failed.

They are those of nameko 2.14.1 and 3.0.0rc11, of the examples in both documentations, of nameko-sqlalchemy 1.5.0 and of
nameko-prometheus 1.6.0. pip fetches the sources into `.cache/public/`; nothing of them is in this repository. Nameko
itself is not installed. A private RabbitMQ serves the tests that ask for a broker.

Arguments: names of suites, or parts of names of test files; none: all, which takes about half an hour.
"""

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from environments import PUBLIC, ROOT, environment, say
from run_tests import provide_broker

__all__ = ["SUITES", "Suite", "main"]

FOLDER = ROOT / ".cache" / "public"
SECONDS = 10
"""What one test may take: those that wait for something that never comes are many."""


@dataclass(frozen=True)
class Suite:
    """Tests in a source distribution.

    Args:
        name: As it is called here.
        requirement: The distribution.
        start: The folder that pytest is started in, below the distribution's own.
        tests: What is run, below that.
        left_out: Parts of names of files that are not run.
        path: What is put on the path, below the distribution's folder.
    """

    name: str
    requirement: str
    start: str = "."
    tests: tuple[str, ...] = ("test",)
    left_out: tuple[str, ...] = ()
    path: tuple[str, ...] = (".",)

    @property
    def folder(self) -> Path:
        """Where its sources are."""
        return FOLDER / self.requirement.replace("==", "-")


INSIDE = (
    "test/cli/",
    "test/amqp/",
    "test_amqp.py",
    "test_queue_consumer.py",
    "test_rpc_responder.py",
    "test_broker.py",
)
"""Tests of Nameko's command line, and of its inside alone."""

SUITES = (
    Suite("nameko-sqlalchemy", "nameko-sqlalchemy==1.5.0"),
    Suite("nameko-2", "nameko==2.14.1", left_out=INSIDE),
    Suite("nameko-3", "nameko==3.0.0rc11", left_out=INSIDE),
    Suite(
        "examples-2", "nameko==2.14.1", start="docs", tests=("examples",), path=("docs", "../nameko-sqlalchemy-1.5.0")
    ),
    Suite(
        "examples-3",
        "nameko==3.0.0rc11",
        start="docs",
        tests=("examples",),
        path=("docs", "../nameko-sqlalchemy-1.5.0"),
    ),
    Suite("nameko-prometheus", "nameko-prometheus==1.6.0", tests=("tests",), path=("src",)),
)


def fetch(suite: Suite, python: Path) -> None:
    """Download and unpack the sources, once."""
    if suite.folder.exists():
        return
    say(f"fetching {suite.requirement}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as target:
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", target]
        subprocess.run([str(python), "-m", "pip", "download", *options, suite.requirement], check=True)
        (archive,) = Path(target).glob("*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(FOLDER, filter="data")
    # Distributions are called with dashes or underscores, as their tools liked it.
    found = next(path for path in FOLDER.iterdir() if path.name.replace("_", "-") == suite.folder.name)
    found.rename(suite.folder)


def files_of(suite: Suite, chosen: list[str]) -> list[str]:
    """Its test files, relative to where pytest starts."""
    start = suite.folder / suite.start
    found = sorted(path for name in suite.tests for path in (start / name).rglob("*.py") if "test" in path.name)
    names = [str(path.relative_to(start)) for path in found if path.name not in ("__init__.py", "conftest.py")]
    kept = [name for name in names if not any(part in name for part in suite.left_out)]
    wanted = [part for part in chosen if part != suite.name]
    return kept if suite.name in chosen or not chosen else [n for n in kept if any(part in n for part in wanted)]


def run(suite: Suite, name: str, python: Path, uris: dict[str, str]) -> list[dict[str, str]]:
    """Run a file's tests; their outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes, log = Path(folder) / "outcomes", FOLDER / "logs" / f"{suite.name}-{name.replace('/', '-')}.txt"
        log.parent.mkdir(exist_ok=True)
        path = os.pathsep.join(str(suite.folder / part) for part in suite.path)
        variables = {**os.environ, "MF_OUTCOMES": str(outcomes)}
        variables["PYTHONPATH"] = os.pathsep.join((path, str(ROOT / "scripts")))
        plugins = ["-p", "nameko_compat.testing.unmodified", "-p", "nameko_tests_plugin", "-p", "no:cacheprovider"]
        options = [
            "-q",
            "--tb=short",
            f"--timeout={SECONDS}",
            "--amqp-uri",
            uris["amqp"],
            "--rabbit-api-uri",
            uris["api"],
        ]
        start, settings = suite.folder / suite.start, Path(folder) / "pytest.ini"
        settings.write_text("[pytest]\n")  # not this project's
        places = ["-c", str(settings), "--rootdir", str(start), "--confcutdir", str(start)]
        command = [str(python), "-m", "pytest", *plugins, *options, *places, name]
        with log.open("w") as file:
            done = subprocess.run(command, cwd=start, env=variables, stdout=file, stderr=file, check=False)
        if outcomes.exists():
            return [json.loads(line) for line in outcomes.read_text().splitlines()]
        errors = [line[4:] for line in log.read_text().splitlines() if line.startswith("E   ")]
        why = errors[-1] if errors else f"pytest ended with {done.returncode}"
        return [{"test": f"{name}::(the file)", "when": "collect", "outcome": "failed", "error": why}]


def worst(outcomes: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """One outcome for each test: its failure, if it has one."""
    found: dict[str, dict[str, str]] = {}
    for each in outcomes:
        if each["outcome"] == "failed" or each["test"] not in found:
            found[each["test"]] = each
    return found


def main(chosen: list[str]) -> int:
    """Run what was chosen and print the tables."""
    python = environment(PUBLIC)
    if Path(sys.prefix) != python.parent.parent:
        return subprocess.run([str(python), __file__, *chosen], check=False).returncode
    provide_broker()
    rows: list[tuple[str, str, Counter[str]]] = []
    failures: list[tuple[str, str]] = []
    with broker() as uris:
        for suite in SUITES:
            fetch(suite, python)
            for name in files_of(suite, chosen):
                found = worst(run(suite, name, python, uris))
                counts = Counter(each["outcome"] for each in found.values())
                rows.append((suite.name, name, counts))
                say(f"{suite.name} {name}: {dict(counts)}")
                failures += [(test, each["error"]) for test, each in found.items() if each["outcome"] == "failed"]
    report(rows, failures)
    return 0


@contextlib.contextmanager
def broker() -> Iterator[dict[str, str]]:
    """A private RabbitMQ with its management API; its addresses."""
    from micro_framework.testing.rabbitmq import RabbitMQNode, free_port  # there in the environment only

    port = free_port()
    config = ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {port}"]
    with RabbitMQNode(extra_config=config, plugins=["rabbitmq_management"]) as node:
        yield {"amqp": node.uri, "api": f"http://127.0.0.1:{port}"}


def report(rows: list[tuple[str, str, Counter[str]]], failures: list[tuple[str, str]]) -> None:
    """Print what was run, and each failure."""
    print("| suite | file | passed | failed | skipped |\n| --- | --- | --- | --- | --- |")
    for suite, name, counts in rows:
        print(f"| {suite} | {name} | {counts['passed']} | {counts['failed']} | {counts['skipped']} |")
    total = sum((counts for _, _, counts in rows), Counter())
    print(f"| all | | {total['passed']} | {total['failed']} | {total['skipped']} |\n")
    for test, error in failures:
        print(f"{test}\n    {' '.join(error.split())[:200]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
