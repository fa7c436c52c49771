"""The command line: ``micro-framework``, also ``python -m micro_framework``.

A command is a Click command in a module of its own, added below; the modules import what is heavy (the
runner, kombu, a live view) only when the command runs, so that ``--help`` answers at once.

Exit codes: 0 after SIGTERM or SIGINT when every running call finished; 1 for a failure at start, a crash, or
calls abandoned at ``SHUTDOWN_TIMEOUT``; 2 for wrong usage; 128+n after a second signal.
"""

import click

from micro_framework import __version__
from micro_framework.cli.call import call, emit
from micro_framework.cli.dead_letters import dead_letters
from micro_framework.cli.demo import demo
from micro_framework.cli.errors import WrongUsageError
from micro_framework.cli.migrate import migrate
from micro_framework.cli.routes import routes
from micro_framework.cli.run import run
from micro_framework.cli.shell import shell
from micro_framework.cli.show_config import show_config

__all__ = ["NOT_BUILT", "Commands", "main"]

NOT_BUILT = ("check",)
"""Commands that are promised and that this version does not have."""


class Commands(click.Group):
    """The commands of this version; the promised ones say that they are not built yet."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command by name."""
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in NOT_BUILT:
            built = ", ".join(self.list_commands(ctx))
            raise WrongUsageError(f"'{cmd_name}' is not built yet in this version; there is: {built}")
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="micro-framework", message="%(prog)s %(version)s")
def main() -> None:
    """Run class-based services on RabbitMQ, wire-compatible with Nameko."""


for command in (run, routes, call, emit, shell, show_config, dead_letters, migrate, demo):
    main.add_command(command)
