"""What ``migrate check`` and ``migrate rewrite`` print."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from micro_framework.migration.grading import (
    AS_IT_IS,
    BY_HAND,
    BY_IMPORT,
    Dependency,
    Entrypoint,
    Finding,
    Method,
    Report,
    Service,
)

if TYPE_CHECKING:
    from micro_framework.migration.rewriting import Rewritten

__all__ = ["diff_of", "note_lines", "print_report", "report_lines"]

COLOURS = {AS_IT_IS: "green", BY_IMPORT: "yellow", BY_HAND: "red"}


def print_report(report: Report) -> None:
    """Print a report for people; in colour on a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    for text, style in report_lines(report):
        console.print(Text(text, style=style))


def report_lines(report: Report) -> Iterator[tuple[str, str]]:
    """A report's lines, each with its colour."""
    for service in report.services:
        yield from service_lines(service)
        yield "", ""
    if report.findings:
        yield "Elsewhere", "bold"
        yield from (finding_line(each, "  ") for each in report.findings)
        yield "", ""
    for file, why in report.unreadable.items():
        yield f"{file}: {why}", "red"
    grades = Counter(method.grade for service in report.services for method in service.methods)
    counted = ", ".join(f"{grades[grade]} {grade}" for grade in (AS_IT_IS, BY_IMPORT, BY_HAND))
    unread = f"; {len(report.unreadable)} of {report.files} files could not be read" if report.unreadable else ""
    yield f"{len(report.services)} services, {grades.total()} methods: {counted}{unread}", "bold"


def service_lines(service: Service) -> Iterator[tuple[str, str]]:
    """One service for people."""
    where = "all of it has a native form" if service.native else "stays on Nameko's names"
    name = service.name or "(its name is not a text that can be read)"
    yield f"{name}  {service.class_name}, {service.file}:{service.line}; {where}", "bold"
    for method in service.methods:
        yield from method_lines(method)
    for dependency in service.dependencies:
        yield dependency_text(dependency), ""
        yield from (finding_line(each, "    ") for each in dependency.findings)
    for each in service.findings:
        if not any(each.text.endswith(known.text) for known in known_findings(service)):
            yield finding_line(each, "    ")


def known_findings(service: Service) -> Iterator[Finding]:
    """What has been said at a method or a dependency."""
    for method in service.methods:
        yield from method.findings
    for dependency in service.dependencies:
        yield from dependency.findings


def method_lines(method: Method) -> Iterator[tuple[str, str]]:
    """One method for people."""
    yield f"  {method.name}  {method.grade}", COLOURS[method.grade]
    for entrypoint in method.entrypoints:
        yield f"    {entrypoint_text(entrypoint)}", ""
    if method.calls:
        yield f"    calls {', '.join(method.calls)}", ""
    if method.sends:
        yield f"    sends {', '.join(method.sends)}", ""
    yield from (finding_line(each, "    ") for each in method.findings)


def entrypoint_text(entrypoint: Entrypoint) -> str:
    """One entrypoint for people."""
    becomes = f" -> {entrypoint.native}" if entrypoint.native else ""
    queue = f"; queue {entrypoint.queue}" if entrypoint.queue else ""
    bound = f" bound to {entrypoint.exchange}/{entrypoint.routing_key}" if entrypoint.exchange else ""
    return f"{entrypoint.kind}{becomes}{queue}{bound}"


def dependency_text(dependency: Dependency) -> str:
    """One dependency for people."""
    becomes = f" -> {dependency.native}" if dependency.native else ""
    target = f" of {dependency.service}" if dependency.service else ""
    return f"  uses {dependency.name}: {dependency.kind}{target}{becomes}"


def finding_line(finding: Finding, indent: str) -> tuple[str, str]:
    """One finding for people."""
    return f"{indent}{finding.file}:{finding.line}: {finding.text}", "red" if finding.hand else "dim"


def diff_of(file: "Rewritten") -> str:
    """The edits of a file, as ``patch`` takes them."""
    lines = difflib.unified_diff(
        lines_of(file.before),
        lines_of(file.after),
        str(file.path),
        str(file.path),
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends; only a line feed ends one, as in ``patch``."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def note_lines(file: "Rewritten") -> Iterator[str]:
    """What the edits leave to the reader."""
    for line, text in file.notes:
        yield f"{file.path}:{line}: {text}"
