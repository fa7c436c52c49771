"""`Settings`: the validated, typed view of a configuration."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from micro_framework.config.keys import KEYS
from micro_framework.config.reading import Reading
from micro_framework.config.spelling import nearest
from micro_framework.exceptions import ConfigError

__all__ = ["NO_DEADLINE", "ContextSettings", "MetricsSettings", "SerializerSettings", "Settings", "WebSocketSettings"]

NO_DEADLINE = math.inf
"""`Settings.rpc_timeout` where the configuration says that a call has no deadline."""


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """One entry of ``CONTEXTS``; None means the value of the whole configuration."""

    max_workers: int | None = None
    worker_mode: str | None = None
    prefetch_count: int | None = None
    max_tasks_per_child: int | None = None
    task_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class SerializerSettings:
    """One entry of Nameko's ``SERIALIZERS``: dotted paths of two functions, and their content type."""

    encoder: str
    decoder: str
    content_type: str
    content_encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """The ``WEBSOCKET`` section.

    ``origins`` empty means pages of the same host; ``max_size`` is in bytes; ``ssl`` has ``certfile`` and, where they
    are needed, ``keyfile`` and ``password``.
    """

    origins: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    max_connections: int = 200
    max_size: int = 1_048_576
    ssl: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """The ``METRICS`` section: where metrics, health and the status page are; port 0 is any free one."""

    host: str = "0.0.0.0"
    port: int = 8000


@dataclass(frozen=True, slots=True)
class Settings:
    """A validated configuration, each known key under its name in lower case. Immutable, safe to share and to
    pickle.

    Durations are in seconds. ``prefetch_count`` None means as many as the context has workers;
    ``rpc_timeout`` is `NO_DEADLINE` for none; ``accept`` is the serializer alone where the configuration does
    not say (as in Nameko); ``logging`` is complete for ``dictConfig``; ``raw`` is the user's own mapping.
    """

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    amqp_uri: str | None = field(default=None, repr=False)
    amqp_ssl: Mapping[str, Any] | bool | None = field(default=None, repr=False)
    login_method: str | None = None
    transport_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    heartbeat: int = 60
    service_name: str | None = None
    max_workers: int = 10
    worker_mode: str = "thread"
    prefetch_count: int | None = None
    processes: int = 1
    max_tasks_per_child: int | None = None
    task_timeout: float | None = None
    contexts: Mapping[str, ContextSettings] = field(default_factory=dict)
    rpc_timeout: float = 60
    publish_timeout: float = 10
    start_timeout: float = 30
    shutdown_timeout: float = 30
    retry_backend: str = "queues"
    dead_letter: bool = False
    max_crashes: int = 3
    json_types: str = "tagged"
    rpc_exchange: str = "nameko-rpc"
    serializer: str = "json"
    accept: tuple[str, ...] = ("json",)
    serializers: Mapping[str, SerializerSettings] = field(default_factory=dict)
    parent_calls_tracked: int = 10
    auto_delete_event_exchanges: bool = False
    declare_event_exchanges: bool = True
    websocket_ip: str = "0.0.0.0"
    websocket_port: int = 8765
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    enable_metrics: bool = False
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    logging: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def from_mapping(cls, mapping: Mapping[Any, Any], *, extra_keys: Collection[str] = ()) -> "Settings":
        """Validate a configuration.

        Args:
            mapping: The configuration; it is kept as ``raw`` and not changed.
            extra_keys: Keys that something in the service reads: they pass however close to a known key they
                are.

        Raises:
            ConfigError: Lists every wrong type or value, every key that asks for something this version does
                not have, and every unknown key within two letters of a known one.
        """
        require_mapping(mapping)
        reading = Reading()
        values = reading.table(mapping, KEYS)
        problems = [*reading.problems, *workers_twice(values), *copies_apart(values), *misspelt(mapping, extra_keys)]
        if problems:
            raise ConfigError("the configuration cannot be used", problems)
        return cls(raw=mapping, **attributes(values))


def require_mapping(value: object) -> None:
    if not isinstance(value, Mapping):
        problem = f"it is of type {type(value).__name__}; expected a mapping of keys to values"
        raise ConfigError("the configuration cannot be used", [problem])


def attributes(values: dict[str, Any]) -> dict[str, Any]:
    """Turn the values by key into `Settings`' arguments, without the keys this version has no use for."""
    known = {item.name for item in fields(Settings)}
    arguments = {name.lower(): value for name, value in with_one_max_workers(values).items() if name.lower() in known}
    arguments["contexts"] = {name: context(entry) for name, entry in values.get("CONTEXTS", {}).items()}
    serializers = values.get("SERIALIZERS", {}).items()
    arguments["serializers"] = {name: SerializerSettings(**entry) for name, entry in serializers}
    arguments["websocket"] = WebSocketSettings(**{k.lower(): v for k, v in values.get("WEBSOCKET", {}).items()})
    arguments["metrics"] = MetricsSettings(**{k.lower(): v for k, v in values.get("METRICS", {}).items()})
    arguments.setdefault("accept", (arguments.get("serializer", "json"),))
    return arguments


def context(entry: dict[str, Any]) -> ContextSettings:
    known = {item.name for item in fields(ContextSettings)}
    return ContextSettings(**{k.lower(): v for k, v in with_one_max_workers(entry).items() if k.lower() in known})


def with_one_max_workers(values: dict[str, Any]) -> dict[str, Any]:
    """Keep one spelling; Nameko's ``max_workers: 0`` means the default."""
    one = {name: value for name, value in values.items() if name != "max_workers"}
    nameko = values.get("max_workers")
    return {"MAX_WORKERS": nameko, **one} if nameko else one


def workers_twice(values: dict[str, Any]) -> Iterable[str]:
    entries = {
        "": values,
        **{f"CONTEXTS.{name}.": entry for name, entry in values.get("CONTEXTS", {}).items()},
    }
    for where, entry in entries.items():
        ours, nameko = entry.get("MAX_WORKERS"), entry.get("max_workers")
        if ours and nameko and ours != nameko:
            yield f"{where}MAX_WORKERS is {ours} and max_workers is {nameko}; they are one key, keep one"


def copies_apart(values: dict[str, Any]) -> Iterable[str]:
    processes, uri = values.get("PROCESSES") or 1, values.get("AMQP_URI")
    if processes > 1 and isinstance(uri, str) and uri.startswith("memory:"):
        yield (
            f"PROCESSES is {processes} and AMQP_URI is the embedded broker, which lives in one process: the copies "
            "would not hear of each other; use RabbitMQ, or PROCESSES: 1"
        )


def misspelt(mapping: Mapping[Any, Any], extra_keys: Collection[str]) -> Iterable[str]:
    known = [key.name for key in KEYS]
    for name in mapping:
        if isinstance(name, str) and name not in known and name not in extra_keys and (near := nearest(name, known)):
            yield f"{name} is not a known key and nothing reads it; did you mean {near}?"
