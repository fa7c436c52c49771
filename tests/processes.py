"""A service in a process of its own, with what it prints and logs, and the processes that it starts in turn."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60.0
"""Longest wait for what must happen, also on a machine that is busy starting many interpreters."""

STARTED = re.compile(r"(copy-\d+) \(pid (\d+)\) has been started")


class Lines:
    """What a process writes, line by line, as it comes."""

    def __init__(self, stream: Any) -> None:
        self.lines: list[str] = []
        self.changed = threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self.read, args=(stream,), name="test-lines")
        self.thread.start()

    def read(self, stream: Any) -> None:
        for line in stream:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait_until(self, condition: Callable[[list[str]], Any], what: str = "its output") -> Any:
        """Wait until the condition holds of all lines so far; what it returned."""
        found: list[Any] = []

        def holds() -> bool:
            found[:] = [condition(self.lines)]
            return bool(found[0]) or self.ended

        with self.changed:
            self.changed.wait_for(holds, SECONDS)
            assert found[0], f"waited for {what}, and got:\n" + "\n".join(self.lines[-60:])
        return found[0]

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until so many lines match; they are returned."""
        matching = re.compile(pattern)

        def enough(lines: list[str]) -> list[str]:
            found = [line for line in lines if matching.search(line)]
            return found if len(found) >= count else []

        found: list[str] = self.wait_until(enough, f"{count} x {pattern!r}")
        return found


class ServiceProcess:
    """A Python process in a folder; the leader of a process group of its own. Close it after use.

    Args:
        folder: Its current directory.
        arguments: For the interpreter.
        environment: Further variables.
    """

    def __init__(self, folder: Path, arguments: Sequence[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.output = Lines(self.process.stdout)
        self.errors = Lines(self.process.stderr)

    def send(self, number: signal.Signals) -> None:
        """Signal the process."""
        self.process.send_signal(number)

    def send_to_all(self, number: signal.Signals) -> None:
        """Signal it and all that it has started, as a terminal does."""
        os.killpg(self.process.pid, number)

    def code(self) -> int:
        """Wait for its end, and that of all that writes for it; the exit code."""
        code = self.process.wait(SECONDS)
        for lines in (self.output, self.errors):
            lines.thread.join(SECONDS)
            assert lines.ended, "something that it started still runs"
        return code

    def copies(self) -> dict[str, int]:
        """The process ids of the copies by name, as far as they have been started; the latest of each."""
        found = [match for line in self.errors.lines if (match := STARTED.search(line))]
        return {match[1]: int(match[2]) for match in found}

    def log(self) -> list[dict[str, Any]]:
        """What it has logged as JSON, so far."""
        return [json.loads(line) for line in self.errors.lines if line.startswith("{")]

    def close(self) -> None:
        """Leave nothing of it behind, and nothing open."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(SECONDS)
        for lines in (self.output, self.errors):
            lines.thread.join(SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Watched:
    """Any process, by its id, to learn of its end whoever its parent is. Begin while it lives."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.handle = os.pidfd_open(pid)

    def ended(self, seconds: float = SECONDS) -> bool:
        """Wait for its end."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        os.close(self.handle)
