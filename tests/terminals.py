"""What a page shows of terminals, typed into real ones: each line that is printed there is compared with the page's.

A block is what one terminal shows, from where the block before left off:

- ``$ COMMAND``: it is run; the one before must have ended, and the page must have shown all that it printed. ``cd`` and
  ``export NAME=VALUE`` hold for the commands after it;
- ``...`` alone: any number of lines, until the next one shown is there, or the program ends;
- ``^C...``: Ctrl-C is pressed, and then the line, if there is more in it, is compared as any other; the terminal's
  ``^C`` stands before whatever the program printed next, which may be another line; when the block ends with that, the
  program has ended before the next block begins: its reader waits for the prompt too;
- other lines: what is printed, in this order and nothing between; but a service does several things at once
  when it starts, so what follows ``$ micro-framework run`` in its block may come in any order.

What is another text each time (times, ids, ports, addresses of brokers, runs of spaces) may differ from the page's.
What was shown once stands for the same text from then on, in commands too: who repeats an id of the page types what was
really printed.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Terminals"]

SECONDS = 60.0
"""For each line: a process may have to start first, on a machine with much else to do."""
COLUMNS = 120
CTRL_C = b"\x03"
ANY_LINES = "..."
PROMPT, CARET = "$ ", "^C"
SERVICE = "$ micro-framework run "
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
EACH_TIME_ANOTHER = {
    "time": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d{3})?",
    "seconds": r"\d+\.\d\ds",
    "attempt": r"(?:(?<=attempt )|(?<=retry ))\d+",
    "pause": r"(?<=next try in )\d+\.\d",
    "text": r"\.\.\.",
    "version": r"(?<=RabbitMQ )\d+\.\d+\.\d+",
    "uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "id": r"\b[0-9a-f]{8}\b",
    "broker": r"amqps?://[\w:@.*]+:\d+(?:/test-\w+)?",
    "web": r"http://127\.0\.0\.1:\d+",
}
KEPT = ("uuid", "id", "broker", "web")
VARIABLE = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in EACH_TIME_ANOTHER.items()))
SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a run in the background may have been told to ignore it
os.execvp("sh", ["sh", "-c", sys.argv[1]])
"""
"""Makes its standard input the terminal of the session, so that Ctrl-C is what it is at a keyboard."""


class Line:
    """A line of the page, and what it stands for.

    Args:
        text: As on the page.
        known: What texts of the page have turned out to be.
    """

    def __init__(self, text: str, known: Mapping[str, str]) -> None:
        self.text = text
        self.examples: list[str] = []
        pattern, end = "", 0
        text = text.removeprefix(CARET)
        for found in VARIABLE.finditer(text):
            pattern += literal(text[end : found.start()]) + self.pattern_of(found, known)
            end = found.end()
        self.pattern = re.compile(pattern + literal(text[end:].rstrip()))

    def pattern_of(self, found: re.Match[str], known: Mapping[str, str]) -> str:
        name = found.lastgroup or ""
        if found[0] in known:
            return re.escape(known[found[0]])
        if name not in KEPT:
            return ".*" if name == "text" else EACH_TIME_ANOTHER[name]
        self.examples.append(found[0])
        return f"({EACH_TIME_ANOTHER[name]})"


def literal(text: str) -> str:
    """A pattern for a text in which runs of spaces have any length."""
    return " +".join(map(re.escape, re.split(" +", text)))


