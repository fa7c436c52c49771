"""``micro-framework check``: what would fail at the start, found out without starting."""

import copy
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.cli.options import configured, with_nameko
from micro_framework.exceptions import ConfigError, DeclarationError, MicroFrameworkError

if TYPE_CHECKING:
    from micro_framework.brokers.rabbitmq.inspection import Finding
    from micro_framework.runner import Runner

__all__ = ["check"]

FROM_CONFIG = ""
"""The value of ``--broker`` without a URI."""

CONSUMER_TIMEOUT = 1800.0
"""Seconds: RabbitMQ's default."""

MARKS = {"error": ("error", "red"), "warning": ("warning", "yellow"), "note": ("note", None)}


@click.command()
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...")
@click.option("-c", "--config", "config_path", metavar="FILE", help="YAML or JSON; ${VAR:default} is substituted.")
@click.option(
    "-d", "--define", "defines", multiple=True, metavar="KEY=VALUE", help="Set a key; VALUE is YAML, KEY alone is true."
)
@click.option(
    "--broker",
    is_flag=False,
    flag_value=FROM_CONFIG,
    metavar="[URI]",
    help="Compare with what is on the broker too; without URI that is AMQP_URI. Put it last, or write --broker=URI.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to show it.")
@with_nameko
def check(
    services: tuple[str, ...],
    config_path: str | None,
    defines: tuple[str, ...],
    broker: str | None,
    form: str,
    nameko: bool,
) -> None:
    """Find out what would keep services from starting, without starting them.

    Imports, declarations and configuration; with --broker also permissions, queues and exchanges that exist with other
    flags, and what RabbitMQ's version deprecates. Nothing is changed on the broker.

    Exit code 0 when the services would start, 1 when they would not.
    """
    try:
        config = configured(config_path, defines, broker or None)
    except ConfigError as error:
        raise FailedError(str(error)) from error
    if broker is not None and not config.get("AMQP_URI"):
        raise WrongUsageError("there is no broker to compare with; write --broker amqp://... or set AMQP_URI")
    found = list(findings(services, config, on_broker=broker is not None, nameko=nameko))
    show(found, form)
    if any(each.level == "error" for each in found):
        raise SystemExit(1)


def findings(
    specs: Sequence[str], config: dict[str, Any], *, on_broker: bool, nameko: bool = False
) -> Iterator["Finding"]:
    """Everything that can be found out."""
    from micro_framework.brokers.rabbitmq.inspection import Finding
    from micro_framework.cli.run import build

    yield from (Finding("error", "LOGGING", problem) for problem in logging_problems(config))
    heard = Heard()
    logging.getLogger("micro_framework").addHandler(heard)
    try:
        runner = build(specs, config, nameko=nameko)
    except (ConfigError, DeclarationError) as error:
        what = "configuration" if isinstance(error, ConfigError) else "declarations"
        yield from (Finding("error", what, problem) for problem in error.problems)
        return
    except MicroFrameworkError as error:
        yield Finding("error", "services", str(error))
        return
    except click.ClickException as error:
        if isinstance(error, WrongUsageError):
            raise
        yield Finding("error", "services", error.format_message())
        return
    finally:
        logging.getLogger("micro_framework").removeHandler(heard)
    yield from (Finding("warning", "declarations", text) for text in heard.texts)
    services = dict.fromkeys(route.service for route in runner.assembly.routes)
    yield Finding("note", "services", f"{', '.join(services)}: {len(runner.assembly.routes)} targets")
    yield from (Finding("error", "worker processes", problem) for problem in process_problems(runner))
    if on_broker:
        yield from broker_findings(runner)


