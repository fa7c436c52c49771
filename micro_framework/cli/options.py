"""The options that say which configuration a command works with, the same for every command."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from micro_framework.cli.errors import WrongUsageError

__all__ = ["configured", "read_json_option", "with_broker", "with_config", "with_nameko"]

Command = TypeVar("Command", bound=Callable[..., Any])


def with_config(command: Command) -> Command:
    """Give a command ``--config``, ``-d`` and ``--broker``; their values go to `configured`."""
    options = [
        click.option(
            "-c", "--config", "config_path", metavar="FILE", help="YAML or JSON; ${VAR:default} is substituted."
        ),
        click.option(
            "-d",
            "--define",
            "defines",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set a key; VALUE is YAML, KEY alone is true. Wins over the file; can be repeated.",
        ),
        click.option("--broker", metavar="URI", help="The broker: short for -d AMQP_URI=URI."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def with_nameko(command: Command) -> Command:
    """Give a command ``--nameko``, which goes to `micro_framework.cli.run.build`."""
    return click.option("--nameko", is_flag=True, help="They are services written for Nameko, which is not needed.")(
        command
    )


def configured(config_path: str | None, defines: Sequence[str], broker: str | None) -> dict[str, Any]:
    """The configuration that the options of `with_config` ask for, not yet validated.

    Raises:
        WrongUsageError: An option cannot be read, or there is no such file.
        FailedError: The file cannot be read.
        ConfigError: It holds something else than a configuration.
    """
    from micro_framework.cli.files import read_config

    config = read_config(config_path, os.environ)
    config.update(map(parse_define, defines))
    if broker is not None:
        config["AMQP_URI"] = broker
    return config


def with_broker(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a command that speaks to other processes.

    Raises:
        WrongUsageError: It names no broker, or one that no other process can reach.
    """
    uri = config.get("AMQP_URI")
    if uri is None:
        raise WrongUsageError(
            "there is no broker to speak to; name one with --broker amqp://... or a file with --config"
        )
    if isinstance(uri, str) and uri.startswith("memory:"):
        raise WrongUsageError("memory:// is a broker inside one process, and nobody else is in this one; use RabbitMQ")
    return config


def parse_define(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` or ``KEY`` as a key and its value."""
    import yaml

    key, equals, value = text.partition("=")
    if not key:
        raise WrongUsageError(f"-d {text!r} has no key; expected -d KEY=VALUE")
    if not equals:
        return key, True
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise WrongUsageError(
            f"the value of -d {key}=... is not YAML; quote it, for example -d {key}='\"text\"'"
        ) from None


def read_json_option(text: str | None) -> Any:
    """The value of a ``--json`` option; None where it was not given.

    Raises:
        WrongUsageError: It is not JSON.
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise WrongUsageError(
            f"--json is not JSON: {error}; quote the whole for the shell: --json '{{\"id\": 7}}'"
        ) from None
