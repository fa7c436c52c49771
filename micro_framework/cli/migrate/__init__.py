"""``micro-framework migrate``: leaving Nameko.

Rooms: `code` (reading and rewriting source), `shown` (what it prints).
"""

import click

from micro_framework.cli.migrate.code import check, rewrite

__all__ = ["migrate"]


@click.group()
def migrate() -> None:
    """Leave Nameko: see what code needs, rewrite it."""


for command in (check, rewrite):
    migrate.add_command(command)