class Heard(logging.Handler):
    """Keeps the warnings that services give rise to when they are put together."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.texts.append(record.getMessage())


def logging_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with ``LOGGING``; its handlers are not made, for they open files and connections."""
    import logging.config  # here, because it costs the start of every command

    from micro_framework.cli.logs import configure_logging
    from micro_framework.cli.run import logging_of

    given = logging_of(config)
    if given is None:
        return
    told = copy.deepcopy(dict(given))
    handlers = told.get("handlers")
    handlers = handlers if isinstance(handlers, dict) else {}
    for name, handler in handlers.items():
        if not isinstance(handler, dict):
            continue
        made_by = handler.get("class", handler.get("()"))
        try:
            if isinstance(made_by, str):
                logging.config.DictConfigurator({}).resolve(made_by)
        except (ValueError, ImportError, AttributeError) as error:
            yield f"the class of handler {name!r} cannot be imported: {error}"
        kept = {key: value for key, value in handler.items() if key in ("formatter", "filters", "level")}
        handlers[name] = {"class": "logging.NullHandler", **kept}
    try:
        configure_logging(told)
    except ConfigError as error:
        yield from error.problems


def process_problems(runner: "Runner") -> Iterator[str]:
    """What worker processes would fail with: what cannot be sent to them, and what they cannot import."""
    from micro_framework.spawners.process import ProcessSpawner
    from micro_framework.targets import find_targets

    for spawner in runner.assembly.spawners.values():
        if isinstance(spawner, ProcessSpawner):
            for route in spawner.blueprint.routes:
                yield from (f"{route.where}: {problem}" for problem in find_targets(route.wanted).problems)
            yield from spawner.blueprint.pack()[2]


def broker_findings(runner: "Runner") -> Iterator["Finding"]:
    """What a comparison with the broker shows."""
    from micro_framework.brokers.rabbitmq.inspection import Finding, inspect_broker
    from micro_framework.cli.declared import declared_by

    settings = runner.settings
    uri = settings.amqp_uri or ""
    if uri.startswith("memory:"):
        yield Finding("note", "broker", "memory:// is inside the process and has nothing to compare with")
        return
    options = {
        "ssl": settings.amqp_ssl,
        "login_method": settings.login_method,
        "transport_options": settings.transport_options,
    }
    reached = False
    try:
        for finding in dict.fromkeys(inspect_broker(uri, declared_by(runner.assembly), options)):
            reached = reached or finding.level == "note"
            yield finding
    except MicroFrameworkError as error:
        yield Finding("error", "AMQP_URI", str(error))
        return
    except OSError as error:
        yield Finding("error", "broker", f"the connection was lost: {error}")
        return
    if not reached:
        return
    yield Finding(
        "note",
        "consumer timeout",
        "cannot be asked over AMQP; RabbitMQ's default is 30 minutes, after which a message that is not acknowledged "
        "is delivered again and the connection's channel closed. Where calls run that long, look at it on the broker: "
        "rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).'",
    )
    longest = settings.task_timeout
    if longest is not None and longest >= CONSUMER_TIMEOUT:
        yield Finding(
            "warning",
            "TASK_TIMEOUT",
            f"lets calls run for {longest:g} s; RabbitMQ's default consumer timeout is {CONSUMER_TIMEOUT:g} s",
        )


def show(found: Sequence["Finding"], form: str) -> None:
    """Print what was found, and what follows from it."""
    errors = sum(each.level == "error" for each in found)
    if form == "json":
        entries = [{"level": each.level, "what": each.what, "text": each.text} for each in found]
        click.echo(json.dumps({"ok": not errors, "findings": entries}, indent=2, ensure_ascii=False))
        return
    for each in found:
        name, colour = MARKS[each.level]
        text = each.text.replace("\n", "\n         ")
        click.echo(f"{click.style(f'{name:<8}', fg=colour)} {each.what}: {text}")
    warnings = sum(each.level == "warning" for each in found)
    verdict = f"would not start: {errors} {'error' if errors == 1 else 'errors'}" if errors else "would start"
    noticed = f", {warnings} {'warning' if warnings == 1 else 'warnings'}" if warnings else ""
    click.echo(f"{verdict}{noticed}")
