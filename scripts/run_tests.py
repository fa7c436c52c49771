"""Everything `make test` does, step by step, each step announced: environments, broker, browser, linting, types, tests.

Arguments go to pytest. Options of its own, first: ``--lint`` (linting and types only), ``--no-lint`` (tests only).
Environment: `AMQP_URI` (use that broker), `MF_SOAK` (factor of the fault tests), `MF_TEST_WORKERS` (default 2).
"""

import os
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

from environments import EXTENSIONS, NAMEKO_VERSIONS, ROOT, TUTORIAL, environment, say

__all__ = ["ENVIRONMENT_VARIABLES", "main", "provide_broker"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHECKED = ("micro_framework", "compat/nameko_compat")
ENVIRONMENT_VARIABLES = {"2.14.1": "MF_NAMEKO_2", "3.0.0rc11": "MF_NAMEKO_3"}


def main(arguments: list[str]) -> int:
    """Run what the arguments ask for; the return value is the exit code."""
    only_lint, only_tests = "--lint" in arguments, "--no-lint" in arguments
    pytest_arguments = [argument for argument in arguments if argument not in ("--lint", "--no-lint")]
    say(f"Python {sys.version.split()[0]} ({sys.executable})")
    python = environment("test")
    if not only_tests:
        lint_steps(python)
    return 0 if only_lint else run_pytest(python, pytest_arguments)


def lint_steps(python: Path) -> None:
    step(python, "ruff", "check", ".")
    step(python, "ruff", "format", "--check", ".")
    step(python, "mypy")


def step(python: Path, *command: str) -> None:
    say(" ".join(command))
    done = subprocess.run([str(python), "-m", *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: nothing after it was run")


def run_pytest(python: Path, arguments: list[str]) -> int:
    provide_broker()
    provide_browser()
    provide_redis()
    variables = dict(os.environ)
    for version in NAMEKO_VERSIONS:
        variables[ENVIRONMENT_VARIABLES[version]] = str(environment(version))
    variables["MF_NAMEKO_EXTENSIONS"] = str(environment(EXTENSIONS))
    environment(TUTORIAL)  # before the tests, which have deadlines
    variables.pop("PYTHONPATH", None)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start hundreds of processes that would compile everything
    command = [str(python), "-m", "pytest", "-n", os.environ.get("MF_TEST_WORKERS", "2"), *arguments]
    say(" ".join(command[1:]))
    return subprocess.run(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, check=False).returncode


def provide_broker() -> None:
    """Says which broker the tests use; installs one if there is none and that is allowed."""
    if os.environ.get("AMQP_URI"):
        say("using the broker of AMQP_URI; tests that would kill it are listed as not run")
    elif server_is_installed():
        say("starting a private RabbitMQ node on free ports of 127.0.0.1")
    elif os.geteuid() == 0 and shutil.which("apt-get"):
        install_server()
    else:
        raise SystemExit(
            "this needs RabbitMQ: install it (Debian, as root: apt-get install rabbitmq-server), name its "
            "folder in MF_RABBITMQ_HOME, or name a running broker in AMQP_URI"
        )


def server_is_installed() -> bool:
    return bool(
        os.environ.get("MF_RABBITMQ_HOME")
        or shutil.which("rabbitmq-server")
        or glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*")
    )


def provide_browser() -> None:
    """Installs Chromium if there is none and that is allowed."""
    if os.environ.get("MF_CHROMIUM") or any(map(shutil.which, BROWSERS)):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install("chromium", "Chromium")
    else:
        raise SystemExit(
            "the tests need Chromium: install it (Debian, as root: apt-get install chromium), or name its program in "
            "MF_CHROMIUM"
        )


def provide_redis() -> None:
    """Installs Redis if there is none and that is allowed."""
    if shutil.which("redis-server"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install("redis-server", "Redis", RUNLEVEL="1")
    else:
        raise SystemExit("the tests need Redis: install it (Debian, as root: apt-get install redis-server)")


def install_server() -> None:
    # RUNLEVEL=1 keeps Debian from starting a broker of the system's: the tests start their own.
    install("rabbitmq-server", "RabbitMQ", RUNLEVEL="1")


def install(package: str, title: str, **more: str) -> None:
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **more}
    for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
        say(f"{title} is missing: apt-get {' '.join(command)}")
        done = subprocess.run(
            ["apt-get", "-q", *command],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"apt-get {' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
