"""Where to look: the broker, and the queues that messages are parked in.

AMQP cannot list queues, and the management plugin is not everywhere. So the queues are worked out from what services
declare, as ``run`` does, or named.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from micro_framework.amqp.entrypoints import EventListener, MessageListener
from micro_framework.amqp.parking import parking_queue
from micro_framework.cli.errors import WrongUsageError
from micro_framework.cli.loading import load, put_current_directory_first
from micro_framework.cli.options import configured
from micro_framework.cli.run import runner_for
from micro_framework.config import Settings
from micro_framework.parking import parked_queue_name
from micro_framework.routes import BoundRoute
from micro_framework.services import has_entrypoint
from micro_framework.wire.naming import BROADCAST

__all__ = ["Place", "Places", "find_places"]

NO_QUEUES = (
    "which queues? name services as for 'run' (MODULE[:CLASS]), or queues with --queue; over AMQP a broker cannot be "
    "asked for them"
)
NO_BROKER = "which broker? set AMQP_URI in the file that --config names or in the environment, or give --broker URI"


@dataclass(frozen=True, slots=True)
class Place:
    """A queue that messages are parked in.

    Args:
        queue: Its name.
        named: What it was asked for as, where somebody named it; it is an error if there is none of that name.
    """

    queue: str
    named: str | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look.

    Args:
        settings: How to reach the broker.
        places: The queues, each once.
    """

    settings: Settings
    places: tuple[Place, ...]


def find_places(
    specs: Sequence[str],
    names: Sequence[str],
    config_path: str | None,
    broker: str | None,
    defines: Sequence[str] = (),
) -> Places:
    """Work out where to look; nothing connects.

    Args:
        specs: Services, as for ``run``.
        names: Queues, by the name that messages failed in or are parked in.
        config_path: The config file.
        broker: The broker's URI, instead of the configured one.
        defines: ``KEY=VALUE`` each, which win over the file.

    Raises:
        WrongUsageError: No queue, or no broker.
        FailedError, MicroFrameworkError: The services or the configuration cannot be used.
    """
    if not specs and not names:
        raise WrongUsageError(NO_QUEUES)
    config = configured(config_path, defines, None)
    uri = broker or config.get("AMQP_URI") or os.environ.get("AMQP_URI")
    if uri:
        config["AMQP_URI"] = uri
    named = [Place(parked_name(name), name) for name in names]
    if not specs:
        if not uri:
            raise WrongUsageError(NO_BROKER)
        return Places(Settings.from_mapping(config), unique(named))
    settings, routes = declared_by(specs, config, given=config_path is not None or bool(defines))
    if broker:
        settings = replace(settings, amqp_uri=broker)
    return Places(settings, unique([*named, *places_of(routes)]))


def parked_name(name: str) -> str:
    """The queue that is meant: somebody may name the one that is looked into, or the one beside it."""
    return name if name.endswith(parked_queue_name("")) else parked_queue_name(name)


def unique(places: Sequence[Place]) -> tuple[Place, ...]:
    """The places without those whose queue came before."""
    found: dict[str, Place] = {}
    for place in places:
        found.setdefault(place.queue, place)
    return tuple(found.values())


def declared_by(
    specs: Sequence[str], config: Mapping[str, Any], *, given: bool
) -> tuple[Settings, Sequence[BoundRoute]]:
    """What services declare; they are built as for ``run`` and not started."""
    put_current_directory_first()
    runner = runner_for(load(specs, has_entrypoint), dict(config), given=given)
    return runner.settings, runner.assembly.routes


def places_of(routes: Sequence[BoundRoute]) -> Iterator[Place]:
    """The queues of the routes that have messages to park."""
    for route in routes:
        entrypoint = route.entrypoint
        if is_nameless(entrypoint):
            note = "its queue has another name at each start; name that queue with --queue"
            click.echo(f"{route.label}: not looked into: {note}", err=True)
        elif isinstance(entrypoint, MessageListener):
            yield Place(parking_queue(entrypoint.queue()).name)


def is_nameless(entrypoint: object) -> bool:
    """Whether the queue's name is made up at each start."""
    return (
        isinstance(entrypoint, EventListener)
        and entrypoint.handler_type == BROADCAST
        and entrypoint.broadcast_identifier is None
    )
