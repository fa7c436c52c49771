"""``run --reload`` with real files, processes and signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from micro_framework.cli.reload import NO_WATCHFILES, Reloader
from tests.processes import ROOT, SECONDS, ServiceProcess, Watched

SERVICE = """
import os
from micro_framework.dependencies import Config
from micro_framework.entrypoints import TimeEntrypoint
from flavour import FLAVOUR

class Shop:
    name = "shop"
    config = Config()

    @TimeEntrypoint(interval=3600, eager=True)
    def tick(self):
        print("tick", FLAVOUR, self.config.get("COLOUR"), os.getpid(), flush=True)
        if FLAVOUR == "slow":
            with open("fifo") as answer:
                answer.read()
            print("finished", flush=True)
"""


def replace(path: Path, text: str) -> None:
    """Write a file as editors do: whole, at once."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SERVICE)
    (tmp_path / "flavour.py").write_text("FLAVOUR = 'sweet'\n")
    (tmp_path / "config.yaml").write_text("COLOUR: red\n")
    return tmp_path


@pytest.fixture
def reloading(shop: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess(
        shop,
        ["-m", "micro_framework", "run", "shop", "--reload", "--config", "config.yaml"],
        PYTHONDONTWRITEBYTECODE="1",
    )
    pids = []
    try:
        process.output.wait_for("tick sweet red")
        yield process
    finally:
        pids = [int(line.split()[-1]) for line in process.output.lines if line.startswith("tick")]
        # They lead sessions of their own, and end with what started them.
        watched = [Watched(pid) for pid in pids if os.path.exists(f"/proc/{pid}")]
        process.close()
        assert all(each.ended() for each in watched)


def test_a_day_of_changes(shop: Path, reloading: ServiceProcess) -> None:
    replace(shop / "flavour.py", "FLAVOUR = (\n")
    (line,) = reloading.errors.wait_for("the old goes on")
    assert "flavour.py" in line
    assert "SyntaxError" in line
    (first,) = reloading.output.wait_for("tick")
    assert os.path.exists(f"/proc/{first.split()[-1]}")

    replace(shop / "flavour.py", "FLAVOUR = 'sour'\n")
    reloading.output.wait_for("tick sour red")
    replace(shop / "config.yaml", "COLOUR: blue\n")
    (last,) = reloading.output.wait_for("tick sour blue")

    os.kill(int(last.split()[-1]), signal.SIGKILL)
    reloading.errors.wait_for("have ended with exit code -9; waiting for a change")
    replace(shop / "flavour.py", "FLAVOUR = 'again'\n")
    reloading.output.wait_for("tick again")
    reloading.errors.wait_for("ready: shop", 4)

    reloading.send(signal.SIGINT)
    assert reloading.code() == 0


def test_running_calls_finish_first(shop: Path, reloading: ServiceProcess) -> None:
    os.mkfifo(shop / "fifo")
    replace(shop / "flavour.py", "FLAVOUR = 'slow'\n")
    reloading.output.wait_for("tick slow")
    replace(shop / "flavour.py", "FLAVOUR = 'quick'\n")
    reloading.errors.wait_for("running calls have", 2)
    (shop / "fifo").write_text("go on")
    reloading.output.wait_for("tick quick")
    lines = [line.split(" red")[0] for line in reloading.output.lines]
    assert lines == ["tick sweet", "tick slow", "finished", "tick quick"]


def test_without_watchfiles_it_says_what_to_install(shop: Path) -> None:
    (shop / "watchfiles.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [sys.executable, "-m", "micro_framework", "run", "shop", "--reload"],
        cwd=shop,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"Error: {NO_WATCHFILES}\n")


@pytest.mark.parametrize("arguments", [["shop", "--config", "no/where.yaml"], ["shop.py"]])
def test_wrong_usage_ends_it(shop: Path, arguments: list[str]) -> None:
    process = ServiceProcess(shop, ["-m", "micro_framework", "run", *arguments, "--reload"])
    try:
        assert process.code() == 2
        assert any(line.startswith("Error: ") for line in process.errors.lines)
    finally:
        process.close()


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("shop.py", True),
        ("package/deep/module.py", True),
        ("notes.txt", False),
        (".venv/lib/thing.py", False),
        ("__pycache__/shop.py", False),
        ("settings.yaml", True),
        ("other.yaml", False),
        ("../elsewhere.py", False),
    ],
)
def test_which_files_matter(tmp_path: Path, path: str, matters: bool) -> None:
    reloader = Reloader([], tmp_path, tmp_path / "settings.yaml")
    assert reloader.concerns(None, os.path.normpath(tmp_path / path)) == matters
