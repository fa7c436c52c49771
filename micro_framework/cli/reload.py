"""``run --reload``: the services in a process of their own, started again when their code changes.

New code is tried before old code is stopped: ``micro-framework check`` runs in a fresh process, and only what it lets
pass replaces what runs. So a syntax error, an import that fails or a declaration that cannot work is shown, and the old
code goes on. The old process is stopped as by SIGTERM: its running calls finish.

The services' process leads a session of its own, so that Ctrl-C in a terminal reaches it once, through here.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.cli.logs import configure_logging
from micro_framework.cli.options import configured
from micro_framework.exceptions import ConfigError
from micro_framework.parentage import end_with_parent

__all__ = ["Reloader", "end_with_reloader", "run_reloading"]

logger = logging.getLogger(__name__)

NO_WATCHFILES = "--reload needs the package watchfiles; install it with: pip install 'micro-framework[reload]'"

CHECK_SECONDS = 120.0
"""Longest try of new code: imports may take their time."""
LOOK_AGAIN = 200
"""Milliseconds after which the watch looks whether the services still run."""
IGNORED_DIRECTORIES = frozenset(
    {".cache", ".git", ".hg", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".venv", "__pycache__"}
    | {"build", "dist", "node_modules", "site-packages", "venv"}
)
PARENT = "MICRO_FRAMEWORK_RELOADER"
"""The environment variable that tells the services who started them."""
PROGRAM = (sys.executable, "-m", "micro_framework")


def run_reloading(
    specs: Sequence[str],
    config_path: str | None,
    defines: Sequence[str],
    broker: str | None,
    *,
    nameko: bool = False,
) -> int:
    """Run services until a signal, anew after each change.

    Args:
        specs: ``module`` or ``module:Class``, several.
        config_path: The configuration's file, watched too.
        defines: The ``-d`` options.
        broker: The ``--broker`` option.
        nameko: The ``--nameko`` option.

    Returns:
        The exit code: that of the services.

    Raises:
        WrongUsageError: An option cannot be read, or there is no such file.
        FailedError: watchfiles is not installed.
    """
    try:
        import watchfiles  # noqa: F401 - whether it is there is told before anything starts
    except ImportError:
        raise FailedError(NO_WATCHFILES) from None
    with contextlib.suppress(ConfigError):  # the services tell, and it may be mended while they are watched
        configured(config_path, defines, broker)
    configure_logging(None)
    options = ["--nameko"] if nameko else []
    options += [f"-d{each}" for each in defines]
    options += ["--config", config_path] if config_path else []
    options += ["-d", f"AMQP_URI={yaml_text(broker)}"] if broker is not None else []
    return Reloader([*specs, *options], Path.cwd(), Path(config_path) if config_path else None).run()


def end_with_reloader() -> None:
    """In the services' process: end when the process that started them is killed, where the kernel does that."""
    if (parent := os.environ.pop(PARENT, "")).isdigit():
        end_with_parent(int(parent))


def yaml_text(text: str) -> str:
    """A string as YAML has it, whatever is in it."""
    return json.dumps(text)


class Reloader:
    """Runs services, watches files, and starts the services again.

    Args:
        arguments: Of ``micro-framework run`` and ``check``.
        directory: Its Python files are watched, also in directories below.
        config_path: A file that is watched too.
    """

    def __init__(self, arguments: Sequence[str], directory: Path, config_path: Path | None) -> None:
        self.arguments = list(arguments)
        self.directory = directory
        self.config_path = config_path.resolve() if config_path else None
        self.child: subprocess.Popen[bytes] | None = None
        self.told_to_end = False  # the services, for new ones to take their place
        self.ending = threading.Event()

    def run(self) -> int:
        """Run until a signal; returns the exit code of the services, 0 where they had ended before."""
        previous = {number: signal.signal(number, self.pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for changed in self.changes():
                self.reload(changed)
            return self.wait()
        finally:
            if self.child is not None and self.child.poll() is None:
                self.child.kill()
                self.child.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """The handler of signals: the services end, gracefully at the first one, and this ends with them."""
        first = not self.ending.is_set()
        self.ending.set()
        if self.child is not None and not (first and self.told_to_end):  # for them it would be the second one
            self.child.send_signal(number)

    def start(self) -> None:
        """Start the services."""
        if self.ending.is_set():
            return
        self.told_to_end = False
        self.child = subprocess.Popen(
            [*PROGRAM, "run", *self.arguments],
            start_new_session=True,
            env={**os.environ, PARENT: str(os.getpid())},
        )
        if self.ending.is_set():  # the signal came while it was started
            self.child.terminate()

    def changes(self) -> Iterator[list[str]]:
        """What has changed, each time something has; ends with a signal."""
        from watchfiles import watch

        told_of: subprocess.Popen[bytes] | None = None
        for changes in watch(
            *self.watched(),
            watch_filter=self.concerns,
            stop_event=self.ending,
            rust_timeout=LOOK_AGAIN,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            if self.ending.is_set():
                return
            if self.child is None:
                self.start()  # only now that the watch is on: no change is missed
            elif changes:
                yield sorted({path for _, path in changes})
            elif self.child.poll() is not None and told_of is not self.child:
                if self.child.returncode == WrongUsageError.exit_code:
                    return  # no change of a file mends that
                told_of = self.child
                logger.error("the services have ended with exit code %s; waiting for a change", self.child.returncode)

    def watched(self) -> list[Path]:
        """What is watched: directories, for files are replaced by editors."""
        paths = [self.directory]
        if self.config_path is not None and not self.config_path.is_relative_to(self.directory):
            paths.append(self.config_path.parent)
        return paths

    def concerns(self, change: Any, path: str) -> bool:
        """Whether a change of a file matters."""
        changed = Path(path)
        if self.config_path is not None and changed == self.config_path:
            return True
        if changed.suffix != ".py" or not changed.is_relative_to(self.directory):
            return False
        return IGNORED_DIRECTORIES.isdisjoint(changed.relative_to(self.directory).parts[:-1])

    def reload(self, changed: Sequence[str]) -> None:
        """Start again with what has changed, if that would start at all."""
        shown = ", ".join(os.path.relpath(path, self.directory) for path in changed[:5])
        logger.info("changed: %s", f"{shown} and {len(changed) - 5} more" if len(changed) > 5 else shown)
        if (problem := self.problem()) is not None:
            logger.error("the new code would not start, and the old goes on: %s", problem)
            return
        if self.ending.is_set():
            return
        if self.child is not None:
            self.told_to_end = True
            self.child.terminate()  # which does nothing where it has ended
            self.child.wait()  # for at most SHUTDOWN_TIMEOUT, which it keeps itself
        logger.info("starting again")
        self.start()

    def problem(self) -> str | None:
        """What would keep the code from starting; None for nothing."""
        try:
            done = subprocess.run(
                [*PROGRAM, "check", *self.arguments],
                capture_output=True,
                text=True,
                timeout=CHECK_SECONDS,
                check=False,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return f"importing it took longer than {CHECK_SECONDS:g} s"
        return None if done.returncode == 0 else (done.stderr.strip() + "\n" + done.stdout.strip()).strip()

    def wait(self) -> int:
        """Wait for the services to end after a signal; the exit code."""
        if self.child is None:
            return 0
        code = self.child.wait()
        return code if code >= 0 else 128 - code
