"""``micro-framework demo``: two services that talk to each other, shown live.

Rooms: `shop` (the two services), `ledger` (what was sent, what arrived, what failed), `live` and `plain` (how it is
shown), `show` (the course of it all).
"""

import os

import click

from micro_framework.cli.errors import FailedError
from micro_framework.exceptions import MicroFrameworkError

__all__ = ["demo"]

DEFAULT_SECONDS, SHORTEST, LONGEST = 15.0, 1.0, 3600.0


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(SHORTEST, LONGEST),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="How long orders are taken; Ctrl-C ends it earlier.",
)
@click.option(
    "--amqp-uri",
    metavar="URI",
    help="A RabbitMQ to run it on; the environment's AMQP_URI if not given, the embedded broker without either.",
)
def demo(seconds: float, amqp_uri: str | None) -> None:
    """Watch two services talk to each other.

    Orders and payments exchange events; some payments fail and are tried again, a few fail for good. At the end no more
    orders are taken, and when everything under way has arrived there is a summary.

    Exit code 0 when every message sent has arrived, else 1.
    """
    from micro_framework.cli.demo.show import run_demo

    try:
        complete = run_demo(seconds, amqp_uri or os.environ.get("AMQP_URI") or None)
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error
    if not complete:
        raise SystemExit(1)
