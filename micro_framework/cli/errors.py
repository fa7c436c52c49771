"""The two ways a command fails: a message on stderr and an exit code, no traceback for a user's mistake."""

import click

__all__ = ["FailedError", "WrongUsageError"]


class FailedError(click.ClickException):
    """The command was understood and could not be done; exit code 1."""

    exit_code = 1


class WrongUsageError(click.ClickException):
    """The command line itself is wrong; exit code 2."""

    exit_code = 2
