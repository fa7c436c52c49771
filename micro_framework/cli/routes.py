"""``micro-framework routes``: what services declare, without running them."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from micro_framework.cli.errors import FailedError
from micro_framework.cli.options import configured, with_config, with_nameko
from micro_framework.exceptions import MicroFrameworkError

if TYPE_CHECKING:
    from micro_framework.assembly import Assembly
    from micro_framework.routes import BoundRoute
    from micro_framework.runner import Runner

__all__ = ["described_routes", "routes"]

ANY_BROKER = "amqp://nowhere.invalid"
"""Stands in where the configuration names no broker: nothing connects to it."""

Described = dict[str, Any]


@click.command()
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "mermaid", "asyncapi"]),
    default="text",
    help="How to show it.",
)
@with_nameko
@with_config
def routes(
    services: tuple[str, ...],
    form: str,
    nameko: bool,
    config_path: str | None,
    defines: tuple[str, ...],
    broker: str | None,
) -> None:
    """Show what services declare: entrypoints, queues, routing keys, workers, retries.

    Nothing connects. 'mermaid' draws services with the events and calls between them; 'asyncapi' is an AsyncAPI 3.0
    document with schemas from type hints.
    """
    try:
        config = configured(config_path, defines, broker)
        if form == "asyncapi":
            click.echo(as_asyncapi(services, config, nameko=nameko))
            return
        described = described_routes(services, config, nameko=nameko)
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error
    click.echo({"text": as_text, "json": as_json, "mermaid": as_mermaid}[form](described))


def as_asyncapi(specs: Sequence[str], config: dict[str, Any], *, nameko: bool = False) -> str:
    """The services named as an AsyncAPI document."""
    from micro_framework.cli.asyncapi import document

    runner = runner_of(specs, config, nameko=nameko)
    found = document(runner.assembly, runner.settings, broker_is_named=runner.settings.amqp_uri != ANY_BROKER)
    return json.dumps(found, indent=2, ensure_ascii=False, default=str)


def runner_of(specs: Sequence[str], config: dict[str, Any], *, nameko: bool = False) -> "Runner":
    """The runner of the services named, which is not started; a module's own one has its own configuration."""
    from micro_framework.cli.loading import load, put_current_directory_first
    from micro_framework.cli.run import build, runner_for
    from micro_framework.services import has_entrypoint

    if nameko:
        return build(specs, {"AMQP_URI": ANY_BROKER, **config}, nameko=True)
    put_current_directory_first()
    return runner_for(load(specs, has_entrypoint), {"AMQP_URI": ANY_BROKER, **config}, given=bool(config))


def described_routes(specs: Sequence[str], config: dict[str, Any], *, nameko: bool = False) -> list[Described]:
    """Every route of the services named, as plain data."""
    assembly = runner_of(specs, config, nameko=nameko).assembly
    return [described_route(route, assembly) for route in assembly.routes]


def described_route(route: "BoundRoute", assembly: "Assembly") -> Described:
    """One route as plain data."""
    from micro_framework.assembly import dependencies_of

    host = route.host
    dependencies = [each.described() for each in dict.fromkeys(dependencies_of(route))]
    return {
        "service": route.service,
        "target": route.label,
        "entrypoint": route.entrypoint.described(),
        "context": {"name": host.context, "workers": host.workers, "mode": assembly.modes[host.context]},
        "backoff": described_backoff(route),
        "on_failure": route.callback.target.description if route.callback else None,
        "dependencies": [*dependencies, *route.entrypoint.described_dependencies()],
    }


def described_backoff(route: "BoundRoute") -> Described | None:
    """When a route tries again."""
    policy = route.policy
    if policy is None:
        return None
    interval = "callable" if callable(policy.interval) else policy.interval
    return {"max_retries": policy.max_retries, "interval_ms": interval, "factor": policy.factor}


def as_json(described: list[Described]) -> str:
    """The routes as a JSON list."""
    return json.dumps(described, indent=2, ensure_ascii=False, default=str)


def as_text(described: list[Described]) -> str:
    """The routes for people, service by service."""
    lines: list[str] = []
    for service in dict.fromkeys(route["service"] for route in described):
        lines.append(service)
        for route in described:
            if route["service"] == service:
                lines += route_lines(route)
    return "\n".join(lines)


def route_lines(route: Described) -> Iterator[str]:
    """One route for people."""
    entrypoint, context = route["entrypoint"], route["context"]
    yield f"  {route['target']}"
    yield f"    {'; '.join(entrypoint_parts(entrypoint))}"
    prefetch = f", prefetch {entrypoint['prefetch']}" if "prefetch" in entrypoint else ""
    yield f"    context {context['name']}: {context['workers']} workers, {context['mode']}{prefetch}"
    if (backoff := route["backoff"]) is not None:
        times = "for ever" if backoff["max_retries"] is None else f"{backoff['max_retries']} times"
        factor = "" if backoff["factor"] == 1 else f", each {backoff['factor']:g} times the one before"
        yield f"    retried {times} after {backoff['interval_ms']} ms{factor}"
    if route["on_failure"]:
        yield f"    on failure {route['on_failure']}"
    for dependency in route["dependencies"]:
        if len(dependency) > 1:
            yield f"    uses {' '.join(entrypoint_parts(dependency))}"


def entrypoint_parts(described: Described) -> Iterator[str]:
    """An extension for people: its kind, and what it names."""
    own = {
        key: value
        for key, value in described.items()
        if key not in ("kind", "bindings", "prefetch", "queue") and value not in (None, False, "")
    }
    yield described["kind"] + "".join(f" {key}={value}" for key, value in own.items())
    if "queue" in described:
        bound = ", ".join(f"{each['exchange']}/{each['routing_key']}" for each in described["bindings"])
        yield f"queue {described['queue']}{f' bound to {bound}' if bound else ''}"


def as_mermaid(described: list[Described]) -> str:
    """A flow chart of the services: events as full lines, calls as dotted ones."""
    nodes, edges = dict.fromkeys(route["service"] for route in described), list(dict.fromkeys(mermaid_edges(described)))
    for source, _, target in edges:
        nodes |= dict.fromkeys((source, target))
    lines = [f'    {node_id(name)}["{name}"]' for name in nodes]
    lines += [f"    {node_id(source)} {arrow} {node_id(target)}" for source, arrow, target in edges]
    return "\n".join(["flowchart LR", *lines])


def mermaid_edges(described: Iterable[Described]) -> Iterator[tuple[str, str, str]]:
    """Who sends what to whom: source, arrow, target."""
    for route in described:
        entrypoint = route["entrypoint"]
        if "event" in entrypoint:
            yield entrypoint["source"], f'-->|"{entrypoint["event"]}"|', route["service"]
        for dependency in route["dependencies"]:
            if "service" in dependency:
                yield route["service"], '-.->|"rpc"|', dependency["service"]


def node_id(name: str) -> str:
    """A name as Mermaid takes it for a node."""
    return "svc_" + re.sub(r"\W", "_", name)
