"""The wheel as a user gets it: what it needs, what is in it, and that it works where nothing else is installed."""

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {"eventlet", "nameko", "gevent", "greenlet"}
EXTRAS = {"otel", "reload", "migrate", "nameko-web"}
PLAIN = {"kombu", "amqp", "click", "cronsim", "prometheus-client", "pyyaml", "rich", "tzdata", "websockets"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def requirements(metadata: email.message.Message) -> list[str]:
    return metadata.get_all("Requires-Dist") or []


def distribution(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return match.group().lower()


def test_it_is_called_what_the_documentation_says(metadata: email.message.Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("micro-framework", "3.0.0.dev0")
    assert metadata["Requires-Python"] == ">=3.11"


def test_neither_nameko_nor_eventlet_is_needed(metadata: email.message.Message) -> None:
    assert not FORBIDDEN & {distribution(each) for each in requirements(metadata)}


def test_a_plain_installation_needs_few_things_and_none_is_pinned_from_above(metadata: email.message.Message) -> None:
    plain = [each for each in requirements(metadata) if "extra ==" not in each]
    assert {distribution(each) for each in plain} == PLAIN
    assert not [each for each in requirements(metadata) if "<" in each or "==" in each.split(";")[0]]


def test_the_extras_are_there(metadata: email.message.Message) -> None:
    assert set(metadata.get_all("Provides-Extra") or []) >= EXTRAS


def test_both_packages_are_in_it_and_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"micro_framework/py.typed", "nameko_compat/py.typed", "nameko_compat/__init__.py"} <= names
    assert "micro_framework/runner.py" in names
    assert not [name for name in names if name.startswith(("tests/", "interop_tests/", "benchmarks/"))]


def test_every_module_of_the_checkout_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "micro_framework").rglob("*.py")}
    assert sources <= names
