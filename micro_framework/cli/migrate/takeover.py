"""``micro-framework migrate``: let a class take the RPC methods of a Nameko service over, one at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from micro_framework.cli.errors import FailedError
from micro_framework.cli.options import configured, with_broker, with_config

if TYPE_CHECKING:
    from micro_framework.takeover.procedure import Takeover

__all__ = ["back", "finish", "move", "prepare", "rollback", "status"]

Command = TypeVar("Command", bound=Callable[..., Any])


def with_service(command: Command) -> Command:
    """What all commands here have in common."""
    options = [
        click.argument("service"),
        click.option("--plan", is_flag=True, help="Only print what would be done to the broker."),
        click.option(
            "--management",
            metavar="URI",
            help="The broker's management API; else port 15672 of the broker's host, with its user.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return with_config(command)


@contextmanager
def takeover_of(
    service: str,
    plan: bool,
    management: str | None,
    config_path: str | None,
    defines: tuple[str, ...],
    broker: str | None,
) -> Iterator["Takeover"]:
    """The takeover that the options mean.

    Raises:
        WrongUsageError: They say too little.
        FailedError: It cannot be done.
    """
    from micro_framework.config import Settings
    from micro_framework.exceptions import MicroFrameworkError
    from micro_framework.takeover.management import Management
    from micro_framework.takeover.procedure import Takeover
    from micro_framework.wire.takeover import Names

    try:
        settings = Settings.from_mapping(with_broker(configured(config_path, defines, broker)))
        names = Names(service, settings.rpc_exchange)
        yield Takeover(names, Management(settings.amqp_uri or "", management), click.echo, settings, plan=plan)
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error


@click.command()
@click.option(
    "--entry",
    type=click.Choice(["policy", "binding"]),
    default="policy",
    help="How calls come to the gate; policy is safe against old replicas, and needs the right to set one.",
)
@click.option("--calls", multiple=True, metavar="SERVICE", help="A service that the old one calls and never ran here.")
@with_service
def prepare(entry: str, calls: tuple[str, ...], **options: Any) -> None:
    """Put the gate beside the way of SERVICE's calls; they go as before."""
    with takeover_of(**options) as takeover:
        takeover.prepare(entry, calls)


@click.command()
@click.option("--waiting", is_flag=True, help="Also send calls to the new side that wait in the old queue already.")
@with_service
@click.argument("methods", nargs=-1, required=True, metavar="METHOD...")
def move(waiting: bool, methods: tuple[str, ...], **options: Any) -> None:
    """Let METHODs run on the new side, from now on."""
    with takeover_of(**options) as takeover:
        takeover.move(methods, waiting=waiting)


@click.command()
@with_service
@click.argument("methods", nargs=-1, required=True, metavar="METHOD...")
def back(methods: tuple[str, ...], **options: Any) -> None:
    """Let METHODs run on the old side again."""
    with takeover_of(**options) as takeover:
        takeover.back(methods)


@click.command()
@with_service
def rollback(**options: Any) -> None:
    """Let every method run on the old side again."""
    with takeover_of(**options) as takeover:
        takeover.rollback()


@click.command()
@click.option("--watch", type=click.FloatRange(min=0), default=10.0, help="Seconds without a call of the old side.")
@with_service
def finish(watch: float, **options: Any) -> None:
    """Take the last steps, one with each run, when the new class has every method."""
    with takeover_of(**options) as takeover:
        takeover.finish(watch)


@click.command()
@with_service
def status(**options: Any) -> None:
    """Say which side answers what, and what is odd. Changes nothing."""
    from micro_framework.takeover.status import lines

    with takeover_of(**options) as takeover:
        for line in lines(takeover):
            click.echo(line)
