"""``micro-framework migrate check`` and ``migrate rewrite``: Nameko code is read, never run."""

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from micro_framework.cli.errors import FailedError

if TYPE_CHECKING:
    from micro_framework.migration.rewriting import Goal
    from micro_framework.migration.tree import Tree

__all__ = ["check", "rewrite"]

PATH = click.argument("path", type=click.Path(exists=True, readable=True, path_type=Path), metavar="PATH")

MISSING = (
    "rewriting needs libcst, which is not installed (or not for this Python); install it with: "
    "pip install 'micro-framework[migrate]'"
)


@click.command()
@PATH
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to show it.")
@click.pass_context
def check(ctx: click.Context, path: Path, form: str) -> None:
    """Read Nameko code and report what moves, and how.

    PATH is a file or a folder. Nothing in it is imported or run. Exit code 0: nothing needs a hand; 1: something does,
    or a file could not be read; 2: wrong usage.
    """
    from micro_framework.cli.migrate.shown import print_report
    from micro_framework.migration.grading import graded

    report = graded(tree_at(path))
    if form == "json":
        click.echo(json.dumps(report.as_data(), indent=2, ensure_ascii=False))
    else:
        print_report(report)
    ctx.exit(1 if report.needs_a_hand else 0)


@click.command()
@PATH
@click.option(
    "--to",
    "goal",
    type=click.Choice(["compat", "native"]),
    default="compat",
    show_default=True,
    help="Nameko's names on this runner, or this framework's own.",
)
@click.option("--write", is_flag=True, help="Change the files; without it the diff is all there is.")
def rewrite(path: Path, goal: "Goal", write: bool) -> None:
    """Rewrite the imports, or imports and decorators, of Nameko code.

    Prints a unified diff on stdout and, on stderr, what the edits leave to you. What is rewritten already does not
    change.
    """
    from micro_framework.cli.migrate.shown import diff_of, note_lines
    from micro_framework.migration.source import UnreadableError, encoded

    try:
        from micro_framework.migration.rewriting import rewritten
    except ImportError as error:
        raise FailedError(MISSING) from error
    tree = tree_at(path)
    try:
        files = list(rewritten(tree, goal))  # all of them, before any is written
    except UnreadableError as error:
        raise FailedError(str(error)) from error
    sources = {module.source.path: module.source for module in tree.modules.values()}
    for file in files:
        if file.changed:
            click.echo(diff_of(file), nl=False)
        for line in note_lines(file):
            click.echo(line, err=True)
    for unread, why in tree.unreadable.items():
        click.echo(f"{unread}: left as it is: {why}", err=True)
    changed = [file for file in files if file.changed]
    if write:
        for file in changed:
            replace_file(file.path, encoded(sources[file.path], file.after))
    done = "changed" if write else "would change (--write does it)"
    click.echo(f"{len(changed)} of {len(tree.modules)} files {done}", err=True)
    if tree.unreadable:
        raise FailedError(f"{len(tree.unreadable)} files could not be read")


def tree_at(path: Path) -> "Tree":
    """The code at a path.

    Raises:
        FailedError: There is none.
    """
    from micro_framework.migration.tree import read_tree

    tree = read_tree(path)
    if not tree.modules and not tree.unreadable:
        raise FailedError(f"there is no Python file in {path}")
    return tree


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in another one's place in one step, with the same permissions; a link stays a link.

    Raises:
        FailedError: It cannot be written; the old one is untouched.
    """
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.write_bytes(content)
        fresh.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(fresh, target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise FailedError(f"{path} cannot be written: {error.strerror}") from error
