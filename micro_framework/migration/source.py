"""Python files as text: found, decoded as Python would, and encoded again to the very bytes."""

import codecs
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "UnreadableError", "encoded", "python_files", "read_source", "why_not_parsed"]

SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env"})
"""Folders that hold nobody's own source; those whose name begins with a dot are skipped too."""

PYTHON_2 = re.compile(
    r"^\s*(print\s+[^=(\s]|exec\s+[\"'\w]|raise\s+\w[\w.]*\s*,|except\s+[\w.()\s]+,\s*\w+\s*:)|\b0[0-7]+\b|<>|\bur['\"]",
    re.MULTILINE,
)


class UnreadableError(Exception):
    """A file that cannot be read as Python; its text says what and where."""


@dataclass(frozen=True)
class Source:
    """A file's text and what else it takes to write it again.

    Args:
        path: Where it is.
        text: Its text, with its own line ends.
        encoding: As Python found it; ``utf-8-sig`` for one with a byte order mark.
    """

    path: Path
    text: str
    encoding: str


def python_files(path: Path) -> Iterator[Path]:
    """A file, or the Python files below a folder, in order."""
    if path.is_file():
        yield path
        return
    for each in sorted(path.rglob("*.py")):
        inner = each.relative_to(path).parts[:-1]
        if each.is_file() and not any(part in SKIPPED or part.startswith(".") for part in inner):
            yield each


def read_source(path: Path) -> Source:
    """Read a file.

    Raises:
        UnreadableError: It is not there, or not in the encoding it says.
    """
    try:
        raw = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        return Source(path, raw.decode(encoding), encoding)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise UnreadableError(f"is not in the encoding it says it is in: {error}") from error


def encoded(source: Source, text: str) -> bytes:
    """Text as the bytes of a file like the one it came from."""
    if source.encoding == "utf-8-sig":
        return codecs.BOM_UTF8 + text.encode("utf-8")
    return text.encode(source.encoding)


def why_not_parsed(error: Exception, text: str) -> str:
    """Why Python does not parse a text, in one line, naming the line and Python 2 where it looks like that."""
    line = getattr(error, "lineno", None) or getattr(error, "raw_line", None)
    what = getattr(error, "msg", None) or getattr(error, "message", None) or str(error)
    where = f"line {line}: " if line else ""
    if PYTHON_2.search(text):
        return f"{where}this is Python 2 ({what}); make it run on Python 3 first, for instance with 2to3 or futurize"
    return f"{where}does not parse as Python 3: {what}"
