"""``micro-framework run``: services until a signal."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.cli.options import configured, with_config, with_nameko
from micro_framework.exceptions import CopyFailed, MicroFrameworkError

if TYPE_CHECKING:
    from micro_framework.config import Settings
    from micro_framework.copies import Copy
    from micro_framework.runner import Runner

__all__ = ["build", "logging_of", "run", "run_copy", "runner_for"]

NAMEKO_HOST = "nameko_compat.hosting"
"""What hosts unmodified Nameko services; the package above this one, named and only imported when it is asked for."""


@click.command()
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...")
@with_nameko
@with_config
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Copies: short for -d PROCESSES=N.")
@click.option("--reload", "reloads", is_flag=True, help="Start again when a Python or configuration file changes.")
def run(
    services: tuple[str, ...],
    nameko: bool,
    config_path: str | None,
    defines: tuple[str, ...],
    broker: str | None,
    processes: int | None,
    reloads: bool,
) -> None:
    """Run services until SIGTERM or SIGINT.

    MODULE stands for every class defined in it that has an entrypoint, else for its list 'routes', else for
    its 'runner'. The current directory is the first place to import from.

    The first signal stops gracefully: running calls finish, for at most SHUTDOWN_TIMEOUT seconds. A second
    one ends the process at once.

    With PROCESSES in the configuration, so many copies run, each in a process of its own.

    With --nameko, services written for Nameko run as they are, without Nameko and eventlet.

    With --reload, a change of a Python file in the current directory or of the configuration's file starts the services
    again, once their running calls have finished; code that would fail at start is reported, and the old goes on.
    """
    if processes is not None:
        defines = (*defines, f"PROCESSES={processes}")
    if reloads:
        from micro_framework.cli.reload import run_reloading

        sys.exit(run_reloading(services, config_path, defines, broker, nameko=nameko))
    try:
        start(services, configured(config_path, defines, broker), nameko=nameko)
    except CopyFailed as error:
        raise (WrongUsageError if error.exit_code == WrongUsageError.exit_code else FailedError)(str(error)) from error
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error


def start(specs: Sequence[str], config: dict[str, Any], *, nameko: bool = False) -> None:
    """Run the services, Nameko's or our own, here or in copies; returns after a clean stop."""
    from micro_framework.cli.logs import configure_logging
    from micro_framework.cli.reload import end_with_reloader
    from micro_framework.config import Settings

    end_with_reloader()
    configure_logging(logging_of(config))
    if config.get("PROCESSES") not in (None, 1):
        # The services are for the copies to load: this process only watches them, and nothing of theirs can harm it.
        start_copies(Settings.from_mapping(config), specs, config, nameko=nameko)
        return
    runner = build(specs, config, nameko=nameko)
    if runner.settings.processes > 1:  # it is the user's module's own
        start_copies(runner.settings, specs, config, nameko=nameko)
    else:
        runner.start()


def start_copies(settings: "Settings", specs: Sequence[str], config: Mapping[str, Any], *, nameko: bool) -> None:
    """Run the services in as many processes as the configuration asks for."""
    from micro_framework.supervisor import Supervisor

    Supervisor(run_copy, (specs, config, nameko), settings).run()


def run_copy(copy: "Copy", specs: Sequence[str], config: dict[str, Any], nameko: bool = False) -> None:
    """What a copy runs: it loads the services for itself.

    Args:
        copy: The copy.
        specs: ``module`` or ``module:Class``, several.
        config: The configuration, as it was when the command began.
        nameko: Whether they are Nameko services.

    Raises:
        MicroFrameworkError: It cannot run, or has abandoned calls at its end.
    """
    from micro_framework.cli.logs import configure_logging

    configure_logging(logging_of(config))
    try:
        runner = build(specs, config, nameko=nameko)
    except click.ClickException as error:
        raise CopyFailed(error.format_message(), error.exit_code) from error
    runner.start_as(copy)


def build(specs: Sequence[str], config: dict[str, Any], *, nameko: bool = False) -> "Runner":
    """Find the services, Nameko's or our own, and make their runner."""
    import importlib

    from micro_framework.cli.loading import load, put_current_directory_first
    from micro_framework.services import has_entrypoint

    put_current_directory_first()
    if not nameko:
        return runner_for(load(specs, has_entrypoint), config)
    host = importlib.import_module(NAMEKO_HOST)
    host.prepare(config)
    runner: Runner = host.make_runner(load(specs, host.has_entrypoint), config)
    return runner


def logging_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Take the ``LOGGING`` key, or None where it is absent or will be refused with all other problems."""
    value = config.get("LOGGING")
    return value if isinstance(value, Mapping) else None


def runner_for(found: list[Any], config: dict[str, Any], *, given: bool | None = None) -> "Runner":
    """Make a runner, or take the one that the user's module made.

    Args:
        found: What the modules hold.
        config: The configuration.
        given: Whether the command line asked for it; None: if it holds anything.

    Raises:
        WrongUsageError: A ready-made runner stands beside others, or a configuration was given for it.
    """
    from micro_framework.runner import Runner

    ready_made = [item for item in found if isinstance(item, Runner)]
    if not ready_made:
        return Runner(found, config)
    if len(found) > 1:
        raise WrongUsageError("a module with a 'runner' of its own is run alone; name no other service beside it")
    if bool(config) if given is None else given:
        raise WrongUsageError(
            "a module with a 'runner' of its own has its configuration; leave out --config, -d, --broker"
        )
    return ready_made[0]
