"""``micro-framework call`` and ``emit``: one RPC call, one event, from the command line."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.cli.options import configured, read_json_option, with_broker, with_config
from micro_framework.exceptions import MicroFrameworkError, RemoteError

if TYPE_CHECKING:
    from micro_framework.brokers.errand import Errand

__all__ = ["call", "emit"]


@click.command()
@click.argument("service")
@click.argument("method")
@click.option(
    "--json", "arguments", metavar="JSON", help="A list of positional arguments, or an object of keyword arguments."
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait; else RPC_TIMEOUT.")
@with_config
def call(
    service: str,
    method: str,
    arguments: str | None,
    timeout: float | None,
    config_path: str | None,
    defines: tuple[str, ...],
    broker: str | None,
) -> None:
    """Call METHOD of SERVICE by RPC and print the result as JSON."""
    args, kwargs = split_arguments(read_json_option(arguments))
    try:
        print_json(
            call_once(with_broker(configured(config_path, defines, broker)), service, method, timeout, args, kwargs)
        )
    except RemoteError as error:
        raise FailedError(f"{service}.{method} raised {error.exc_type}: {error.value}") from error
    except MicroFrameworkError as error:
        raise FailedError(f"{type(error).__name__}: {error}") from error


def call_once(
    config: Mapping[str, Any],
    service: str,
    method: str,
    timeout: float | None,
    args: list[Any],
    kwargs: dict[str, Any],
) -> Any:
    """Make one call on a connection of its own."""
    from micro_framework.standalone import RPCClient

    with reached(config, timeout), RPCClient(config, timeout=timeout) as rpc:
        return rpc[service][method](*args, **kwargs)


def reached(config: Mapping[str, Any], timeout: float | None) -> "Errand":
    """The broker, found to be there before anything is sent: a service waits for it, a command says that it is not.

    While it is entered, what connections warn of is not printed: the command's own message tells it.
    """
    from micro_framework.brokers.errand import CONNECT_SECONDS, Errand
    from micro_framework.config import Settings

    return Errand(Settings.from_mapping(config), "command", min(CONNECT_SECONDS, timeout or CONNECT_SECONDS))


def split_arguments(given: Any) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments from what ``--json`` holds."""
    if given is None:
        return [], {}
    if isinstance(given, list):
        return given, {}
    if isinstance(given, dict):
        return [], given
    raise WrongUsageError(
        "--json holds a list of positional arguments or an object of keyword arguments, not one value"
    )


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know goes out as its ``str``."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


@click.command()
@click.argument("service")
@click.argument("event")
@click.option("--json", "payload", metavar="JSON", help="The payload; without it null.")
@click.option("--mandatory", is_flag=True, help="Fail if nobody listens to the event.")
@with_config
def emit(
    service: str,
    event: str,
    payload: str | None,
    mandatory: bool,
    config_path: str | None,
    defines: tuple[str, ...],
    broker: str | None,
) -> None:
    """Dispatch EVENT as SERVICE, and wait until the broker has it."""
    value = read_json_option(payload)
    try:
        emit_once(with_broker(configured(config_path, defines, broker)), service, event, value, mandatory)
    except MicroFrameworkError as error:
        raise FailedError(f"{type(error).__name__}: {error}") from error


def emit_once(config: Mapping[str, Any], service: str, event: str, payload: Any, mandatory: bool) -> None:
    """Dispatch one event on a connection of its own."""
    from micro_framework.standalone import EventProducer

    with reached(config, None), EventProducer(service, config, mandatory=mandatory) as dispatch:
        dispatch(event, payload)
