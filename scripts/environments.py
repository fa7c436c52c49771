"""Makes the environments the project's commands run in, each once: `python environments.py NAME` prints its Python.

Names: ``run`` (the package alone, for the demo), ``tutorial`` (what docs/tutorial.md has its readers install), ``test``
(with what tests and linting need), ``extensions`` (with extensions of Nameko by others, which bring Nameko along),
``public`` (with what the tests of others need, see run_nameko_tests.py), a version of Nameko (``2.14.1``,
``3.0.0rc11``), which needs an environment apart: it pins old packages and must never be importable beside the tests,
and the peers that the benchmarks compare with (``faststream``, ``dramatiq``, ``celery``). They live under
`.cache/environments/`, named after a hash of what they are made from; a changed `pyproject.toml` or pin makes a new one
and removes the old. Standard library only.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["EXTENSIONS", "NAMEKO_VERSIONS", "PEERS", "PUBLIC", "TUTORIAL", "environment", "say"]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "environments"
NAMEKO_PINS = ROOT / "interop_tests" / "nameko_pins.txt"
NAMEKO_VERSIONS = ("2.14.1", "3.0.0rc11")
EXTENSION_PINS = ROOT / "interop_tests" / "extension_pins.txt"
EXTENSIONS = "extensions"
PUBLIC_PINS = ROOT / "interop_tests" / "public_pins.txt"
PUBLIC = "public"
TUTORIAL = "tutorial"
PEERS = {  # exact, so that figures can be compared with those of another day
    "faststream": "faststream[rabbit]==0.7.8",
    "dramatiq": "dramatiq[rabbitmq]==2.2.1",
    "celery": "celery==5.7.0",
}


def say(text: str) -> None:
    """One line about what is being done, on stderr, so that stdout stays for answers."""
    print(f"--> {text}", file=sys.stderr, flush=True)


def environment(name: str) -> Path:
    """The Python of an environment, made first if it is not there.

    Raises:
        SystemExit: It could not be made; the message says why.
    """
    recipe = pip_arguments(name)
    folder = CACHE / f"{folder_prefix(name)}{fingerprint(recipe)}"
    with locked(CACHE / f"{folder_prefix(name)}lock"):
        if not (folder / "complete").exists():
            remove_older(name)
            make(name, folder, recipe)
    return folder / "bin" / "python"


def folder_prefix(name: str) -> str:
    kind = f"nameko-{name}" if name in NAMEKO_VERSIONS else name
    return f"{kind}-py{sys.version_info[0]}.{sys.version_info[1]}-"


def pip_arguments(name: str) -> list[str]:
    if name in NAMEKO_VERSIONS:
        return ["-r", str(NAMEKO_PINS), f"nameko=={name}"]
    if name == EXTENSIONS:
        return ["-e", str(ROOT), "-r", str(EXTENSION_PINS)]
    if name == PUBLIC:
        return ["-e", str(ROOT), "-r", str(PUBLIC_PINS)]
    if name in PEERS:
        return [PEERS[name]]
    if name == "run":
        return ["-e", str(ROOT)]
    if name == TUTORIAL:
        return ["-e", str(ROOT), "pytest"]
    if name == "test":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        return ["-e", str(ROOT), *project["dependency-groups"]["dev"]]
    known = ("run", "test", TUTORIAL, EXTENSIONS, PUBLIC, *NAMEKO_VERSIONS, *PEERS)
    raise SystemExit(f"no environment {name!r}: expected one of {', '.join(known)}")


def fingerprint(recipe: list[str]) -> str:
    pins = [path for path in (NAMEKO_PINS, EXTENSION_PINS, PUBLIC_PINS) if str(path) in recipe]
    sources = pins if "-e" not in recipe else [*pins, ROOT / "pyproject.toml"]
    ingredients = [sys.version, sys.base_prefix, *recipe, *(path.read_text() for path in sources)]
    return hashlib.sha256("\0".join(ingredients).encode()).hexdigest()[:12]


def remove_older(name: str) -> None:
    for old in CACHE.glob(f"{folder_prefix(name)}*"):
        if old.is_dir():
            shutil.rmtree(old)


def make(name: str, folder: Path, recipe: list[str]) -> None:
    say(f"making the environment {folder.relative_to(ROOT)} ({' '.join(recipe)})")
    python = folder / "bin" / "python"
    run([sys.executable, "-m", "venv", str(folder)], name)
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *recipe], name)
    (folder / "complete").touch()


def run(command: list[str], name: str) -> None:
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the environment {name!r} could not be made: {' '.join(command)}\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Two commands started together make an environment once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    os.environ.pop("PYTHONPATH", None)
    print(environment(sys.argv[1]))


if __name__ == "__main__":
    main()
