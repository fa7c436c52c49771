"""``micro-framework run``: services until a signal."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.exceptions import MicroFrameworkError

if TYPE_CHECKING:
    from micro_framework.runner import Runner

__all__ = ["run", "runner_for"]


@click.command()
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...")
@click.option("-c", "--config", "config_path", metavar="FILE", help="YAML or JSON; ${VAR:default} is substituted.")
def run(services: tuple[str, ...], config_path: str | None) -> None:
    """Run services until SIGTERM or SIGINT.

    MODULE stands for every class defined in it that has an entrypoint, else for its list 'routes', else for
    its 'runner'. The current directory is the first place to import from.

    The first signal stops gracefully: running calls finish, for at most SHUTDOWN_TIMEOUT seconds. A second
    one ends the process at once.
    """
    try:
        build(services, config_path).start()
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error


def build(specs: Sequence[str], config_path: str | None) -> "Runner":
    """Read the configuration, set up logging, find the services and make their runner."""
    from micro_framework.cli.files import read_config
    from micro_framework.cli.loading import load, put_current_directory_first
    from micro_framework.cli.logs import configure_logging
    from micro_framework.services import has_entrypoint

    config = read_config(config_path, os.environ)
    configure_logging(logging_of(config))
    put_current_directory_first()
    return runner_for(load(specs, has_entrypoint), config, config_path)


def logging_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Take the ``LOGGING`` key, or None where it is absent or will be refused with all other problems."""
    value = config.get("LOGGING")
    return value if isinstance(value, Mapping) else None


def runner_for(found: list[Any], config: dict[str, Any], config_path: str | None) -> "Runner":
    """Make a runner, or take the one that the user's module made."""
    from micro_framework.runner import Runner

    ready_made = [item for item in found if isinstance(item, Runner)]
    if not ready_made:
        return Runner(found, config)
    if len(found) > 1:
        raise WrongUsageError("a module with a 'runner' of its own is run alone; name no other service beside it")
    if config_path is not None:
        raise WrongUsageError("a module with a 'runner' of its own has its configuration; leave out --config")
    return ready_made[0]
