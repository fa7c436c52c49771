"""The command line: ``micro-framework``, also ``python -m micro_framework``.

A command is a Click command in a module of its own, added below; the modules import what is heavy (the
runner, kombu, a live view) only when the command runs, so that ``--help`` answers at once.

Exit codes: 0 after SIGTERM or SIGINT when every running call finished; 1 for a failure at start, a crash, or
calls abandoned at ``SHUTDOWN_TIMEOUT``; 2 for wrong usage; 128+n after a second signal.
"""

import click

from micro_framework import __version__
from micro_framework.cli.call import call, emit
from micro_framework.cli.check import check
from micro_framework.cli.dead_letters import dead_letters
from micro_framework.cli.demo import demo
from micro_framework.cli.migrate import migrate
from micro_framework.cli.routes import routes
from micro_framework.cli.run import run
from micro_framework.cli.shell import shell
from micro_framework.cli.show_config import show_config

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="micro-framework", message="%(prog)s %(version)s")
def main() -> None:
    """Run class-based services on RabbitMQ, wire-compatible with Nameko."""


for command in (run, check, routes, call, emit, shell, show_config, dead_letters, demo, migrate):
    main.add_command(command)