class Terminal:
    """A terminal in which one program at a time runs.

    Args:
        folder: Where.
        environment: All variables of its programs.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None
        self.command = ""
        self.printed = b""
        self.ended = False
        self.changed = threading.Condition()

    def type(self, command: str, skipping: bool) -> None:
        """Run a command, once the one before has ended.

        Args:
            command: The command.
            skipping: Whether the one before may print something more.
        """
        self.wait_for_the_end(skipping)
        word, _, rest = command.partition(" ")
        if word == "cd":
            self.folder = self.folder / rest
        elif word == "export":
            name, _, value = rest.partition("=")
            self.environment[name] = value
        else:
            self.start(command)

    def start(self, command: str) -> None:
        self.keyboard, theirs = os.openpty()
        self.command, self.ended = command, False
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHELL, command],
            cwd=self.folder,
            env=self.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.reader = threading.Thread(target=self.read, args=(self.keyboard,), name=f"terminal {command}", daemon=True)
        self.reader.start()

    def read(self, screen: int) -> None:
        """Until nobody has the terminal open any more."""
        data = b"\n"
        while data:
            try:
                data = os.read(screen, 65536)
            except OSError:  # how Linux says so
                data = b""
            with self.changed:
                self.printed += data
                self.ended = not data
                self.changed.notify_all()

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self.keyboard, key)

    def expect(self, lines: Sequence[Line], skipping: bool) -> tuple[Line, re.Match[str]]:
        """Take the next line that is printed.

        Args:
            lines: What it must be one of.
            skipping: Whether others may come before it.
        """
        deadline, seen = time.monotonic() + SECONDS, []
        while True:
            printed = self.next_line(deadline)
            seen.append("(nothing more)" if printed is None else printed)
            for line in lines if printed is not None else ():
                if found := line.pattern.fullmatch(printed or ""):
                    return line, found
            if printed is None or not skipping:
                expected = "\n          ".join(line.text for line in lines)
                raise AssertionError(f"$ {self.command}\nexpected: {expected}\nprinted:  " + "\n          ".join(seen))

    def next_line(self, deadline: float) -> str | None:
        """The next line that is not empty; None where none comes in time, or the program has ended."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: b"\n" in self.printed or self.ended, deadline - time.monotonic())
                line, newline, rest = self.printed.partition(b"\n")
                if not newline and not self.ended:
                    return None
                self.printed = rest
            text = ESCAPES.sub("", line.decode()).removeprefix(CARET).rstrip()
            if text:
                return text
            if not newline:
                return None

    def wait_for_the_end(self, skipping: bool) -> None:
        """Of the program, which must have printed nothing that the page does not show."""
        if self.process is None:
            return
        deadline = time.monotonic() + SECONDS
        while (more := self.next_line(deadline)) is not None:
            assert skipping, f"$ {self.command}\nprinted more than is shown: {more}"
        self.process.wait(SECONDS)
        self.forget()

    def close(self) -> None:
        """End what runs, in order if it can."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                try:
                    self.process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        self.forget()

    def forget(self) -> None:
        self.reader.join(SECONDS)
        os.close(self.keyboard)
        self.process = None


class Terminals:
    """The terminals of one page, each with a name, all in one folder. Close them after use.

    Args:
        folder: Where commands run.
        environment: Variables on top of this process's.
        programs: The folder in which programs are looked for first.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], programs: Path) -> None:
        self.folder = folder
        own = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "COLUMNS": str(COLUMNS),
        }
        steering = ("AMQP_", "MF_", "PYTEST_", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
        self.environment = {**kept, **own, **environment}
        self.known: dict[str, str] = {}
        self.by_name: dict[str, Terminal] = {}

    def play(self, name: str, code: str) -> None:
        """Do what a block shows.

        Raises:
            AssertionError: The terminal shows something else.
        """
        terminal = self.terminal(name)
        texts, skipping, starting, stopping = [text for text in code.splitlines() if text.strip()], False, False, False
        while texts:
            text = texts[0]
            if is_printed(text):
                if text.startswith(CARET):
                    terminal.press(CTRL_C)
                    starting, stopping = False, True
                if text == CARET:
                    texts.pop(0)
                    continue
                at_once = list(itertools.takewhile(is_printed, texts)) if starting else [text]
                texts.remove(self.compare(terminal, at_once, skipping))
            else:
                texts.pop(0)
            if text.startswith(PROMPT):
                starting, stopping = text.startswith(SERVICE), False
                terminal.type(self.as_printed(text.removeprefix(PROMPT)), skipping)
            skipping = text == ANY_LINES
        if stopping:
            terminal.wait_for_the_end(skipping)

    def terminal(self, name: str) -> Terminal:
        """A terminal by its name, opened now if it was not."""
        return self.by_name.setdefault(name, Terminal(self.folder, self.environment))

    def compare(self, terminal: Terminal, texts: Sequence[str], skipping: bool) -> str:
        line, found = terminal.expect([Line(text, self.known) for text in texts], skipping)
        self.known.update(zip(line.examples, found.groups(), strict=True))
        return line.text

    def as_printed(self, command: str) -> str:
        for example, printed in self.known.items():
            command = command.replace(example, printed)
        return command

    def close(self) -> None:
        """End what still runs."""
        for terminal in reversed(self.by_name.values()):
            terminal.close()


def is_printed(text: str) -> bool:
    return text != ANY_LINES and not text.startswith(PROMPT)
