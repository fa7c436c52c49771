"""``micro-framework migrate``: leaving Nameko.

Rooms: `code` (reading and rewriting source), `shown` (what it prints), `takeover` (moving RPC methods in the broker).
"""

import click

from micro_framework.cli.migrate.code import check, rewrite
from micro_framework.cli.migrate.takeover import back, finish, move, prepare, rollback, status

__all__ = ["migrate"]


@click.group()
def migrate() -> None:
    """Leave Nameko.

    check and rewrite read its code. The others move RPC methods in the broker, one at a time, each by one binding, so
    that no call is lost or runs twice: the new class has legacy = LegacyService() and the name of the Nameko service.
    They need the broker's management API.
    """


for command in (check, rewrite, prepare, move, back, status, rollback, finish):
    migrate.add_command(command)
