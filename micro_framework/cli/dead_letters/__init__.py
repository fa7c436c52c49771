"""``micro-framework dead-letters``: look at parked messages, replay them, drop them.

Rooms: `choice` (which messages are meant), `places` (the broker and its queues), `desk` (taking, replaying, dropping),
`shown` (tables, texts, JSON), `work` (one command from its options to its last line).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

__all__ = ["dead_letters"]

Command = TypeVar("Command", bound=Callable[..., Any])


def read_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A point in time, as `choice.moment` reads it; click's callback."""
    from micro_framework.cli.dead_letters.choice import moment

    try:
        return None if value is None else moment(value, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is no time; expected for instance 2026-03-01T12:00 (UTC), or so long ago: 90s, 15m, 2h, 3d"
        ) from None


OPTIONS = (
    click.argument("services", nargs=-1, metavar="[MODULE[:CLASS]]..."),
    click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", help="A queue, instead of services."),
    click.option("-c", "--config", "config_path", metavar="FILE", help="YAML or JSON; ${VAR:default} is substituted."),
    click.option(
        "-d",
        "--define",
        "defines",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set a key; VALUE is YAML, KEY alone is true. Wins over the file; can be repeated.",
    ),
    click.option("--broker", "--amqp-uri", "broker", metavar="URI", help="The broker, instead of AMQP_URI."),
    click.option("--id", "ids", multiple=True, metavar="ID", help="Only this message; the id's beginning will do."),
    click.option(
        "--error", metavar="TYPE", help="Only errors of this class, such as TimeoutError or orders.CardError."
    ),
    click.option("--service", metavar="NAME", help="Only messages of this service."),
    click.option("--method", metavar="NAME", help="Only messages of this method."),
    click.option(
        "--since",
        callback=read_moment,
        metavar="TIME",
        help="Only what was parked since then: 2026-03-01T12:00 (UTC), or so long ago: 90s, 15m, 2h, 3d.",
    ),
    click.option("--until", callback=read_moment, metavar="TIME", help="Only what was parked until then."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many, the first parked first."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
)


def with_options(command: Command) -> Command:
    """What all commands here have in common."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at parked messages, replay them, drop them.

    A message is parked in QUEUE.parked when it has failed for good on a route with dead_letter=True, when its callback
    failed, or when workers died of it.

    Name the services, as for 'run', or queues with --queue.
    """


@dead_letters.command("list")
@with_options
def list_command(as_json: bool, **options: Any) -> None:
    """List parked messages. All of them stay where they are."""
    from micro_framework.cli.dead_letters.work import list_letters

    list_letters(options, as_json=as_json)


@dead_letters.command()
@with_options
def show(as_json: bool, **options: Any) -> None:
    """Show everything about parked messages. All of them stay where they are."""
    from micro_framework.cli.dead_letters.work import show_letters

    show_letters(options, as_json=as_json)


@dead_letters.command()
@with_options
def replay(as_json: bool, **options: Any) -> None:
    """Put parked messages back into the queues they failed in.

    Their attempts begin anew. A message is no longer parked once the broker has confirmed that its queue has it; if
    this command is killed between the two, the message is in both places, and runs twice if it is replayed again.
    """
    from micro_framework.cli.dead_letters.work import replay_letters

    replay_letters(options, as_json=as_json)


@dead_letters.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_options
def drop(yes: bool, as_json: bool, **options: Any) -> None:
    """Drop parked messages for good."""
    from micro_framework.cli.dead_letters.work import drop_letters

    drop_letters(options, as_json=as_json, yes=yes)
