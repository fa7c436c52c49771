"""The four commands at work: from their options to their last line and exit code."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from micro_framework.cli.dead_letters.choice import Choice
from micro_framework.cli.dead_letters.desk import Desk, Letter
from micro_framework.cli.dead_letters.places import Place, find_places
from micro_framework.cli.dead_letters.shown import as_json as line_for, as_row, as_text, print_table
from micro_framework.cli.errors import FailedError
from micro_framework.exceptions import BrokerError, MicroFrameworkError, PublishError

__all__ = ["Work", "drop_letters", "list_letters", "replay_letters", "show_letters"]

Options = Mapping[str, Any]


class Work:
    """One command's messages.

    Args:
        desk: Where they are handled.
        places: The queues to look into.
        choice: Which messages are meant.
        limit: How many at most, None for all.
    """

    def __init__(self, desk: Desk, places: Sequence[Place], choice: Choice, limit: int | None) -> None:
        self.desk = desk
        self.places = places
        self.choice = choice
        self.limit = limit
        self.found: list[str] = []
        self.queues: set[str] = set()

    def letters(self) -> Iterator[Letter]:
        """The messages that are meant, queue by queue."""
        for place in self.places:
            left = None if self.limit is None else self.limit - len(self.found)
            if left == 0:
                return
            for letter in self.desk.letters(place, self.choice, left):
                self.found.append(letter.parked.identifier)
                self.queues.add(place.queue)
                yield letter

    def require_all_ids(self) -> None:
        """Fail for an id that no message has."""
        missing = [each for each in self.choice.ids if not any(found.startswith(each) for found in self.found)]
        if missing:
            raise FailedError(f"no message is parked there whose id begins with {' or '.join(map(repr, missing))}")

    def tell(self, what: str) -> None:
        """Say how many messages there were, on stderr."""
        click.echo(f"{counted(len(self.found), 'message')} {what}, {counted(len(self.queues), 'queue')}", err=True)


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


@contextmanager
def at_work(options: Options) -> Iterator[Work]:
    """Connect; at the end, put back what was only looked at.

    Raises:
        WrongUsageError: The options say too little.
        FailedError: Whatever else went wrong.
    """
    names = ("ids", "error", "service", "method", "since", "until")
    choice = Choice(**{name: options[name] for name in names})
    try:
        asked = ("services", "queues", "config_path", "broker", "defines")
        where = find_places(*(options[name] for name in asked))
        with Desk(where.settings) as desk:
            work = Work(desk, where.places, choice, options["limit"])
            yield work
            release(desk)
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error
    work.require_all_ids()


def release(desk: Desk) -> None:
    try:
        desk.release()
    except BrokerError as error:
        raise FailedError(
            f"{error}; what was replayed or dropped last may be parked still: list before you replay it again"
        ) from error


def list_letters(options: Options, *, as_json: bool) -> None:
    """List messages, and put them back."""
    rows = []
    with at_work(options) as work:
        for letter in work.letters():
            if as_json:
                click.echo(line_for(letter, everything=False))
            else:
                rows.append(as_row(letter))
    if rows:
        print_table(rows)
    work.tell("parked")


def show_letters(options: Options, *, as_json: bool) -> None:
    """Show everything about messages, and put them back."""
    with at_work(options) as work:
        for letter in work.letters():
            lines = [line_for(letter, everything=True)] if as_json else [*as_text(letter), ""]
            click.echo("\n".join(lines))
    work.tell("shown")


def replay_letters(options: Options, *, as_json: bool) -> None:
    """Put messages back into the queues they failed in."""
    failed = 0

    def tell(letter: Letter, error: PublishError | None) -> None:
        nonlocal failed
        failed += error is not None
        if as_json:
            click.echo(outcome(letter, "replayed" if error is None else "failed", error))
        elif error is not None:
            click.echo(f"{letter.parked.identifier} is still parked: {error}", err=True)

    with at_work(options) as work:
        for letter in work.letters():
            work.desk.replay(letter, partial(tell, letter))
    if failed:
        raise FailedError(f"{counted(failed, 'message')} of {len(work.found)} not replayed, see above")
    work.tell("replayed")


def drop_letters(options: Options, *, as_json: bool, yes: bool) -> None:
    """Drop messages for good, once somebody has said so."""
    with at_work(options) as work:
        letters = []
        for letter in work.letters():
            letter.handled = True
            letters.append(letter)
        if letters and not yes:
            what = f"Drop {counted(len(letters), 'message')} from {', '.join(sorted(work.queues))} for good?"
            click.confirm(what, abort=True, err=True)
        for letter in letters:
            work.desk.drop(letter)
    if as_json:
        for letter in letters:
            click.echo(outcome(letter, "dropped", None))
    work.tell("dropped")


def outcome(letter: Letter, what: str, error: PublishError | None) -> str:
    """What became of a message, as JSON."""
    problem = {} if error is None else {"problem": str(error)}
    return json.dumps({"id": letter.parked.identifier, "queue": letter.parked.queue, "outcome": what, **problem})
